//! Bytes that no honest end would write: the pipe ends with a reason, and nothing panics.

use std::time::Duration;

use bytes::Bytes;
use trellis_protocol::frame::{Field, Frame, Stream};
use trellis_protocol::pipe::{Control, Question, write_length};
use trellis_protocol::{Lease, Refusal, RefusalCode};

use super::fixture::*;
use crate::{PipeEnd, PipeLimits};

/// Writes to a host what a provider must not, and says how the pipe ended.
async fn said_to_host(bytes: Vec<u8>) -> PipeEnd {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    hand.bytes(&bytes).await;
    tokio::time::timeout(SOON, pipe.ended()).await.unwrap()
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    [&write_length(frame.len()).unwrap(), frame].concat()
}

fn broken(end: PipeEnd) -> String {
    match end {
        PipeEnd::Broken { what } => what,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn garbage_ends_the_pipe_with_a_reason() {
    let cases: [(&[u8], &str); 7] = [
        (&[0xff; 8], "exceeds the limit"),
        (&[0, 0, 0xf0, 1], "exceeds the limit"),
        (&[0, 0, 0, 0], "no bytes"),
        (&[0, 0, 0, 2, 99, 0x90], "kind 99"),
        (&[0, 0, 0, 2, 12, 0x90], "kind 12"),
        (&[0, 0, 0, 2, 10, 0x90], "malformed"),
        (&[0, 0, 0, 6, 3, 0xdd, 0xff, 0xff, 0xff, 0xff], "malformed"),
    ];
    for (bytes, reason) in cases {
        let what = broken(said_to_host(bytes.to_vec()).await);
        assert!(what.contains(reason), "{what}");
    }
}

#[tokio::test]
async fn an_end_within_a_frame_is_said_to_be_one() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    hand.bytes(&[0, 0, 0, 9, 1]).await;
    drop(hand);
    assert!(broken(pipe.ended().await).contains("within a frame"));
}

#[tokio::test]
async fn frames_that_go_the_wrong_way_end_the_pipe() {
    let health = Control::Ask {
        number: 1,
        question: Question::Health,
    };
    let release_host = Control::ReleaseHost {
        host: "N".to_owned(),
    };
    let done = Control::Done {
        number: 1,
        failure: None,
    };
    let release = Frame::Release {
        lease: Lease {
            host: "N".into(),
            instance: 1,
        },
    };
    let to_host = [
        health.encode().unwrap(),
        release_host.encode().unwrap(),
        Control::Hello(hello(1)).encode().unwrap(),
        release.encode().unwrap(),
    ];
    for frame in to_host {
        let what = broken(said_to_host(with_length(&frame)).await);
        assert!(what.contains("does not come from that end"), "{what}");
    }
    for frame in [done, Control::Hello(hello(1))] {
        let (pipe, mut hand) = provider_and_hand().await;
        hand.tell(&frame).await;
        let what = broken(pipe.ended().await);
        assert!(what.contains("does not come from that end"), "{what}");
    }
}

/// Lets a host call, and answers with what the test makes of the call's number.
async fn answered(function: bool, answers: impl FnOnce(u64) -> Vec<Frame>) -> (PipeEnd, Refusal) {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let caller = pipe.clone();
    let call = tokio::spawn(async move {
        if function {
            return invoke(&caller, "f", "").await.map(|_| ());
        }
        let response = http(&caller, "/", full("")).await?;
        super::handler::length(response.into_body())
            .await
            .map(|_| ())
    });
    let (Frame::Invoke { call: number, .. } | Frame::HttpRequest { call: number, .. }) =
        hand.hear_call().await
    else {
        panic!("a call");
    };
    for answer in answers(number) {
        hand.say(&answer).await;
    }
    let end = tokio::time::timeout(SOON, pipe.ended()).await.unwrap();
    (end, call.await.unwrap().unwrap_err())
}

fn data(call: u64, sequence: u32, bytes: usize) -> Frame {
    Frame::Data {
        call,
        stream: Stream::ToCaller,
        sequence,
        bytes: vec![0; bytes].into(),
        last: false,
        trailers: None,
    }
}

fn last_data(call: u64) -> Frame {
    Frame::Data {
        call,
        stream: Stream::ToCaller,
        sequence: 0,
        bytes: Bytes::from_static(b"x"),
        last: true,
        trailers: None,
    }
}

fn abort(call: u64) -> Frame {
    Frame::Abort {
        call,
        stream: Stream::ToCaller,
        refusal: Refusal::new(RefusalCode::Internal, "x"),
    }
}

fn response(call: u64) -> Frame {
    Frame::HttpResponse {
        call,
        status: 200,
        fields: vec![],
        has_body: true,
    }
}

fn reply(call: u64, rest: u32) -> Frame {
    Frame::Reply {
        call,
        result: Bytes::new(),
        rest,
    }
}

#[tokio::test]
async fn answers_against_the_rules_end_the_pipe_and_the_outcome_is_unknown() {
    let twice = answered(true, |call| vec![reply(call, 5), reply(call, 5)]).await;
    let other_kind = answered(true, |call| vec![response(call)]).await;
    let other_kind_for_http = answered(false, |call| vec![reply(call, 0)]).await;
    let gap = answered(false, |call| vec![response(call), data(call, 1, 5)]).await;
    let credit = answered(false, |call| {
        vec![
            response(call),
            data(call, 0, 10_000),
            data(call, 1, 10_000),
            data(call, 2, 40_000),
        ]
    })
    .await;
    let headless_body = answered(false, |call| vec![last_data(call)]).await;
    let headless_abort = answered(true, |call| vec![abort(call)]).await;
    let unpaid = answered(true, |call| vec![reply(call, 4_000_000), last_data(call)]).await;
    for (what, (end, refusal)) in [
        ("data of call 0 came before its head", headless_body),
        ("abort of call 0 came before its head", headless_abort),
        ("exceeds its credit", unpaid),
        ("answered twice", twice),
        ("answered with http-response", other_kind),
        ("answered with reply", other_kind_for_http),
        ("out of order", gap),
        ("exceeds its credit", credit),
    ] {
        assert_eq!(refusal.code, RefusalCode::OutcomeUnknown, "{what}");
        let said = broken(end);
        assert!(said.contains(what), "{said}");
    }
}

#[tokio::test]
async fn a_call_number_in_use_ends_the_pipe() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let invoke = Frame::Invoke {
        call: 1,
        head: Box::new(head("until-cancelled")),
        payload: Bytes::new(),
        rest: 0,
    };
    hand.say(&invoke).await;
    hand.say(&invoke).await;
    assert!(broken(pipe.ended().await).contains("while it was under way"));
}

#[tokio::test]
async fn frames_of_calls_that_are_not_there_are_ignored() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let (call, stream) = (77, Stream::ToCallee);
    let refusal = Refusal::new(RefusalCode::Internal, "x");
    let frames = [
        reply(call, 0),
        response(call),
        data(call, 9, 40_000),
        Frame::Refuse {
            call,
            refusal: refusal.clone(),
        },
        Frame::Credit {
            call,
            stream,
            bytes: u32::MAX,
        },
        Frame::Abort {
            call,
            stream,
            refusal,
        },
        Frame::Stop { call, stream },
        Frame::Cancel { call },
    ];
    for frame in frames {
        hand.say(&frame).await;
    }
    hand.tell(&Control::Done {
        number: 77,
        failure: None,
    })
    .await;
    hand.say(&Frame::Invoke {
        call: 1,
        head: Box::new(head("echo")),
        payload: Bytes::from_static(b"x"),
        rest: 0,
    })
    .await;
    assert!(matches!(hand.hear_call().await, Frame::Reply { .. }));
    drop(pipe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_end_for_calls_that_are_not_there_end_the_pipe() {
    let stray = [
        Frame::Cancel { call: 77 },
        Frame::Credit {
            call: 77,
            stream: Stream::ToCallee,
            bytes: 1,
        },
        reply(77, 0),
        data(77, 9, 1),
    ];
    for stray in stray {
        let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
        let flood = with_length(&stray.encode().unwrap()).repeat(1000);
        let flooding = tokio::spawn(async move {
            for _ in 0..1000 {
                hand.bytes(&flood).await;
            }
        });
        let end = tokio::time::timeout(SOON, pipe.ended()).await.unwrap();
        assert!(broken(end).contains("not there"));
        flooding.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_calls_pay_for_their_stray_frames_for_ever() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    for call in 0..60_000 {
        let invoke = Frame::Invoke {
            call,
            head: Box::new(head("echo")),
            payload: Bytes::new(),
            rest: 0,
        };
        hand.say(&invoke).await;
        assert!(matches!(hand.hear_call().await, Frame::Reply { .. }));
        for _ in 0..2 {
            hand.say(&Frame::Cancel { call }).await;
        }
    }
    drop(pipe);
}

/// A small generator, so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

fn honest_frames() -> Vec<Vec<u8>> {
    let request = Frame::HttpRequest {
        call: 2,
        head: Box::new(head("")),
        method: "GET".to_owned(),
        uri: "http://h/echo".to_owned(),
        fields: vec![Field {
            name: "a".to_owned(),
            value: Bytes::from_static(b"b"),
        }],
        has_body: true,
    };
    let invoke = |call, rest| Frame::Invoke {
        call,
        head: Box::new(head("echo")),
        payload: Bytes::from_static(b"\x90"),
        rest,
    };
    let data = Frame::Data {
        call: 2,
        stream: Stream::ToCallee,
        sequence: 0,
        bytes: Bytes::from_static(b"body"),
        last: true,
        trailers: Some(vec![]),
    };
    let credit = Frame::Credit {
        call: 2,
        stream: Stream::ToCaller,
        bytes: 9,
    };
    let frames = [
        invoke(1, 0),
        invoke(3, 100_000),
        request,
        data,
        credit,
        response(4),
        reply(5, 9),
        Frame::Cancel { call: 3 },
    ];
    frames.iter().map(|frame| frame.encode().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutation_of_honest_frames_does_more_than_end_the_pipe() {
    let honest = honest_frames();
    let mut numbers = Numbers(0x5eed);
    for round in 0..400 {
        let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
        let mut bytes = Vec::new();
        for _ in 0..20 {
            let mut frame = honest[numbers.below(honest.len())].clone();
            if round % 4 != 0 {
                let at = numbers.below(frame.len());
                frame[at] = numbers.next().to_le_bytes()[0];
            }
            bytes.extend(with_length(&frame));
        }
        if round % 4 == 3 {
            let at = numbers.below(bytes.len());
            bytes[at] ^= 1 << numbers.below(8);
            bytes.truncate(numbers.below(bytes.len()).max(1));
        }
        hand.bytes(&bytes).await;
        drop(hand);
        let end = tokio::time::timeout(SOON, pipe.ended()).await.unwrap();
        assert!(
            matches!(end, PipeEnd::Eof | PipeEnd::Broken { .. }),
            "round {round}: {end}"
        );
        until("all room is given back", || pipe.held_bytes() == 0).await;
        assert_eq!(pipe.calls_under_way(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_do_no_more_than_end_the_pipe() {
    let mut numbers = Numbers(0xbad);
    for _ in 0..200 {
        let (pipe, mut hand) = provider_and_hand().await;
        let mut bytes = Vec::new();
        while bytes.len() < 600 {
            let frame: Vec<_> = (0..1 + numbers.below(60))
                .map(|_| numbers.next().to_le_bytes()[0])
                .collect();
            bytes.extend(with_length(&frame));
        }
        hand.bytes(&bytes).await;
        drop(hand);
        let end = tokio::time::timeout(Duration::from_secs(10), pipe.ended()).await;
        assert!(end.is_ok());
    }
}
