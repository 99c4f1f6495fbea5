//! The line that each request leaves.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;

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
