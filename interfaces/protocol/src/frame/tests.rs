//! The bytes of frames, their limits, and bytes that are none.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use super::*;
use crate::id::{EntityId, LinkName};
use crate::invocation::{Hop, InvocationId, Operation};
use crate::limits::VALUE_BYTES_MAX;

fn head() -> Box<InvocationHead> {
    Box::new(InvocationHead {
        id: InvocationId(0x0102),
        source: EntityId::new("a").unwrap(),
        target: EntityId::new("b").unwrap(),
        operation: Operation::new("x:y/z", "f"),
        link: LinkName::default(),
        deadline_ms: 1000,
        depth: 1,
        type_hash: 7,
        idempotent: true,
        lease: Lease {
            host: Arc::from("N"),
            instance: 3,
        },
        chain: vec![Hop {
            id: EntityId::new("c").unwrap(),
            host: Arc::from("M"),
        }],
        traceparent: None,
        state_sequence: 9,
    })
}

fn field(name: &str, value: &'static [u8]) -> Field {
    Field {
        name: name.to_owned(),
        value: Bytes::from_static(value),
    }
}

fn every_kind() -> Vec<Frame> {
    let refusal = Refusal::new(RefusalCode::NoLink, "m");
    vec![
        Frame::Invoke {
            call: 1,
            head: head(),
            payload: Bytes::from_static(b"\x91\x01"),
            rest: 0,
        },
        Frame::HttpRequest {
            call: 2,
            head: head(),
            method: "POST".to_owned(),
            uri: "http://h/p?q".to_owned(),
            fields: vec![field("a", b"\xff"), field("a", b"")],
            has_body: true,
        },
        Frame::Reply {
            call: 3,
            result: Bytes::from_static(b"\xc0"),
            rest: 5,
        },
        Frame::Refuse {
            call: 4,
            refusal: refusal.clone(),
        },
        Frame::HttpResponse {
            call: 5,
            status: 302,
            fields: vec![],
            has_body: false,
        },
        Frame::Data {
            call: 6,
            stream: Stream::ToCaller,
            sequence: 1,
            bytes: Bytes::from_static(b"xy"),
            last: true,
            trailers: Some(vec![field("t", b"v")]),
        },
        Frame::Credit {
            call: 7,
            stream: Stream::ToCallee,
            bytes: 65536,
        },
        Frame::Abort {
            call: 8,
            stream: Stream::ToCallee,
            refusal,
        },
        Frame::Stop {
            call: 9,
            stream: Stream::ToCaller,
        },
        Frame::Cancel { call: 300 },
        Frame::Release {
            lease: Lease {
                host: Arc::from("N"),
                instance: 1,
            },
        },
    ]
}

fn round_trip(frame: &Frame) -> Result<Frame, FrameError> {
    Frame::decode(&Bytes::from(frame.encode()?))
}

#[test]
fn every_kind_of_frame_has_these_bytes() {
    const HEAD: &[u8] =
        b"\x9d\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\xa1a\xa1b\x92\xa5x:y/z\xa1f\xa7default\
        \xcd\x03\xe8\x01\x07\xc3\x92\xa1N\x03\x91\x92\xa1c\xa1M\xc0\x09";
    let expected: Vec<Vec<u8>> = vec![
        [b"\x01\x94\x01", HEAD, b"\xc4\x02\x91\x01\x00"].concat(),
        [
            b"\x02\x96\x02",
            HEAD,
            b"\xa4POST\xachttp://h/p?q\x92\x92\xa1a\xc4\x01\xff\x92\xa1a\xc4\0\xc3",
        ]
        .concat(),
        b"\x03\x93\x03\xc4\x01\xc0\x05".to_vec(),
        b"\x04\x92\x04\x93\xa7no-link\xa1m\xc0".to_vec(),
        b"\x05\x94\x05\xcd\x01\x2e\x90\xc2".to_vec(),
        b"\x06\x96\x06\x01\x01\xc4\x02xy\xc3\x91\x92\xa1t\xc4\x01v".to_vec(),
        b"\x07\x93\x07\x00\xce\x00\x01\x00\x00".to_vec(),
        b"\x08\x93\x08\x00\x93\xa7no-link\xa1m\xc0".to_vec(),
        b"\x09\x92\x09\x01".to_vec(),
        b"\x0a\x91\xcd\x01\x2c".to_vec(),
        b"\x0b\x91\x92\xa1N\x01".to_vec(),
    ];
    for (frame, bytes) in every_kind().iter().zip(&expected) {
        assert_eq!(&frame.encode().unwrap(), bytes, "{}", frame.kind());
        assert_eq!(
            &Frame::decode(&Bytes::copy_from_slice(bytes)).unwrap(),
            frame
        );
    }
    assert_eq!(expected.len(), every_kind().len());
}

#[test]
fn a_payload_is_a_slice_of_the_frame() {
    let frame = Bytes::from(every_kind()[0].encode().unwrap());
    let Frame::Invoke { payload, .. } = Frame::decode(&frame).unwrap() else {
        panic!("not an invoke");
    };
    let whole = frame.as_ptr_range();
    assert!(whole.contains(&payload.as_ptr()));
}

#[test]
fn mutated_and_cut_bytes_never_panic() {
    for frame in every_kind() {
        let bytes = frame.encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Frame::decode(&Bytes::copy_from_slice(&bytes[..end])).is_err());
            Frame::refusable_call(&bytes[..end]);
        }
        for position in 0..bytes.len() {
            for value in 0..=255 {
                let mut mutated = bytes.clone();
                mutated[position] = value;
                Frame::refusable_call(&mutated);
                // What is accepted is a frame like any other.
                if let Ok(frame) = Frame::decode(&Bytes::from(mutated)) {
                    frame.encode().unwrap();
                }
            }
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = every_kind()[9].encode().unwrap();
    bytes.push(0);
    assert!(matches!(
        Frame::decode(&Bytes::from(bytes)),
        Err(FrameError::Malformed { .. })
    ));
}

#[test]
fn an_unknown_kind_is_refused_with_its_own_code() {
    for kind in [0, 12, 255] {
        let error = Frame::decode(&Bytes::from(vec![kind, 0x91, 5])).unwrap_err();
        assert_eq!(error, FrameError::UnknownKind { kind });
        assert_eq!(error.to_refusal().code, RefusalCode::UnsupportedVersion);
    }
}

#[test]
fn regression_only_what_begins_a_call_is_refused() {
    for kind in 0..=u8::MAX {
        let refusable = Frame::refusable_call(&[kind, 0x94, 3]);
        let begins = matches!(kind, 1 | 2);
        assert_eq!(refusable, begins.then_some(3), "kind {kind}");
    }
    assert_eq!(Frame::refusable_call(b"\x01\x90"), None);
    assert_eq!(Frame::refusable_call(b"\x01"), None);
}

#[test]
fn the_largest_payload_is_taken_and_one_more_byte_is_refused() {
    let data = |bytes: usize| Frame::Data {
        call: u64::MAX,
        stream: Stream::ToCallee,
        sequence: u32::MAX,
        bytes: Bytes::from(vec![0; bytes]),
        last: false,
        trailers: None,
    };
    assert!(round_trip(&data(FRAME_PAYLOAD_BYTES_MAX)).is_ok());
    let error = data(FRAME_PAYLOAD_BYTES_MAX + 1).encode().unwrap_err();
    assert_eq!(error.to_refusal().code, RefusalCode::TooLarge);
    let bytes = wire::encode(&data(FRAME_PAYLOAD_BYTES_MAX + 1)).unwrap();
    assert_eq!(Frame::decode(&Bytes::from(bytes)), Err(error));
}

#[test]
fn a_value_may_have_its_limit_and_not_one_byte_more() {
    let invoke = |rest: usize| Frame::Invoke {
        call: 1,
        head: head(),
        payload: Bytes::from_static(b"xx"),
        rest: rest as u32,
    };
    assert!(round_trip(&invoke(VALUE_BYTES_MAX - 2)).is_ok());
    assert!(invoke(VALUE_BYTES_MAX - 1).encode().is_err());
    let bytes = wire::encode(&invoke(VALUE_BYTES_MAX - 1)).unwrap();
    assert!(Frame::decode(&Bytes::from(bytes)).is_err());
}

#[test]
fn the_most_fields_are_taken_and_one_more_is_refused() {
    let response = |count: usize| Frame::HttpResponse {
        call: 1,
        status: 200,
        fields: vec![field("n", b"v"); count],
        has_body: false,
    };
    assert!(round_trip(&response(HTTP_FIELDS_MAX)).is_ok());
    assert!(response(HTTP_FIELDS_MAX + 1).encode().is_err());
    let bytes = wire::encode(&response(HTTP_FIELDS_MAX + 1)).unwrap();
    assert!(Frame::decode(&Bytes::from(bytes)).is_err());
}

#[test]
fn a_list_that_announces_more_than_there_are_bytes_is_refused_before_it_is_read() {
    // An HTTP response whose fields claim four thousand million entries.
    let bytes = b"\x05\x94\x05\xcc\xc8\xdd\xff\xff\xff\xff\xc2";
    assert!(Frame::decode(&Bytes::from_static(bytes)).is_err());
}

#[test]
fn a_response_head_beyond_its_limit_is_refused() {
    let response = |bytes: usize| Frame::HttpResponse {
        call: 1,
        status: 200,
        fields: vec![Field {
            name: "n".to_owned(),
            value: Bytes::from(vec![b'v'; bytes]),
        }],
        has_body: false,
    };
    assert!(round_trip(&response(HEAD_BYTES_MAX - 64)).is_ok());
    assert!(response(HEAD_BYTES_MAX).encode().is_err());
}

#[test]
fn the_rules_of_the_invocation_are_checked_on_both_sides() {
    let mut deep = head();
    deep.depth = crate::limits::DEPTH_MAX + 1;
    let frame = Frame::Invoke {
        call: 1,
        head: deep,
        payload: Bytes::new(),
        rest: 0,
    };
    assert!(frame.encode().is_err());
    let bytes = wire::encode(&frame).unwrap();
    let error = Frame::decode(&Bytes::from(bytes)).unwrap_err();
    assert_eq!(error.to_refusal().code, RefusalCode::TooDeep);
}

#[test]
fn trailers_come_with_the_end_of_a_stream_only() {
    let frame = Frame::Data {
        call: 1,
        stream: Stream::ToCaller,
        sequence: 0,
        bytes: Bytes::new(),
        last: false,
        trailers: Some(vec![]),
    };
    assert!(frame.encode().is_err());
    assert!(Frame::decode(&Bytes::from(wire::encode(&frame).unwrap())).is_err());
}

#[test]
fn the_cost_of_a_values_rest_covers_its_frames() {
    assert_eq!(rest_cost(0), 0);
    assert_eq!(rest_cost(1), data_cost(1));
    let full = FRAME_PAYLOAD_BYTES_MAX as u32;
    assert_eq!(rest_cost(full), data_cost(full as usize));
    assert_eq!(rest_cost(full + 1), data_cost(full as usize) + data_cost(1));
}

#[test]
fn a_refusal_with_a_code_of_a_later_version_still_ends_its_call() {
    let bytes = Bytes::from_static(b"\x04\x92\x05\x93\xa3new\xa1m\xa1r");
    let Frame::Refuse { call, refusal } = Frame::decode(&bytes).unwrap() else {
        panic!("not a refusal");
    };
    assert_eq!((call, refusal.code), (5, RefusalCode::Internal));
    assert_eq!(
        (&*refusal.message, refusal.remedy.as_deref()),
        ("new: m", Some("r"))
    );
}
