//! The line that each request leaves.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::actors::{linked, ok};
use crate::wire::{Wire, get, soon};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

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
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines.clone())
        .with_env_filter("access=info")
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (_server, address) = linked(&[], &[], |_, request| async move {
        match request.uri().path() {
            "/never" => std::future::pending().await,
            _ => ok("four"),
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    assert_eq!(wire.ask(get("/a?token=secret")).await.status, 200);
    let line = lines
        .expect(&[
            "access",
            "GET",
            "/a",
            "status=200",
            "bytes=4",
            "actor_id=\"actor\"",
            "complete=true",
        ])
        .await;
    assert!(!line.contains("secret"), "{line}");
    wire.send(get("/never")).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(wire);
    lines
        .expect(&["/never", "status=499", "complete=false"])
        .await;
}
