//! Where an actor's standard output and error go: into the host's log, line by line, with the actor's id.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{self, AsyncWrite};
use trellis_protocol::EntityId;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::limits::{OUTPUT_BYTES_MAX, OUTPUT_LINE_BYTES_MAX};

/// Which of the two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A stream of one invocation. Clones write to the same lines.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    actor: EntityId,
    stream: Stream,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    pending: Vec<u8>,
    logged_bytes: usize,
    loss_said: bool,
}

impl Output {
    pub(crate) fn new(actor: EntityId, stream: Stream) -> Self {
        Self {
            actor,
            stream,
            lines: Arc::default(),
        }
    }

    fn write(&self, mut bytes: &[u8]) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            lines.append(line);
            lines.log(&self.actor, self.stream);
            bytes = &rest[1..];
        }
        lines.append(bytes);
    }
}

impl Lines {
    /// What exceeds the longest line is dropped here, so that a guest cannot grow the buffer.
    fn append(&mut self, bytes: &[u8]) {
        let room = OUTPUT_LINE_BYTES_MAX - self.pending.len();
        self.pending
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn log(&mut self, actor: &EntityId, stream: Stream) {
        let line = std::mem::take(&mut self.pending);
        if self.logged_bytes >= OUTPUT_BYTES_MAX {
            if !std::mem::replace(&mut self.loss_said, true) {
                tracing::warn!(target: "actor", actor_id = %actor, limit_bytes = OUTPUT_BYTES_MAX, "the actor's output exceeds what one invocation may log, the rest is dropped");
            }
            return;
        }
        self.logged_bytes += line.len() + 1;
        let text = String::from_utf8_lossy(&line);
        match stream {
            Stream::Stdout => {
                tracing::info!(target: "actor", actor_id = %actor, stream = "stdout", "{text}");
            }
            Stream::Stderr => {
                tracing::warn!(target: "actor", actor_id = %actor, stream = "stderr", "{text}");
            }
        }
    }
}

impl Drop for Output {
    /// The last line may lack its end.
    fn drop(&mut self) {
        if let Some(lines) = Arc::get_mut(&mut self.lines) {
            let lines = lines.get_mut().unwrap_or_else(PoisonError::into_inner);
            if !lines.pending.is_empty() {
                lines.log(&self.actor, self.stream);
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_does_not_grow_the_buffer() {
        let output = Output::new(EntityId::new("a").expect("an id"), Stream::Stdout);
        for _ in 0..100 {
            output.write(&[b'x'; 1000]);
        }
        let lines = output.lines.lock().expect("no panic");
        assert_eq!(lines.pending.len(), OUTPUT_LINE_BYTES_MAX);
    }

    #[test]
    fn one_invocation_logs_no_more_than_its_limit() {
        let output = Output::new(EntityId::new("a").expect("an id"), Stream::Stderr);
        for _ in 0..10_000 {
            output.write(b"0123456789012345678901234567890123456789\n");
        }
        let lines = output.lines.lock().expect("no panic");
        assert!(lines.logged_bytes <= OUTPUT_BYTES_MAX + 41);
        assert!(lines.loss_said);
    }
}
