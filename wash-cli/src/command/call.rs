//! `wash call`: call an actor through the host that runs it, which acts under the caller's identity.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use trellis_protocol::control::call::Base64;
use trellis_protocol::control::{
    CallComponent, CallOperation, CallReply, FunctionCall, HttpCall, HttpReply, REQUEST_BYTES_MAX,
    Request as _,
};
use trellis_protocol::limits::DEADLINE_MAX;

use crate::cli::{Call, Http};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::{Report, printable};
use crate::placement::{self, Host};
use crate::settings::Settings;

/// The function by which an HTTP request is meant, whatever version is named.
const HTTP_HANDLER: (&str, &str) = ("wasi:http/incoming-handler", "handle");

/// Largest body that fits a control request, in bytes: base64 makes three bytes four, and the head needs room too.
const BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX / 4 * 3 - 16 * 1024;

pub(super) async fn run(args: Call, settings: &Settings) -> Result<Report, Failure> {
    let operation = operation(&args)?;
    let lattice = Lattice::connect(settings).await?;
    let deadline = lattice.outcome_timeout().min(DEADLINE_MAX);
    let call = CallComponent {
        component_id: args.id.clone(),
        operation,
        deadline_ms: u32::try_from(deadline.as_millis()).ok(),
    };
    call.check()
        .map_err(|fault| Failure::usage(format!("wash call: {fault}")))?;
    let host = match &args.host_id {
        Some(meant) => placement::find(&lattice, meant).await?,
        None => running_host(&lattice, args.id.as_str()).await?,
    };
    let reply = lattice
        .client()
        .call(&host.id, &call)
        .await
        .map_err(|error| {
            lattice.failure(&format!("cannot call {} on host {host}", args.id), &error)
        })?;
    Ok(match reply {
        CallReply::Http(reply) => http_report(reply),
        CallReply::Result(value) => function_report(&value),
    })
}

async fn running_host(lattice: &Lattice, id: &str) -> Result<Host, Failure> {
    let found = placement::running(lattice, id, |inventory| {
        inventory
            .components
            .iter()
            .any(|component| component.id == id)
    })
    .await?;
    // Any of them will do.
    let first = found.first().expect("`running` fails where none is found");
    Ok(Host::of(first))
}

fn operation(args: &Call) -> Result<CallOperation, Failure> {
    let usage = |fault: &str| Failure::usage(format!("wash call: {:?}: {fault}", args.function));
    let (interface, function) = args
        .function
        .rsplit_once('.')
        .filter(|(interface, function)| interface.contains('/') && !function.is_empty())
        .ok_or_else(|| usage("write it `namespace:package/interface.function`"))?;
    let unversioned = interface
        .split_once('@')
        .map_or(interface, |(name, _)| name);
    if (unversioned, function) == HTTP_HANDLER {
        if !args.arguments.is_empty() {
            return Err(usage(
                "an HTTP request takes no arguments; see the --http-… flags",
            ));
        }
        return Ok(CallOperation::Http(http_call(&args.http)?));
    }
    let arguments = args
        .arguments
        .iter()
        .map(|text| {
            serde_json::from_str::<Value>(text).map_err(|error| {
                usage(&format!(
                    "the argument {text} is no JSON: {error}; a string needs quotes, as in '\"text\"'"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(CallOperation::Function(FunctionCall {
        interface: interface.to_owned(),
        function: function.to_owned(),
        args: arguments,
    }))
}

fn http_call(http: &Http) -> Result<HttpCall, Failure> {
    let body = match (&http.body, &http.body_path) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(path)) => read_body(path)?,
        (None, None) => Vec::new(),
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(Failure::local(format!(
            "cannot send a body of {} bytes by `wash call`, at most {BODY_BYTES_MAX} are accepted; send it to the actor's HTTP server",
            body.len()
        )));
    }
    let mut headers = http.headers.clone();
    if let Some(kind) = &http.content_type {
        headers.push(("content-type".to_owned(), kind.clone()));
    }
    Ok(HttpCall {
        method: http.method.clone(),
        path: http.path.clone(),
        authority: http.host.clone(),
        headers,
        body: Base64(Bytes::from(body)),
    })
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::local(format!("cannot read the body {}: {error}", path.display()))
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > BODY_BYTES_MAX as u64 {
        return Err(Failure::local(format!(
            "cannot send {} by `wash call`: it has {bytes} bytes, at most {BODY_BYTES_MAX} are accepted",
            path.display()
        )));
    }
    std::fs::read(path).map_err(failed)
}

/// The body is data and goes out as it is; status and fields are told on stderr.
fn http_report(reply: HttpReply) -> Report {
    let mut head = format!("HTTP {}", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("\n{}: {}", printable(name), printable(value)));
    }
    let body = reply.body.0.to_vec();
    let report = Report::raw(body.clone())
        .aside(head)
        .with("status", reply.status)
        .with("headers", &reply.headers);
    match String::from_utf8(body) {
        Ok(text) => report.with("body", text),
        Err(_) => report.with("body_base64", &reply.body),
    }
}

/// A text is shown as it is, everything else as JSON; nothing where the function has no result.
fn function_report(value: &Value) -> Report {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => format!("{text}\n"),
        other => format!("{other:#}\n"),
    };
    Report::new(text).with("result", value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::exit::FailureKind;
    use crate::output::Format;

    fn parse(words: &[&str]) -> Result<CallOperation, Failure> {
        let line = ["wash", "call", "a"];
        match Cli::try_parse_from(line.iter().chain(words))
            .unwrap()
            .command
        {
            Command::Call(args) => operation(&args),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_function_is_split_at_its_last_dot() {
        let call = parse(&["demo:codes/maker@0.1.0.make", "6", "\"x\""]).unwrap();
        let CallOperation::Function(call) = call else {
            unreachable!("no function")
        };
        assert_eq!(call.interface, "demo:codes/maker@0.1.0");
        assert_eq!(call.function, "make");
        assert_eq!(call.args, [serde_json::json!(6), serde_json::json!("x")]);
    }

    #[test]
    fn the_http_handler_makes_a_request() {
        let words = [
            "wasi:http/incoming-handler@0.2.0.handle",
            "--http-method",
            "POST",
            "--http-path",
            "/links",
            "--http-body",
            "{}",
            "--http-content-type",
            "application/json",
        ];
        let CallOperation::Http(call) = parse(&words).unwrap() else {
            unreachable!("no request")
        };
        assert_eq!(
            (call.method.as_str(), call.path.as_str()),
            ("POST", "/links")
        );
        assert_eq!(
            call.headers,
            [("content-type".to_owned(), "application/json".to_owned())]
        );
        assert_eq!(call.body.0.as_ref(), b"{}");
    }

    #[test]
    fn a_word_that_is_no_function_and_an_argument_that_is_no_json_are_usage_mistakes() {
        for words in [&["make"][..], &["demo:codes/maker.make", "text"][..]] {
            assert_eq!(parse(words).unwrap_err().kind(), FailureKind::Usage);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_in_json() {
        let reply = HttpReply {
            status: 200,
            headers: Vec::new(),
            body: Base64(Bytes::from_static(b"\xff")),
        };
        let report = http_report(reply);
        assert_eq!(report.render(Format::Table), b"\xff");
        let json: Value = serde_json::from_slice(&report.render(Format::Json)).unwrap();
        assert_eq!(json["body_base64"], "/w==");
    }
}
