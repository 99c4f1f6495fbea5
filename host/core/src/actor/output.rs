//! Where an actor's standard output and error go: into the host's log, line by line, with the actor's id.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{self, AsyncWrite};
use trellis_protocol::EntityId;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::limits::{OUTPUT_BYTES_MAX, OUTPUT_LINE_BYTES_MAX};

/// What one invocation may still log, on whatever way: standard output, standard error or `wasi:logging`.
#[derive(Debug, Clone)]
pub(crate) struct Allowance(Arc<Mutex<Left>>);

#[derive(Debug)]
struct Left {
    bytes: usize,
    loss_said: bool,
}

impl Allowance {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Left {
            bytes: OUTPUT_BYTES_MAX,
            loss_said: false,
        })))
    }

    /// Takes room for a line; `false` where the invocation has logged enough. That is said once.
    pub(crate) fn take(&self, actor: &EntityId, bytes: usize) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An empty line costs the host a line, too.
        if let Some(rest) = left.bytes.checked_sub(bytes + 1) {
            left.bytes = rest;
            return true;
        }
        left.bytes = 0;
        if !std::mem::replace(&mut left.loss_said, true) {
            tracing::warn!(target: "actor", actor_id = %actor, limit_bytes = OUTPUT_BYTES_MAX, "the actor's output exceeds what one invocation may log, the rest is dropped");
        }
        false
    }
}

/// A guest's text as it may stand in a log: cut, and without what would look like another line or another order.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(OUTPUT_LINE_BYTES_MAX)];
    let odd = |c: char| (c.is_control() && c != '\t') || is_bidi_control(c);
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if odd(character) {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

/// Characters that reorder what stands around them.
fn is_bidi_control(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

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
    allowance: Allowance,
    pending: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    pub(crate) fn new(actor: EntityId, stream: Stream, allowance: Allowance) -> Self {
        Self {
            actor,
            stream,
            allowance,
            pending: Arc::default(),
        }
    }

    fn write(&self, mut bytes: &[u8]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            append(&mut pending, line);
            self.log(&std::mem::take(&mut *pending));
            bytes = &rest[1..];
        }
        append(&mut pending, bytes);
    }

    fn log(&self, line: &[u8]) {
        let actor = &self.actor;
        if !self.allowance.take(actor, line.len()) {
            return;
        }
        let text = String::from_utf8_lossy(line);
        let text = printable(&text);
        match self.stream {
            Stream::Stdout => {
                tracing::info!(target: "actor", actor_id = %actor, stream = "stdout", "{text}");
            }
            Stream::Stderr => {
                tracing::warn!(target: "actor", actor_id = %actor, stream = "stderr", "{text}");
            }
        }
    }
}

/// What exceeds the longest line is dropped here, so that a guest cannot grow the buffer.
fn append(pending: &mut Vec<u8>, bytes: &[u8]) {
    let room = OUTPUT_LINE_BYTES_MAX - pending.len();
    pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Drop for Output {
    /// The last line may lack its end.
    fn drop(&mut self) {
        if let Some(pending) = Arc::get_mut(&mut self.pending) {
            let line = std::mem::take(pending.get_mut().unwrap_or_else(PoisonError::into_inner));
            if !line.is_empty() {
                self.log(&line);
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

    /// Written at once, on the guest's own task. The usual adapter writes in a task that is aborted with the guest, and
    /// the last words of one that traps would be lost with it.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(OUTPUT_BYTES_MAX)
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

    fn output(allowance: &Allowance) -> Output {
        let actor = EntityId::new("a").expect("an id");
        Output::new(actor, Stream::Stdout, allowance.clone())
    }

    #[test]
    fn a_line_without_end_does_not_grow_the_buffer() {
        let output = output(&Allowance::new());
        for _ in 0..100 {
            output.write(&[b'x'; 1000]);
        }
        let pending = output.pending.lock().expect("no panic");
        assert_eq!(pending.len(), OUTPUT_LINE_BYTES_MAX);
    }

    #[test]
    fn one_invocation_logs_no_more_than_its_limit_on_all_ways_together() {
        let allowance = Allowance::new();
        let (first, second) = (output(&allowance), output(&allowance));
        for _ in 0..10_000 {
            first.write(b"0123456789012345678901234567890123456789\n");
            second.write(b"\n");
        }
        let actor = EntityId::new("a").expect("an id");
        assert!(!allowance.take(&actor, 0));
        assert!(allowance.0.lock().expect("no panic").loss_said);
    }

    #[test]
    fn the_last_byte_of_the_allowance_is_granted_and_one_more_is_not() {
        let actor = EntityId::new("a").expect("an id");
        assert!(Allowance::new().take(&actor, OUTPUT_BYTES_MAX - 1));
        assert!(!Allowance::new().take(&actor, OUTPUT_BYTES_MAX));
    }

    #[test]
    fn a_guest_cannot_forge_a_line_of_the_log() {
        assert_eq!(
            printable("x\n2026 ERROR forged\r\u{1b}[2K\u{202e}"),
            "x\\u{a}2026 ERROR forged\\u{d}\\u{1b}[2K\\u{202e}"
        );
        assert_eq!(printable("tab\tand ümläut"), "tab\tand ümläut");
        assert_eq!(
            printable(&"ä".repeat(OUTPUT_LINE_BYTES_MAX)).len(),
            OUTPUT_LINE_BYTES_MAX
        );
    }
}
