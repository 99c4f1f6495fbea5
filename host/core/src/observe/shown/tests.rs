#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bytes::Bytes;
use serde_json::json;
use trellis_protocol::control::observe::Direction;
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, RefusalCode};
use trellis_provider_sdk::http::empty;
use wasmtime::component::Val;

use super::*;
use crate::observe::tap::HELD_BYTES_MAX;
use crate::value::{encode_params, encode_result};

fn payload(bytes: Vec<u8>) -> Payload {
    Payload::encoded(&Bytes::from(bytes))
}

fn request(shape: &FunctionShape, args: &[Val]) -> Shown {
    let bytes = encode_params(shape, args).unwrap();
    shown(&payload(bytes), |bytes| params(Some(shape), bytes))
}

#[test]
fn names_of_secrets_are_known_in_every_spelling() {
    for secret in [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "set-cookie",
        "X-Api-Key",
        "apiKey",
        "access_token",
        "accessToken",
        "client-secret",
        "PASSWORD",
        "x-amz-security-token",
        "session_id",
    ] {
        assert!(is_secret(secret), "{secret}");
    }
    for open in [
        "content-type",
        "author",
        "key",
        "idempotency-key",
        "tokenizer",
        "passenger",
        "www-authenticate",
        "",
    ] {
        assert!(!is_secret(open), "{open}");
    }
}

#[test]
fn a_request_is_shown_without_its_credentials() {
    let request = http::Request::builder()
        .method("POST")
        .uri("http://me:pw@shop.example/orders?page=2&access_token=abc")
        .header("Authorization", "Bearer abc")
        .header("Cookie", "id=abc")
        .header("Accept", "text/plain")
        .body(empty())
        .unwrap();
    let shown = request_head(&request);
    assert_eq!(shown.method.as_deref(), Some("POST"));
    assert_eq!(shown.authority.as_deref(), Some("(hidden)@shop.example"));
    assert_eq!(
        shown.path.as_deref(),
        Some("/orders?page=2&access_token=(hidden)")
    );
    let text = serde_json::to_string(&shown).unwrap();
    assert!(!text.contains("abc") && !text.contains("pw"), "{text}");
    assert!(text.contains(r#"["accept","text/plain"]"#), "{text}");
}

#[test]
fn the_fields_of_a_message_are_cut_where_they_are_too_many() {
    let mut response = http::Response::builder();
    for number in 0..90 {
        response = response.header(format!("x-{number}"), "v".repeat(200));
    }
    let shown = response_head(&response.body(empty()).unwrap());
    let bytes: usize = shown.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    assert!(bytes <= SHOWN_BYTES_MAX + 16);
    let (_, last) = shown.headers.last().unwrap();
    assert_eq!(*last, format!("{} more", 90 - (shown.headers.len() - 1)));
}

#[test]
fn arguments_are_shown_by_their_types_and_secret_ones_are_hidden() {
    let login = Shape::Record(vec![
        ("user".to_owned(), Shape::String),
        ("password".to_owned(), Shape::String),
    ]);
    let pairs = Shape::list(Shape::Tuple(vec![Shape::String, Shape::list(Shape::U8)]));
    let shape = FunctionShape::new(
        vec![
            ("login".to_owned(), login),
            ("api-key".to_owned(), Shape::String),
            ("fields".to_owned(), pairs),
            ("found".to_owned(), Shape::result(Some(Shape::U8), None)),
            ("note".to_owned(), Shape::option(Shape::option(Shape::U8))),
        ],
        None,
    )
    .unwrap();
    let text = |text: &str| Val::String(text.to_owned());
    let bytes = |bytes: &[u8]| Val::List(bytes.iter().map(|byte| Val::U8(*byte)).collect());
    let args = [
        Val::Record(vec![
            ("user".to_owned(), text("eve")),
            ("password".to_owned(), text("123")),
        ]),
        text("456"),
        Val::List(vec![
            Val::Tuple(vec![text("token"), bytes(b"789")]),
            Val::Tuple(vec![text("plain"), bytes(b"text")]),
            Val::Tuple(vec![text("raw"), bytes(&[0, 255])]),
        ]),
        Val::Result(Ok(Some(Box::new(Val::U8(7))))),
        Val::Option(Some(Box::new(Val::Option(None)))),
    ];
    assert_eq!(
        request(&shape, &args),
        Shown::Value(json!([
            {"user": "eve", "password": "(hidden)"},
            "(hidden)",
            [["token", "(hidden)"], ["plain", "text"], ["raw", {"base64": "AP8="}]],
            {"ok": 7},
            [null],
        ]))
    );
}

#[test]
fn a_result_of_an_unknown_type_is_shown_without_names() {
    let shape = FunctionShape::new(
        vec![],
        Some(Shape::Record(vec![
            ("a".to_owned(), Shape::U8),
            ("b".to_owned(), Shape::F64),
        ])),
    )
    .unwrap();
    let record = Val::Record(vec![
        ("a".to_owned(), Val::U8(1)),
        ("b".to_owned(), Val::Float64(0.5)),
    ]);
    let bytes = payload(encode_result(&shape, &[record]).unwrap());
    assert_eq!(
        shown(&bytes, |bytes| result(Some(&shape), bytes)),
        Shown::Value(json!({"a": 1, "b": 0.5}))
    );
    assert_eq!(
        shown(&bytes, |bytes| result(None, bytes)),
        Shown::Untyped(json!([1, 0.5]))
    );
}

#[test]
fn what_is_long_is_cut_and_what_is_longer_is_told_by_its_size() {
    let shape = FunctionShape::new(vec![("x".to_owned(), Shape::String)], None).unwrap();
    let text = |length: usize| request(&shape, &[Val::String("ä".repeat(length / 2))]);
    // Four bytes of JSON stand around the text.
    assert!(matches!(text(SHOWN_BYTES_MAX - 4), Shown::Value(_)));
    match text(SHOWN_BYTES_MAX) {
        Shown::Cut { text, bytes } => {
            assert!(text.len() <= SHOWN_BYTES_MAX && text.len() + 1 >= SHOWN_BYTES_MAX);
            assert_eq!(bytes, SHOWN_BYTES_MAX as u64 + 4);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        text(HELD_BYTES_MAX),
        Shown::Opaque { bytes } if bytes > HELD_BYTES_MAX as u64
    ));
}

#[test]
fn bytes_that_are_no_value_are_told_by_their_size_and_never_panic() {
    let shape = FunctionShape::new(
        vec![(
            "x".to_owned(),
            Shape::Variant(vec![("a".to_owned(), Some(Shape::list(Shape::String)))]),
        )],
        None,
    )
    .unwrap();
    let good = encode_params(
        &shape,
        &[Val::Variant(
            "a".to_owned(),
            Some(Box::new(Val::List(vec![Val::String("x".to_owned())]))),
        )],
    )
    .unwrap();
    for place in 0..good.len() {
        for byte in 0..=255 {
            let mut bad = good.clone();
            bad[place] = byte;
            let read = |bytes: &[u8]| params(Some(&shape), bytes);
            let _ = shown(&payload(bad.clone()), read);
            bad.truncate(place);
            let _ = shown(&payload(bad), read);
        }
    }
    let cut = good[..good.len() - 1].to_vec();
    assert_eq!(
        shown(&payload(cut), |bytes| params(Some(&shape), bytes)),
        Shown::Opaque {
            bytes: good.len() as u64 - 1
        }
    );
}

#[test]
fn a_record_of_another_type_than_the_caller_meant_is_not_read_by_it() {
    let shape = FunctionShape::new(vec![("x".to_owned(), Shape::U8)], None).unwrap();
    let sighting = Sighting {
        direction: Direction::In,
        at: std::time::SystemTime::UNIX_EPOCH,
        took: std::time::Duration::from_micros(7),
        id: Some(InvocationId(1)),
        traceparent: Some(Arc::from(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )),
        source: EntityId::new("a").unwrap(),
        target: Some(EntityId::new("b").unwrap()),
        operation: Operation::new("demo:codes/maker", "make"),
        link: LinkName::default(),
        depth: 1,
        type_hash: shape.type_hash() ^ 1,
        refusal: Some((RefusalCode::TypeMismatch, "not the same".to_owned())),
        request: Some(payload(encode_params(&shape, &[Val::U8(6)]).unwrap())),
        response: None,
    };
    let record = record(&sighting, Some(&shape), &Arc::from("N"), 2);
    assert_eq!(record.request, Some(Shown::Untyped(json!([6]))));
    assert_eq!(record.outcome, "type-mismatch");
    assert_eq!(record.operation, "demo:codes/maker#make");
    assert_eq!(
        record.trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!((record.micros, record.dropped), (7, 2));
}
