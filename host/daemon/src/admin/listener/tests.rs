use std::net::Ipv4Addr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Longest wait of any step.
const STEP_MAX: Duration = Duration::from_secs(20);

async fn serve(limits: Limits) -> Listening {
    let subject = Arc::new(Subject::new(Handle::current()));
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into())
        .await
        .expect("a port is free");
    listen_within(listener, subject, &Handle::current(), limits).expect("it listens")
}

async fn connect(to: &Listening) -> TcpStream {
    TcpStream::connect(to.address()).await.expect("it accepts")
}

/// What comes back for these bytes until the connection ends.
async fn exchange(to: &Listening, bytes: &[u8]) -> String {
    let mut stream = connect(to).await;
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes).await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let reading = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(STEP_MAX, reading)
        .await
        .expect("it ends in time");
    String::from_utf8_lossy(&text).into_owned()
}

async fn ask(to: &Listening, method: &str, path: &str) -> String {
    exchange(
        to,
        format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_is_live_and_not_ready_before_its_host_has_started() {
    let admin = serve(Limits::default()).await;
    let live = ask(&admin, "GET", "/livez").await;
    assert!(
        live.starts_with("HTTP/1.1 200 ") && live.ends_with("\r\n\r\nlive\n"),
        "{live}"
    );
    let ready = ask(&admin, "GET", "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(
        ready.ends_with("not ready\nrunning: not ready: the host has not started yet\n"),
        "{ready}"
    );
    assert!(
        ask(&admin, "GET", "/metrics")
            .await
            .starts_with("HTTP/1.1 503 ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_there_is_is_answered_and_only_to_get_and_head() {
    let admin = serve(Limits::default()).await;
    let head = ask(&admin, "HEAD", "/livez").await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = ask(&admin, method, "/livez").await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    }
    for path in ["/", "/livez/", "/metrics2", "/../etc/passwd"] {
        let missing = ask(&admin, "GET", path).await;
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    }
    let query = ask(&admin, "GET", "/livez?verbose").await;
    assert!(query.starts_with("HTTP/1.1 200 "), "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_no_proper_head_is_cut_off_and_others_are_answered() {
    let admin = serve(Limits {
        head: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let begun = Instant::now();
    let slow = exchange(&admin, b"GET /livez HTTP/1.1\r\nhost").await;
    assert!(!slow.contains("200 OK"), "{slow}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let mut large = b"GET /livez HTTP/1.1\r\nhost: a\r\nx: ".to_vec();
    large.resize(HEAD_BYTES_MAX + 1_024, b'x');
    assert!(!exchange(&admin, &large).await.contains("200 OK"));
    let many = "a: b\r\n".repeat(FIELDS_MAX + 1);
    let many = exchange(
        &admin,
        format!("GET /livez HTTP/1.1\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    exchange(
        &admin,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    )
    .await;
    assert!(ask(&admin, "GET", "/livez").await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_than_there_is_room_for_is_closed_until_there_is() {
    let admin = serve(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let (first, second) = (connect(&admin).await, connect(&admin).await);
    // Both are accepted before the third is, since they were there before.
    let third = exchange(&admin, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(third, "");
    drop((first, second));
    let until = Instant::now() + STEP_MAX;
    while !ask(&admin, "GET", "/livez").await.contains("200 OK") {
        assert!(Instant::now() < until, "there is never room again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_listens_no_longer_when_it_is_dropped() {
    let admin = serve(Limits::default()).await;
    let address = admin.address();
    drop(admin);
    let until = Instant::now() + STEP_MAX;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < until, "it still listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let error = bind(address).await.expect_err("somebody else has it");
    assert_eq!(
        error.to_string(),
        format!("the admin endpoint cannot listen at {address}")
    );
}
