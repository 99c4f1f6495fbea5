//! Typed values of `wasmcloud:messaging`, held against dynamic ones and against a component's own types.

use trellis_protocol::shape::FunctionShape;
use trellis_protocol::value;
use trellis_protocol::value::ByteSlice;
use trellis_protocol::{Refusal, RefusalCode};
use wasmtime::component::Val;

use super::*;
use crate::value::tests::functions_of;
use crate::value::{decode_params, decode_result, encode_params, encode_result};

fn function(interface: &str, name: &str) -> FunctionShape {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../interfaces/wit/wasmcloud-messaging"
    );
    functions_of(directory, interface)
        .remove(name)
        .expect("the function is there")
        .expect("its type can travel")
}

fn messages() -> Vec<Message> {
    let message = |subject: &str, body: &[u8], reply_to: Option<&str>| Message {
        subject: subject.to_owned(),
        body: body.to_vec(),
        reply_to: reply_to.map(str::to_owned),
    };
    vec![
        message("", b"", None),
        message("orders.new", b"\x00\xff text", Some("_INBOX.1")),
        message("ünicode", &[7; 300], Some("")),
        message("large", &vec![0x80; 70_000], None),
    ]
}

fn dynamic(message: &Message) -> Val {
    let body = message.body.iter().map(|byte| Val::U8(*byte)).collect();
    let reply_to = message.reply_to.clone();
    Val::Record(vec![
        ("subject".to_owned(), Val::String(message.subject.clone())),
        ("body".to_owned(), Val::List(body)),
        (
            "reply-to".to_owned(),
            Val::Option(reply_to.map(|text| Box::new(Val::String(text)))),
        ),
    ])
}

#[test]
fn a_message_has_the_same_bytes_typed_and_dynamic() {
    let publish = function("wasmcloud:messaging/consumer@0.2.0", "publish");
    let handle = function("wasmcloud:messaging/handler@0.2.0", "handle-message");
    for message in messages() {
        let typed = types::BrokerMessage::from(message.clone());
        let bytes = value::encode(&(&typed,)).expect("it encodes");
        for function in [&publish, &handle] {
            let written = encode_params(function, &[dynamic(&message)]).expect("it encodes");
            assert_eq!(written, bytes);
            let read = decode_params(function, &bytes).expect("it decodes");
            assert_eq!(read, [dynamic(&message)]);
        }
        let (read,): (types::BrokerMessage,) = value::decode(&bytes).expect("it decodes");
        assert_eq!(Message::from(read), message);
    }
}

#[test]
fn a_request_and_its_answer_have_the_same_bytes_typed_and_dynamic() {
    let request = function("wasmcloud:messaging/consumer@0.2.0", "request");
    for message in messages() {
        let typed = value::encode(&(&message.subject, ByteSlice(&message.body), 250_u32))
            .expect("it encodes");
        let body = message.body.iter().map(|byte| Val::U8(*byte)).collect();
        let params = [
            Val::String(message.subject.clone()),
            Val::List(body),
            Val::U32(250),
        ];
        assert_eq!(encode_params(&request, &params).expect("it encodes"), typed);

        let answer: Result<types::BrokerMessage, String> = Ok(message.clone().into());
        let typed = value::encode(&answer).expect("it encodes");
        let value = Val::Result(Ok(Some(Box::new(dynamic(&message)))));
        assert_eq!(
            encode_result(&request, std::slice::from_ref(&value)).expect("it encodes"),
            typed
        );
        assert_eq!(
            decode_result(&request, &typed).expect("it decodes"),
            Some(value)
        );
    }
}

#[test]
fn what_a_handler_answers_has_the_same_bytes_typed_and_dynamic() {
    let handle = function("wasmcloud:messaging/handler@0.2.0", "handle-message");
    let answers: [(Result<(), String>, Val); 2] = [
        (Ok(()), Val::Result(Ok(None))),
        (
            Err("no".to_owned()),
            Val::Result(Err(Some(Box::new(Val::String("no".to_owned()))))),
        ),
    ];
    for (typed, dynamic) in answers {
        let bytes = value::encode(&typed).expect("it encodes");
        assert_eq!(
            encode_result(&handle, &[dynamic]).expect("it encodes"),
            bytes
        );
    }
}

#[test]
fn typed_and_dynamic_callers_know_the_functions_by_the_same_types() {
    for (interface, functions) in [
        (consumer::INTERFACE, consumer::FUNCTIONS),
        (handler::INTERFACE, handler::FUNCTIONS),
    ] {
        for known in functions {
            let shape = function(interface, known.name);
            assert_eq!(
                shape.type_hash(),
                known.type_hash,
                "{interface}#{}",
                known.name
            );
        }
    }
}

#[test]
fn only_the_end_of_a_call_stops_the_guest() {
    let refused = |code| answer::<(), ()>(Err(Refusal::new(code, "so it is")));
    for code in [RefusalCode::Cancelled, RefusalCode::DeadlineExceeded] {
        assert!(refused(code).is_err());
    }
    let (told,) = refused(RefusalCode::NoLink).expect("the guest goes on");
    assert_eq!(told, Err("no-link: so it is".to_owned()));
}
