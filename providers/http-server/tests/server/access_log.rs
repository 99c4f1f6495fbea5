//! The line that each request leaves.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;
use trellis_provider_sdk::Body;

use crate::actors::{linked, ok};
use crate::wire::{Wire, get, soon};

#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// The access log of all tests.
    ///
    /// One for the process, there before the first request: a log that only one thread wants can be missed by callsites
    /// that other threads meet at that moment.
    pub(crate) fn of_all_tests() -> &'static Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        LINES.get_or_init(|| {
            let lines = Self::default();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(lines.clone())
                .with_env_filter("access=info")
                .init();
            lines
        })
    }

    /// Waits for a line of the access log that has all these parts.
    async fn expect(&self, parts: &[&str]) -> String {
        soon(async {
            loop {
                let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
                let line = text
                    .lines()
                    .find(|line| parts.iter().all(|part| line.contains(part)));
                if let Some(line) = line {
                    return line.to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

#[tokio::test]
async fn a_request_leaves_one_line_without_its_query() {
    let lines = Lines::of_all_tests();
    let started = Arc::new(Notify::new());
    let begun = started.clone();
    let (_server, address) = linked(&[], &[], move |_, request| {
        let begun = begun.clone();
        async move {
            if request.uri().path() == "/logged" {
                return ok("four");
            }
            begun.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    assert_eq!(wire.ask(get("/logged?token=secret")).await.status, 200);
    let line = lines
        .expect(&[
            "access",
            "GET",
            "/logged",
            "status=200",
            "bytes=4",
            "actor_id=\"actor\"",
            "complete=true",
        ])
        .await;
    assert!(!line.contains("secret"), "{line}");
    wire.send(get("/logged-never")).await;
    soon(started.notified()).await;
    drop(wire);
    lines
        .expect(&["/logged-never", "status=499", "complete=false"])
        .await;
}

/// The connection takes as many bytes as were declared and does not ask whether there are more.
#[tokio::test]
async fn a_body_of_declared_length_is_complete_with_its_last_byte() {
    let lines = Lines::of_all_tests();
    let (seen, mut called) = tokio::sync::mpsc::unbounded_channel();
    let (_server, address) = linked(&[], &[], move |call, request| {
        let seen = seen.clone();
        async move {
            let declared = request.uri().query().unwrap_or_default().to_owned();
            let frames = stream::iter(["fo", "ur"])
                .map(|part| Ok(Frame::data(Bytes::from(part))))
                // It says nothing of its end.
                .chain(stream::pending());
            seen.send(call.cancel).unwrap();
            Ok(Response::builder()
                .header("content-length", declared)
                .body(Body::new(StreamBody::new(frames)))
                .unwrap())
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    let reply = wire.ask(get("/declared?4")).await;
    assert_eq!(reply.body, "four");
    lines
        .expect(&["/declared", "bytes=4", "complete=true"])
        .await;
    let cancel = soon(called.recv()).await.unwrap();
    assert!(!cancel.is_cancelled(), "the actor may finish");

    let mut short = Wire::open(address).await;
    short.send(get("/short?5")).await;
    short.head().await;
    short.bytes(4).await;
    drop(short);
    lines.expect(&["/short", "bytes=4", "complete=false"]).await;
    let cancel = soon(called.recv()).await.unwrap();
    soon(cancel.cancelled()).await;
}
