//! Credit, order and endings at the receiving end.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::future::poll_fn;

use futures::FutureExt as _;

use super::*;

fn budget() -> Budget {
    Budget::new(crate::budget::BUDGET_BYTES_MIN)
}

fn body(budget: &Budget) -> StreamIn {
    let stream = StreamIn::default();
    stream.open_body(budget.window().unwrap());
    stream
}

fn piece(bytes: usize, last: bool) -> Piece {
    Piece {
        bytes: Bytes::from(vec![7; bytes]),
        last,
        trailers: None,
    }
}

fn next(stream: &StreamIn, budget: &Budget) -> (Option<Option<Result<Piece, Refusal>>>, bool) {
    let mut due = false;
    let polled = poll_fn(|cx| stream.poll_next(cx, budget, &mut due)).now_or_never();
    (polled, due)
}

#[test]
fn pieces_come_out_in_order_and_then_the_end() {
    let budget = budget();
    let stream = body(&budget);
    stream.push(0, piece(1, false)).unwrap();
    stream.push(1, piece(2, true)).unwrap();
    assert_eq!(next(&stream, &budget).0, Some(Some(Ok(piece(1, false)))));
    assert!(!stream.is_read());
    assert_eq!(next(&stream, &budget).0, Some(Some(Ok(piece(2, true)))));
    assert!(stream.is_read());
    assert_eq!(next(&stream, &budget).0, Some(None));
    assert_eq!(stream.push(2, piece(1, false)), Err(Broken::Closed));
}

#[test]
fn a_gap_fails_the_stream_behind_what_came_before() {
    let budget = budget();
    for wrong in [0, 2] {
        let stream = body(&budget);
        stream.push(0, piece(1, false)).unwrap();
        assert_eq!(stream.push(wrong, piece(1, false)), Err(Broken::Gap));
        assert!(matches!(next(&stream, &budget).0, Some(Some(Ok(_)))));
        let failed = next(&stream, &budget).0.unwrap().unwrap().unwrap_err();
        assert_eq!(failed.code, RefusalCode::OutcomeUnknown);
        assert_eq!(stream.push(1, piece(1, true)), Err(Broken::Closed));
    }
}

#[test]
fn the_whole_window_is_taken_and_one_byte_more_is_refused() {
    let budget = budget();
    let window = STREAM_INITIAL_BYTES as usize;
    let stream = body(&budget);
    stream.push(0, piece(window - 256, false)).unwrap();
    assert_eq!(stream.push(1, piece(0, true)), Err(Broken::Credit));
    let stream = body(&budget);
    assert_eq!(
        stream.push(0, piece(window - 255, false)),
        Err(Broken::Credit)
    );
}

#[test]
fn many_empty_frames_use_up_the_credit_too() {
    let budget = budget();
    let stream = body(&budget);
    let most = STREAM_INITIAL_BYTES / 256;
    for sequence in 0..most {
        stream.push(sequence, piece(0, false)).unwrap();
    }
    assert_eq!(stream.push(most, piece(0, false)), Err(Broken::Credit));
}

#[test]
fn credit_goes_back_as_pieces_are_read_and_the_window_grows() {
    let budget = budget();
    let stream = body(&budget);
    let window = STREAM_INITIAL_BYTES as usize;
    stream.push(0, piece(window - 256, false)).unwrap();
    assert!(next(&stream, &budget).1, "credit is due");
    // What was read, and as much again for the larger window.
    assert_eq!(stream.take_credit(), 2 * STREAM_INITIAL_BYTES);
    stream.push(1, piece(2 * window - 256, false)).unwrap();
}

#[test]
fn the_window_never_exceeds_its_limit() {
    let budget = budget();
    let stream = body(&budget);
    let (mut sequence, mut on_the_way) = (0, u64::from(STREAM_INITIAL_BYTES));
    for _ in 0..20 {
        while on_the_way >= data_cost(1024) {
            stream.push(sequence, piece(1024, false)).unwrap();
            on_the_way -= data_cost(1024);
            sequence += 1;
        }
        while let (Some(Some(Ok(_))), due) = next(&stream, &budget) {
            if due {
                on_the_way += u64::from(stream.take_credit());
            }
        }
        assert!(on_the_way <= u64::from(STREAM_WINDOW_BYTES));
    }
    assert!(on_the_way > u64::from(STREAM_WINDOW_BYTES) / 2);
}

#[test]
fn a_value_gives_no_credit_back() {
    let budget = budget();
    let stream = StreamIn::default();
    stream.open_value(data_cost(10) + data_cost(10), budget.nothing());
    stream.push(0, piece(10, false)).unwrap();
    assert!(!next(&stream, &budget).1);
    stream.push(1, piece(10, false)).unwrap();
    assert_eq!(stream.push(2, piece(0, true)), Err(Broken::Credit));
}

#[test]
fn a_stream_that_was_not_opened_takes_nothing() {
    let stream = StreamIn::default();
    assert_eq!(stream.push(0, piece(0, true)), Err(Broken::Closed));
}

#[test]
fn an_abandoned_stream_gives_its_room_back_and_tells_its_sender_once() {
    let budget = budget();
    let stream = body(&budget);
    stream.push(0, piece(100, false)).unwrap();
    let (permits, tell) = stream.abandon();
    assert_eq!(permits.len(), 1);
    assert!(tell);
    let (permits, tell) = stream.abandon();
    assert!(permits.is_empty());
    assert!(!tell);
}
