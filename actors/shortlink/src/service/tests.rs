//! What clients see.

use serde_json::{Value, json};

use super::*;
use crate::fake::FakeWorld;

const HERE: &str = "https://here.example/";

fn ask(world: &FakeWorld, method: &str, path: &str) -> Reply {
    answer(&world, method, path, || panic!("the body was read"))
}

fn post(world: &FakeWorld, body: &str) -> Reply {
    answer(&world, "POST", "/links", || Ok(body.as_bytes().to_vec()))
}

fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply
        .fields
        .iter()
        .find(|(field, _)| *field == name)
        .map(|(_, value)| value.as_str())
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("the body is json")
}

fn assert_problem(reply: &Reply, status: u16, slug: &str) {
    assert_eq!(reply.status, status);
    assert_eq!(
        field(reply, "content-type"),
        Some("application/problem+json")
    );
    let document = json_of(reply);
    assert_eq!(document["status"], status);
    assert_eq!(
        document["type"],
        format!("tag:shortlink.example,2026:{slug}")
    );
    assert!(document["title"].is_string());
    assert!(document["detail"].is_string());
}

#[test]
fn a_link_is_made_followed_and_counted() {
    let world = FakeWorld::new();

    let created = post(&world, r#"{"url": "https://here.example/"}"#);
    assert_eq!(created.status, 201);
    assert_eq!(field(&created, "location"), Some("/code0"));
    assert_eq!(json_of(&created), json!({"code": "code0", "url": HERE}));

    let followed = ask(&world, "GET", "/code0");
    assert_eq!(followed.status, 302);
    assert_eq!(field(&followed, "location"), Some(HERE));
    assert_eq!(field(&followed, "cache-control"), Some("no-store"));

    let counted = ask(&world, "GET", "/code0/stats");
    assert_eq!(
        json_of(&counted),
        json!({"code": "code0", "url": HERE, "clicks": 1})
    );
}

#[test]
fn a_redirect_is_told_as_a_message_and_nothing_else_is() {
    let world = FakeWorld::new().with_link("code0", HERE);
    for (method, path) in [
        ("GET", "/code0"),
        ("HEAD", "/code0"),
        ("GET", "/code0/stats"),
        ("GET", "/nobody"),
        ("GET", "/code0"),
    ] {
        ask(&world, method, path);
    }
    let told = (
        "shortlink.clicks".to_owned(),
        r#"{"code":"code0"}"#.to_owned(),
    );
    assert_eq!(*world.published.borrow(), [told.clone(), told]);
}

#[test]
fn a_redirect_does_not_need_a_broker() {
    let mut world = FakeWorld::new().with_link("code0", HERE);
    world.broker = Err("no-link: no link leads there".to_owned());
    let followed = ask(&world, "GET", "/code0");
    assert_eq!(followed.status, 302);
    assert_eq!(json_of(&ask(&world, "GET", "/code0/stats"))["clicks"], 1);
    // Said nowhere: an operator who links no broker wants none.
    assert!(world.logged.borrow().is_empty());

    world.broker = Err("not connected to NATS, nothing was sent".to_owned());
    assert_eq!(ask(&world, "GET", "/code0").status, 302);
    assert_eq!(world.logged.borrow().len(), 1);
}

#[test]
fn a_base_url_makes_short_urls_absolute() {
    let mut world = FakeWorld::new();
    world.config = Ok([("base_url", "https://s.example/to/")].into());
    let created = post(&world, r#"{"url": "https://here.example/"}"#);
    assert_eq!(json_of(&created)["short_url"], "https://s.example/to/code0");
    assert_eq!(
        field(&created, "location"),
        Some("https://s.example/to/code0")
    );
}

#[test]
fn the_configured_length_is_wished_for() {
    let mut world = FakeWorld::new();
    world.config = Ok([("code_length", "9")].into());
    world.maker = Box::new(|_, length, _| {
        Ok(crate::fake::made(
            &"x".repeat(usize::from(length.unwrap_or(1))),
        ))
    });
    let created = post(&world, r#"{"url": "https://here.example/"}"#);
    assert_eq!(json_of(&created)["code"], "xxxxxxxxx");
}

#[test]
fn a_senseless_configuration_is_named() {
    for (key, value) in [
        ("code_length", "seven"),
        ("code_length", "256"),
        ("base_url", "s.example"),
        ("base_url", "https://s.example/?a"),
    ] {
        let mut world = FakeWorld::new();
        world.config = Ok([(key, value)].into());
        let reply = post(&world, r#"{"url": "https://here.example/"}"#);
        assert_problem(&reply, 500, "misconfigured");
        assert!(json_of(&reply)["detail"].to_string().contains(key));
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_503() {
    let mut world = FakeWorld::new();
    world.config = Err("the bucket is gone".to_owned());
    let reply = post(&world, r#"{"url": "https://here.example/"}"#);
    assert_problem(&reply, 503, "configuration-unavailable");
}

#[test]
fn a_body_that_is_not_json_is_400_and_one_without_a_valid_url_422() {
    let world = FakeWorld::new();
    assert_problem(&post(&world, "{"), 400, "unreadable-body");
    assert_problem(&post(&world, "{}"), 422, "invalid-url");
    assert_problem(
        &post(&world, r#"{"url": "here.example"}"#),
        422,
        "invalid-url",
    );
}

#[test]
fn a_body_too_large_is_413_and_one_that_breaks_off_400() {
    let world = FakeWorld::new();
    let large = answer(&&world, "POST", "/links", || Err(BodyError::TooLarge));
    assert_problem(&large, 413, "body-too-large");
    let broken = answer(&&world, "POST", "/links", || {
        Err(BodyError::Broken(std::io::ErrorKind::UnexpectedEof.into()))
    });
    assert_problem(&broken, 400, "unreadable-body");
}

#[test]
fn unknown_codes_and_paths_are_404() {
    let world = FakeWorld::new();
    assert_problem(&ask(&world, "GET", "/nobody"), 404, "unknown-code");
    assert_problem(&ask(&world, "HEAD", "/nobody"), 404, "unknown-code");
    assert_problem(&ask(&world, "GET", "/nobody/stats"), 404, "unknown-code");
    assert_problem(&ask(&world, "GET", "/a/b/c"), 404, "unknown-path");
}

#[test]
fn a_wrong_method_is_405_with_the_right_ones() {
    let world = FakeWorld::new();
    let reply = ask(&world, "DELETE", "/links");
    assert_problem(&reply, 405, "method-not-allowed");
    assert_eq!(field(&reply, "allow"), Some("POST"));
    let reply = ask(&world, "POST", "/code0");
    assert_problem(&reply, 405, "method-not-allowed");
    assert_eq!(field(&reply, "allow"), Some("GET, HEAD"));
}

#[test]
fn a_refusing_store_is_503_with_its_reason_and_in_the_log() {
    let mut world = FakeWorld::new().with_link("code0", HERE);
    world.refusing = Some("no link from shortlink to a provider of wasi:keyvalue");
    for reply in [
        post(&world, r#"{"url": "https://here.example/"}"#),
        ask(&world, "GET", "/code0"),
        ask(&world, "GET", "/code0/stats"),
    ] {
        assert_problem(&reply, 503, "store-unavailable");
        assert_eq!(
            json_of(&reply)["detail"],
            "could not open the bucket: no link from shortlink to a provider of wasi:keyvalue"
        );
    }
    let logged = world.logged.borrow();
    assert_eq!(logged.len(), 3);
    assert!(logged.iter().all(|(level, _)| *level == LogLevel::Error));
}

#[test]
fn a_refusing_code_maker_is_502_and_one_that_has_run_out_503() {
    for (refusal, status, slug) in [
        (CodeRefusal::TooShort(4), 502, "code-maker-refused"),
        (CodeRefusal::TooLong(32), 502, "code-maker-refused"),
        (
            CodeRefusal::Other("no".to_owned()),
            502,
            "code-maker-refused",
        ),
        (CodeRefusal::Exhausted, 503, "no-free-code"),
    ] {
        let mut world = FakeWorld::new();
        world.maker = Box::new(move |_, _, _| Err(refusal.clone()));
        let reply = post(&world, r#"{"url": "https://here.example/"}"#);
        assert_problem(&reply, status, slug);
    }
}

#[test]
fn the_log_names_urls_by_fingerprint_alone() {
    let world = FakeWorld::new();
    post(&world, r#"{"url": "https://here.example/?token=secret"}"#);
    assert_eq!(
        *world.logged.borrow(),
        [(
            LogLevel::Info,
            "code0 leads to the url abababababababab".to_owned()
        )]
    );
}

#[test]
fn the_front_page_tells_the_paths() {
    let reply = ask(&FakeWorld::new(), "GET", "/");
    assert_eq!(reply.status, 200);
    assert_eq!(json_of(&reply)["name"], "shortlink");
}
