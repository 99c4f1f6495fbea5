//! Bodies: sizes at the edges, pace, and ends of every kind.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use trellis_provider_sdk::http::full;
use trellis_provider_sdk::{Body, BodyError, HttpRequest, OutgoingErrorCode as Code};

use super::server::{Authority, Server};
use super::{Linked, Names, eventually, text};

const MIB: u64 = 1024 * 1024;

/// More than sockets and connections together ever hold back: Linux lets the client's end alone grow to 32 MiB for
/// receiving (`tcp_rmem`) and 4 MiB for sending, while the server's end is kept small.
const ON_THE_WAY_MAX: u64 = 48 * MIB;

/// A body of zeros that counts what is taken from it.
struct Source {
    left: u64,
    taken: Arc<AtomicU64>,
    /// What comes after the last byte.
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Never,
    Broken,
}

impl Source {
    fn body(bytes: u64, end: End) -> (Body, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let source = Self {
            left: bytes,
            taken: Arc::clone(&taken),
            end,
        };
        (Body::new(source), taken)
    }
}

impl http_body::Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        let piece = self.left.min(ZEROS.len() as u64);
        if piece == 0 {
            return match self.end {
                End::Clean => Poll::Ready(None),
                End::Never => Poll::Pending,
                End::Broken => Poll::Ready(Some(Err(BodyError::Disconnected {
                    reason: "the actor ended".to_owned(),
                }))),
            };
        }
        self.left -= piece;
        self.taken.fetch_add(piece, Ordering::SeqCst);
        let piece = &ZEROS[..usize::try_from(piece).unwrap()];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.taken.fetch_or(1 << 63, Ordering::SeqCst);
    }
}

fn was_dropped(taken: &AtomicU64) -> bool {
    taken.load(Ordering::SeqCst) >> 63 == 1
}

fn post(uri: &str, body: Body) -> HttpRequest {
    http::Request::post(uri).body(body).unwrap()
}

/// Reads to the end and gives back how much it was, and how much the sender was ever ahead.
async fn read(mut body: Body, sent: impl Fn() -> u64) -> (u64, u64) {
    let (mut count, mut ahead) = (0, 0);
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        count += bytes.len() as u64;
        ahead = ahead.max(sent().saturating_sub(count));
    }
    (count, ahead)
}

/// A server on either version of HTTP, and a link to it.
async fn either(version: &str) -> (Server, Linked, String) {
    if version == "http/1.1" {
        let server = Server::http().await;
        let linked = Linked::local(server.port).await;
        let url = server.url("");
        return (server, linked, url);
    }
    let authority = Authority::new();
    let server = Server::https(&authority, &["server.example"], &["h2"]).await;
    let host = format!("https://server.example:{}", server.port);
    let file = authority.file();
    let linked = Linked::resolving(
        Names::of(&[("server.example", &["127.0.0.1"])]),
        &[
            ("allowed_hosts", host.as_str()),
            ("allowed_methods", "*"),
            ("allowed_addresses", "127.0.0.1"),
            ("ca_files", file.to_str().unwrap()),
        ],
    )
    .await;
    (server, linked, host)
}

const VERSIONS: [&str; 2] = ["http/1.1", "h2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_arrive_whole_in_both_directions_with_little_on_the_way() {
    for version in VERSIONS {
        let (server, linked, url) = either(version).await;
        for bytes in [0, 1, MIB - 1, MIB, MIB + 1, 100 * MIB] {
            let seen = Arc::clone(&server.seen);
            seen.sent.store(0, Ordering::SeqCst);
            let response = linked.get(&format!("{url}/bytes?n={bytes}")).await.unwrap();
            let (count, ahead) =
                read(response.into_body(), || seen.sent.load(Ordering::SeqCst)).await;
            assert_eq!(count, bytes, "{version}");
            assert!(ahead < ON_THE_WAY_MAX, "{version}: {ahead} of {bytes}");

            seen.received.store(0, Ordering::SeqCst);
            let (body, _) = Source::body(bytes, End::Clean);
            let response = linked
                .send(post(&format!("{url}/count"), body))
                .await
                .unwrap();
            assert_eq!(text(response).await, bytes.to_string(), "{version}");

            let (body, taken) = Source::body(bytes, End::Clean);
            let response = linked
                .send(post(&format!("{url}/echo"), body))
                .await
                .unwrap();
            let taken = || taken.load(Ordering::SeqCst) & !(1 << 63);
            let (count, ahead) = read(response.into_body(), taken).await;
            assert_eq!(count, bytes, "{version}");
            assert!(ahead < ON_THE_WAY_MAX, "{version}: {ahead} of {bytes}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_pauses_stops_the_server() {
    for version in VERSIONS {
        let (server, linked, url) = either(version).await;
        let response = linked
            .get(&format!("{url}/bytes?n={}", 100 * MIB))
            .await
            .unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        // Until nothing moves any more.
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let sent = server.seen.sent.load(Ordering::SeqCst);
            if sent == before {
                break;
            }
            before = sent;
        }
        assert!(before < ON_THE_WAY_MAX, "{version}: {before}");
        // Others on the link go on meanwhile.
        assert!(linked.get(&format!("{url}/head")).await.is_ok());
    }
}

#[tokio::test]
async fn a_server_that_does_not_read_stops_the_writer() {
    for version in VERSIONS {
        let (_server, linked, url) = either(version).await;
        let (body, taken) = Source::body(100 * MIB, End::Clean);
        let caller = linked.caller().within(Duration::from_secs(1));
        let response = caller
            .http(post(&format!("{url}/unread"), body))
            .await
            .unwrap();
        let error = trellis_provider_sdk::OutgoingError::check(response)
            .err()
            .unwrap();
        assert_eq!(error.code, Code::HttpResponseTimeout, "{version}");
        let bytes = taken.load(Ordering::SeqCst) & !(1 << 63);
        assert!(bytes < ON_THE_WAY_MAX, "{version}: {bytes}");
        eventually("the body is let go of", || was_dropped(&taken)).await;
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_both_bodies() {
    for version in VERSIONS {
        let (server, linked, url) = either(version).await;
        let response = linked
            .get(&format!("{url}/bytes?n={}", 100 * MIB))
            .await
            .unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        eventually("the server hears of it", || {
            server.seen.abandoned.load(Ordering::SeqCst) == 1
        })
        .await;

        let (body, taken) = Source::body(MIB, End::Never);
        let response = linked
            .send(post(&format!("{url}/echo"), body))
            .await
            .unwrap();
        drop(response);
        eventually("the request's body is let go of", || was_dropped(&taken)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_request_along() {
    for version in VERSIONS {
        let (server, linked, url) = either(version).await;
        let (body, taken) = Source::body(MIB, End::Never);
        let caller = linked.caller();
        let request = post(&format!("{url}/count"), body);
        let sending = tokio::spawn(async move { caller.http(request).await });
        eventually("all of it is there", || {
            server.seen.received.load(Ordering::SeqCst) == MIB
        })
        .await;
        sending.abort();
        eventually("the request's body is let go of", || was_dropped(&taken)).await;
        eventually("the server hears of it", || {
            server.seen.broken.load(Ordering::SeqCst) == 1
        })
        .await;
    }
}

#[tokio::test]
async fn half_an_upload_never_passes_for_the_whole() {
    for version in VERSIONS {
        let (server, linked, url) = either(version).await;
        let (body, _) = Source::body(MIB, End::Broken);
        let error = linked
            .send(post(&format!("{url}/count"), body))
            .await
            .err()
            .unwrap();
        assert_eq!(error.code, Code::ConnectionTerminated, "{version}");
        eventually("the server hears of it", || {
            server.seen.broken.load(Ordering::SeqCst) == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_is_as_long_as_its_head_says_or_it_is_refused() {
    for version in VERSIONS {
        for declared in [MIB - 1, MIB + 1] {
            let (server, linked, url) = either(version).await;
            let (body, _) = Source::body(MIB, End::Clean);
            let mut request = post(&format!("{url}/count"), body);
            request
                .headers_mut()
                .insert("content-length", declared.into());
            let error = linked.send(request).await.err().unwrap();
            assert_eq!(
                error.code,
                Code::HttpRequestBodySize,
                "{version} {declared}"
            );
            eventually("the server hears of it", || {
                server.seen.broken.load(Ordering::SeqCst) == 1
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused_and_one_at_its_limit_is_not() {
    let server = Server::http().await;
    let limits = [
        ("request_bytes_max", "1048576"),
        ("response_bytes_max", "1048576"),
    ];
    let linked = Linked::local_with(server.port, &limits).await;
    for (bytes, fits) in [(MIB, true), (MIB + 1, false)] {
        let (body, _) = Source::body(bytes, End::Clean);
        let sent = linked.send(post(&server.url("/count"), body)).await;
        let code = sent.err().map(|error| (error.code, error.number));
        assert_eq!(
            code,
            (!fits).then_some((Code::HttpRequestBodySize, Some(MIB)))
        );

        let all = vec![0; usize::try_from(bytes).unwrap()];
        let mut request = post(&server.url("/count"), full(all));
        request.headers_mut().insert("content-length", bytes.into());
        assert_eq!(linked.send(request).await.is_ok(), fits, "told at once");

        let declared = linked.get(&server.url(&format!("/length?n={bytes}"))).await;
        let code = declared.err().map(|error| (error.code, error.number));
        assert_eq!(
            code,
            (!fits).then_some((Code::HttpResponseBodySize, Some(MIB)))
        );

        let body = linked
            .get(&server.url(&format!("/bytes?n={bytes}")))
            .await
            .unwrap();
        let read = body.into_body().collect().await;
        assert_eq!(read.is_ok(), fits);
        if let Err(error) = read {
            assert!(
                matches!(error, BodyError::TooLarge { limit_bytes: MIB }),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn silence_of_both_bodies_ends_a_response_and_silence_of_one_does_not() {
    let server = Server::http().await;
    let linked = Linked::local_with(server.port, &[("body_idle_timeout_ms", "300")]).await;
    let mut body = linked
        .get(&server.url("/silent"))
        .await
        .unwrap()
        .into_body();
    body.frame().await.unwrap().unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::IdleTimeout), "{error}");
    assert!(body.frame().await.is_none());

    // A response that waits for the request's own body is not silent while that comes in.
    let (sender, slow) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
    let echo = server.url("/count");
    let writing = tokio::spawn(async move {
        let mut sender = sender;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        }
    });
    let response = linked.send(post(&echo, Body::new(slow))).await.unwrap();
    assert_eq!(text(response).await, "8");
    writing.await.unwrap();
}

#[tokio::test]
async fn trailers_pass_in_both_directions_and_too_many_do_not() {
    let (server, linked, url) = either("h2").await;
    drop(server);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    let with = |trailers: http::HeaderMap| {
        let body = http_body_util::Full::new(Bytes::from_static(b"body"));
        let body =
            body.with_trailers(async move { Some(Ok::<_, std::convert::Infallible>(trailers)) });
        Body::new(body.map_err(|never| match never {}))
    };
    let request = post(&format!("{url}/echo"), with(trailers.clone()));
    let response = linked.send(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    let mut reserved = trailers.clone();
    reserved.insert("trellis-http-error", "DNS-error".parse().unwrap());
    let request = post(&format!("{url}/echo"), with(reserved));
    let response = linked.send(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
}

#[tokio::test]
async fn a_head_at_its_limit_passes_and_one_beyond_it_does_not() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    // The server adds two fields of its own.
    assert!(linked.get(&server.url("/fields?n=126")).await.is_ok());
    for path in [
        "/fields?n=127",
        "/fields?n=200",
        "/large?n=16384",
        "/large?n=60000",
    ] {
        assert_eq!(
            linked.code(&server.url(path)).await,
            Code::HttpResponseHeaderSectionSize,
            "{path}"
        );
    }
    assert!(linked.get(&server.url("/large?n=16000")).await.is_ok());
}
