//! What the server answers itself, and what it adds to an actor's responses.

use http::{Response, StatusCode};
use trellis_provider_sdk::http::{empty, full};
use trellis_provider_sdk::{Refusal, RefusalCode};

use crate::actors::{linked, ok};
use crate::wire::{Wire, ask, get};

#[tokio::test]
async fn a_refusal_is_a_problem_document_with_its_code() {
    let (_server, address) = linked(&[], &[], |_, _| async {
        Err(Refusal::new(RefusalCode::NotGranted, "`a` may not")
            .with_remedy("sign it with a grant"))
    })
    .await;
    let reply = ask(address, get("/")).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.code(), "not-granted");
    let document: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "type": "urn:trellis:problem:not-granted",
            "title": "Forbidden",
            "status": 403,
            "detail": "`a` may not",
            "code": "not-granted",
            "remedy": "sign it with a grant",
        })
    );
}

#[tokio::test]
async fn overload_says_when_to_come_back_and_the_connection_stays() {
    let (_server, address) = linked(&[], &[], |_, _| async {
        Err(Refusal::new(RefusalCode::Overloaded, "full"))
    })
    .await;
    let mut wire = Wire::open(address).await;
    for _ in 0..2 {
        let reply = wire.ask(get("/")).await;
        assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    }
}

#[tokio::test]
async fn in_readonly_mode_only_methods_that_change_nothing_pass() {
    let (_server, address) =
        linked(&[], &[("readonly_mode", "true")], |_, _| async { ok("") }).await;
    for method in ["GET", "HEAD", "OPTIONS"] {
        let reply = ask(address, format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(reply.status, 200, "{method}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "MKCOL"] {
        let reply = ask(address, format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(
            (reply.status, reply.field("allow")),
            (405, Some("GET, HEAD, OPTIONS")),
            "{method}"
        );
        assert_eq!(reply.code(), "readonly");
    }
}

#[tokio::test]
async fn cache_control_is_added_where_there_is_none() {
    let (_server, address) = linked(
        &[],
        &[("cache_control", "max-age=60")],
        |_, request| async move {
            let mut response = Response::new(empty());
            if request.uri().path() == "/own" {
                response
                    .headers_mut()
                    .insert("cache-control", "no-cache".parse().unwrap());
            }
            Ok(response)
        },
    )
    .await;
    assert_eq!(
        ask(address, get("/")).await.field("cache-control"),
        Some("max-age=60")
    );
    assert_eq!(
        ask(address, get("/own")).await.field("cache-control"),
        Some("no-cache")
    );
}

#[tokio::test]
async fn a_preflight_is_answered_here() {
    let config = [
        ("cors_allowed_origins", "https://a.example"),
        ("cors_allowed_methods", "GET,PUT"),
        ("cors_allowed_headers", "x-token"),
        ("cors_max_age_secs", "60"),
    ];
    let (_server, address) =
        linked(&[], &config, |_, _| async { unreachable!("a preflight") }).await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /x HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\naccess-control-request-method: PUT\r\n\r\n"
        )
    };
    let reply = ask(address, preflight("https://a.example")).await;
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.field("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(
        reply.field("access-control-allow-methods"),
        Some("GET, PUT")
    );
    assert_eq!(reply.field("access-control-allow-headers"), Some("x-token"));
    assert_eq!(reply.field("access-control-max-age"), Some("60"));
    assert_eq!(reply.field("vary"), Some("origin"));
    let reply = ask(address, preflight("https://b.example")).await;
    assert_eq!(
        (reply.status, reply.field("access-control-allow-origin")),
        (403, None)
    );
}

#[tokio::test]
async fn responses_tell_browsers_which_origin_may_read_them() {
    let config = [
        ("cors_allowed_origins", "https://a.example"),
        ("cors_exposed_headers", "etag"),
    ];
    let (_server, address) = linked(&[], &config, |_, request| async move {
        match request.uri().path() {
            "/refused" => Err(Refusal::new(RefusalCode::NoLink, "none")),
            _ => ok(""),
        }
    })
    .await;
    for path in ["/", "/refused"] {
        for (origin, allowed) in [
            ("https://a.example", Some("https://a.example")),
            ("https://b.example", None),
        ] {
            let reply = ask(
                address,
                format!("GET {path} HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\n\r\n"),
            )
            .await;
            assert_eq!(reply.field("access-control-allow-origin"), allowed);
            assert_eq!(
                reply.field("access-control-expose-headers"),
                allowed.map(|_| "etag")
            );
        }
    }
    let (_server, address) = linked(&[], &[], |_, _| async { ok("") }).await;
    let reply = ask(
        address,
        "GET / HTTP/1.1\r\nhost: h\r\norigin: https://a.example\r\n\r\n",
    )
    .await;
    assert_eq!(reply.field("access-control-allow-origin"), None);
}

#[tokio::test]
async fn without_keepalive_the_first_response_is_the_last() {
    let (_server, address) = linked(&[], &[("disable_keepalive", "true")], |_, _| async {
        ok("x")
    })
    .await;
    let mut wire = Wire::open(address).await;
    let reply = wire.ask(get("/")).await;
    assert_eq!(
        (reply.body.as_str(), reply.field("connection")),
        ("x", Some("close"))
    );
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn an_actors_framing_is_not_trusted() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        let mut response = Response::new(full("body"));
        let (name, value) = match request.uri().path() {
            "/long" => ("content-length", "5"),
            "/odd" => ("content-length", "4, 5"),
            "/te" => ("transfer-encoding", "identity"),
            "/upgrade" => ("upgrade", "h2c"),
            "/interim" => {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                ("x", "y")
            }
            _ => ("connection", "x-secret"),
        };
        response.headers_mut().insert(name, value.parse().unwrap());
        response
            .headers_mut()
            .insert("x-secret", "s".parse().unwrap());
        Ok(response)
    })
    .await;
    let mut wire = Wire::open(address).await;
    for path in ["/long", "/odd", "/te", "/upgrade", "/connection"] {
        let reply = wire.ask(get(path)).await;
        assert_eq!(
            (reply.body.as_str(), reply.field("content-length")),
            ("body", Some("4")),
            "{path}"
        );
        assert_eq!(reply.field("upgrade"), None);
        assert_eq!(reply.field("x-secret").is_none(), path == "/connection");
    }
    let reply = wire.ask(get("/interim")).await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "bad-response"));
    assert_eq!(wire.ask(get("/long")).await.status, 200);
}

#[tokio::test]
async fn a_response_to_head_has_the_length_and_not_the_body() {
    let (_server, address) = linked(&[], &[], |_, _| async { ok("body") }).await;
    let mut wire = Wire::open(address).await;
    wire.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.field("content-length"), Some("4"));
    assert_eq!(wire.ask(get("/")).await.body, "body");
}
