//! HTTP across hosts: heads, streaming bodies, back-pressure, broken and abandoned bodies.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use tokio_util::sync::CancellationToken;
use trellis_protocol::frame::{Field, Fields, Frame, Stream};
use trellis_protocol::limits::STREAM_WINDOW_BYTES;
use trellis_protocol::{Refusal, RefusalCode};

use super::by_hand::Attack;
use super::fixture::{Host, Lattice, soon};
use super::handler::full;
use crate::connection::fixture::eventually;
use crate::peer::PeerBody;

/// What may be on its way beside a reader that takes nothing: the window, a frame in the sender's hand, a frame in the
/// body's.
const ON_THE_WAY_MAX: usize = STREAM_WINDOW_BYTES as usize + 64 * 1024;

async fn send(
    from: &Host,
    to: &Host,
    function: &str,
    request: http::Request<PeerBody>,
) -> Result<http::Response<PeerBody>, Refusal> {
    let cancel = CancellationToken::new();
    from.peers
        .http(to.id(), from.head("a", function), soon(), &cancel, request)
        .await
}

fn post(body: PeerBody) -> http::Request<PeerBody> {
    let request = http::Request::post("http://shop.example/links?x=1").header("x-given", "yes");
    request.body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_small_bodies_cross_both_ways() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let response = send(&one, &other, "echo", post(full("hello")))
        .await
        .unwrap();
    assert_eq!(response.status(), 207);
    assert_eq!(response.headers()["x-method"], "POST");
    assert_eq!(response.headers()["x-uri"], "http://shop.example/links?x=1");
    assert_eq!(response.headers()["x-given"], "yes");
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    let response = send(&one, &other, "empty", post(full(""))).await.unwrap();
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_follow_the_body() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = [
        http_body::Frame::data(Bytes::from_static(b"data")),
        http_body::Frame::trailers(trailers.clone()),
    ];
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed_unsync();
    let response = send(&one, &other, "echo", post(body)).await.unwrap();
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), "data");
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_bytes_that_come_with_trailers_are_not_lost() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let trailer = Field {
        name: "x-sum".to_owned(),
        value: Bytes::from_static(b"42"),
    };
    let request = Frame::HttpRequest {
        call: 1,
        head: Box::new(attack.head()),
        method: "PUT".to_owned(),
        uri: "/".to_owned(),
        fields: vec![],
        has_body: true,
    };
    let data = |stream, sequence, bytes: &'static [u8], trailers: Option<Fields>| Frame::Data {
        call: 1,
        stream,
        sequence,
        bytes: Bytes::from_static(bytes),
        last: trailers.is_some(),
        trailers,
    };
    let both = data(Stream::ToCallee, 0, b"data", Some(vec![trailer.clone()]));
    attack.say(&request).await;
    attack.say(&both).await;
    let head = answers.next().await.unwrap();
    assert!(matches!(head, Frame::HttpResponse { has_body: true, .. }));
    let echoed = answers.next().await.unwrap();
    assert_eq!(echoed, data(Stream::ToCaller, 0, b"data", None));
    let trailers = answers.next().await.unwrap();
    assert_eq!(
        trailers,
        data(Stream::ToCaller, 1, b"", Some(vec![trailer]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn five_mebibytes_stream_through_both_ways_at_the_pace_of_a_slow_reader() {
    const BYTES: usize = 5 * 1024 * 1024;
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let body = one.handler.endless(BYTES).boxed_unsync();
    let mut response = send(&one, &other, "echo", post(body))
        .await
        .unwrap()
        .into_body();
    let (mut read, mut most) = (0, 0);
    let mut pieces = 0;
    while let Some(frame) = response.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
        most = most.max(one.handler.produced.load(Ordering::SeqCst) - read);
        pieces += 1;
        if pieces % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(read, BYTES);
    // There and back: two windows, and nothing in between holds more.
    assert!(most <= 2 * ON_THE_WAY_MAX, "{most} bytes were on their way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_stops_the_sender_and_one_that_goes_ends_it() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let mut response = send(&one, &other, "endless", post(full("")))
        .await
        .unwrap()
        .into_body();
    response.frame().await.unwrap().unwrap();
    let produced = Arc::clone(&other.handler.produced);
    settled(&produced).await;
    assert!(produced.load(Ordering::SeqCst) <= ON_THE_WAY_MAX);
    drop(response);
    let dropped = || other.handler.dropped.load(Ordering::SeqCst) == 1;
    eventually("the sender has let go of its body", dropped).await;
}

/// Waits until a count stands still.
async fn settled(count: &AtomicUsize) {
    let mut before = usize::MAX;
    while before != count.load(Ordering::SeqCst) {
        before = count.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ignores_a_long_request_stops_its_upload() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let body = one.handler.endless(usize::MAX).boxed_unsync();
    let response = send(&one, &other, "ignore", post(body)).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ignored"
    );
    let dropped = || one.handler.dropped.load(Ordering::SeqCst) == 1;
    eventually("the upload has let go of its body", dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_upload_is_counted_to_its_last_byte() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let body = one.handler.endless(3_000_001).boxed_unsync();
    let response = send(&one, &other, "swallow", post(body)).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "3000001"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_breaks_at_the_reader_with_the_same_code() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let response = send(&one, &other, "break", post(full(""))).await.unwrap();
    let broken = response.into_body().collect().await.unwrap_err();
    assert_eq!(broken.code, RefusalCode::Trapped);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_after_the_head_ends_the_body_and_the_work() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let cancel = CancellationToken::new();
    let head = one.head("a", "endless");
    let sent = one
        .peers
        .http(other.id(), head, soon(), &cancel, post(full("")));
    let mut body = sent.await.unwrap().into_body();
    cancel.cancel();
    let refusal = loop {
        if let Err(refusal) = body.frame().await.unwrap() {
            break refusal;
        }
    };
    assert_eq!(refusal.code, RefusalCode::Cancelled);
    let dropped = || other.handler.dropped.load(Ordering::SeqCst) == 1;
    eventually("the sender has let go of its body", dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_abandoned_bodies_leave_room_for_the_next() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    for _ in 0..40 {
        let requests = (0..50).map(|_| send(&one, &other, "endless", post(full("x"))));
        for response in futures::future::join_all(requests).await {
            response.unwrap();
        }
    }
    let dropped = || other.handler.dropped.load(Ordering::SeqCst) == 2000;
    eventually("every sender has let go of its body", dropped).await;
    let response = send(&one, &other, "echo", post(full("hello")))
        .await
        .unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
}
