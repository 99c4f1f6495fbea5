//! The bytes of control frames, their limits, and bytes that are none.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::id::{EntityId, LinkName};
use crate::link::LinkKey;

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

fn config() -> BTreeMap<String, String> {
    BTreeMap::from([("url".to_owned(), "redis://h".to_owned())])
}

fn key() -> LinkKey {
    LinkKey {
        source_id: id("a"),
        name: LinkName::default(),
        wit_namespace: "wasi".to_owned(),
        wit_package: "keyvalue".to_owned(),
    }
}

fn ask(number: QuestionNumber, question: Question) -> Control {
    Control::Ask { number, question }
}

fn every_kind() -> Vec<(Control, &'static [u8])> {
    let hello = Hello {
        version: 1,
        name: "kv".to_owned(),
        serves: vec!["wasi:keyvalue/store".to_owned()],
        calls: vec![],
        calls_max: 256,
    };
    let start = Question::Start {
        id: id("kv"),
        lattice: "default".to_owned(),
        host: "N".to_owned(),
        config: config(),
    };
    let link = PipeLink {
        key: key(),
        target: id("kv"),
        interfaces: vec!["wasi:keyvalue/store".to_owned()],
        end: PipeLinkEnd::Target,
        config: config(),
        generation: 7,
    };
    let delete = Question::LinkDelete {
        key: key(),
        end: PipeLinkEnd::Source,
    };
    let shutdown = Question::Shutdown {
        within: Duration::from_secs(10),
    };
    let conflict = Failure::new(FailureKind::Conflict, "taken")
        .about("/p")
        .held_by(id("b"));
    vec![
        (
            Control::Hello(hello),
            b"\x20\x95\x01\xa2kv\x91\xb3wasi:keyvalue/store\x90\xcd\x01\0",
        ),
        (
            ask(1, start),
            b"\x21\x95\x01\xa2kv\xa7default\xa1N\x81\xa3url\xa9redis://h",
        ),
        (
            ask(2, Question::LinkPut(link)),
            b"\x22\x92\x02\x96\x94\xa1a\xa7default\xa4wasi\xa8keyvalue\xa2kv\x91\xb3wasi:keyvalue/store\
              \xa6target\x81\xa3url\xa9redis://h\x07",
        ),
        (
            ask(3, delete),
            b"\x23\x93\x03\x94\xa1a\xa7default\xa4wasi\xa8keyvalue\xa6source",
        ),
        (ask(4, Question::Health), b"\x24\x91\x04"),
        (
            Control::ReleaseHost {
                host: "M".to_owned(),
            },
            b"\x25\x91\xa1M",
        ),
        (ask(5, shutdown), b"\x26\x92\x05\xcd\x27\x10"),
        (
            Control::Done {
                number: 4,
                failure: None,
            },
            b"\x27\x92\x04\xc0",
        ),
        (
            Control::Done {
                number: 2,
                failure: Some(conflict),
            },
            b"\x27\x92\x02\x94\xa8conflict\xa2/p\xa1b\xa5taken",
        ),
    ]
}

#[test]
fn every_kind_of_control_frame_has_these_bytes() {
    for (control, bytes) in every_kind() {
        assert_eq!(control.encode().unwrap(), bytes, "{}", control.kind());
        assert_eq!(Control::decode(bytes).unwrap(), control);
        let frame = PipeFrame::decode(&Bytes::from_static(bytes)).unwrap();
        assert_eq!(frame, PipeFrame::Control(Box::new(control)));
    }
}

#[test]
fn the_text_of_the_protocol_has_these_bytes() {
    let text = include_str!("../../../../PROTOCOL.md");
    let section = text.split("## 12. A provider's socket").nth(1).unwrap();
    let section: String = section.split_whitespace().collect();
    let reply = Frame::Reply {
        call: 1,
        result: Bytes::from_static(b"\xc0"),
        rest: 0,
    };
    let mut frames: Vec<_> = every_kind()
        .into_iter()
        .map(|(_, bytes)| bytes.to_vec())
        .collect();
    frames.push(reply.encode().unwrap());
    for frame in frames {
        let message = [&write_length(frame.len()).unwrap()[..], &frame].concat();
        let hex = data_encoding::HEXLOWER.encode(&message);
        assert!(section.contains(&hex), "{hex}");
    }
}

#[test]
fn frames_of_calls_are_those_between_hosts() {
    let cancel = Frame::Cancel { call: 300 };
    let bytes = Bytes::from(cancel.encode().unwrap());
    assert_eq!(PipeFrame::decode(&bytes).unwrap(), PipeFrame::Call(cancel));
}

#[test]
fn a_length_is_held_to_its_limit_before_anything_is_reserved() {
    assert_eq!(read_length([0, 0, 0, 1]).unwrap(), 1);
    assert_eq!(write_length(FRAME_BYTES_MAX).unwrap(), [0, 0, 0xf0, 0]);
    assert_eq!(read_length([0, 0, 0xf0, 0]).unwrap(), FRAME_BYTES_MAX);
    assert!(read_length([0, 0, 0xf0, 1]).is_err());
    assert!(read_length([0xff; 4]).is_err());
    assert!(read_length([0; 4]).is_err());
    assert!(write_length(FRAME_BYTES_MAX + 1).is_err());
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_by_its_writer() {
    let large = |entries: usize, bytes: usize| Question::Start {
        id: id("kv"),
        lattice: "default".to_owned(),
        host: "N".to_owned(),
        config: (0..entries)
            .map(|i| (i.to_string(), "v".repeat(bytes)))
            .collect(),
    };
    assert!(ask(1, large(50, 1024)).encode().is_ok());
    for question in [large(60, 1024), large(CONFIG_ENTRIES_MAX + 1, 0)] {
        let error = ask(1, question).encode().unwrap_err();
        assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn a_hello_with_too_much_of_anything_is_refused() {
    let hello = |change: fn(&mut Hello)| {
        let mut hello = Hello {
            version: PIPE_VERSION,
            name: "kv".to_owned(),
            serves: vec![],
            calls: vec![],
            calls_max: 1,
        };
        change(&mut hello);
        Control::Hello(hello).encode()
    };
    assert!(hello(|_| ()).is_ok());
    assert!(hello(|hello| hello.name = "n".repeat(PROVIDER_NAME_BYTES_MAX + 1)).is_err());
    assert!(
        hello(|hello| hello.serves = vec![String::new(); PROVIDER_INTERFACES_MAX + 1]).is_err()
    );
    assert!(hello(|hello| hello.calls = vec!["i".repeat(INTERFACE_BYTES_MAX + 1)]).is_err());
    assert!(hello(|hello| hello.calls_max = CALLS_MAX + 1).is_err());
    for name in ["", "a b", "\u{1b}[2J", "a\nb"] {
        let mut bytes = b"\x20\x95\x01\xa0\x90\x90\x01".to_vec();
        bytes[3] |= u8::try_from(name.len()).unwrap();
        bytes.splice(4..4, name.bytes());
        let decoded = Control::decode(&bytes);
        assert!(
            matches!(decoded, Err(FrameError::Malformed { .. })),
            "{name:?}: {decoded:?}"
        );
    }
    assert!(hello(|hello| hello.serves = vec!["a\u{7}".to_owned()]).is_err());
}

#[test]
fn a_failure_of_an_unknown_kind_is_read_as_internal_and_long_texts_are_cut() {
    let bytes = b"\x27\x92\x01\x94\xa3new\xc0\xc0\xa1r";
    let Control::Done {
        failure: Some(failure),
        ..
    } = Control::decode(bytes).unwrap()
    else {
        panic!("a done");
    };
    assert_eq!(failure, Failure::new(FailureKind::Internal, "r"));
    let long = Failure {
        reason: "x".repeat(100_000),
        ..failure
    };
    let done = Control::Done {
        number: 1,
        failure: Some(long),
    };
    assert!(done.encode().unwrap().len() < 4096);
}

#[test]
fn secrets_of_a_configuration_are_not_shown() {
    for (control, _) in every_kind() {
        assert!(!format!("{control:?}").contains("redis://"));
    }
}

#[test]
fn no_mutation_of_a_frame_makes_reading_it_panic() {
    for (_, bytes) in every_kind() {
        for at in 0..bytes.len() {
            let _ = Control::decode(&bytes[..at]);
            for byte in [0, 1, 0x7f, 0x80, 0x9f, 0xc1, 0xc6, 0xdb, 0xdd, 0xdf, 0xff] {
                let mut mutated = bytes.to_vec();
                mutated[at] = byte;
                let _ = PipeFrame::decode(&Bytes::from(mutated));
            }
        }
        let trailing = [bytes, b"\0"].concat();
        assert!(Control::decode(&trailing).is_err());
    }
    assert!(matches!(
        Control::decode(&[40, 0x90]),
        Err(FrameError::UnknownKind { kind: 40 })
    ));
    assert!(Control::decode(&[]).is_err());
}
