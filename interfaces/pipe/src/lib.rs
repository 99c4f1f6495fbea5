//! Calls between a host and one of its provider processes, over a local socket.
//!
//! The two ends are alike: each calls functions and hands over HTTP requests, with bodies that stream, and serves the
//! other's. The host alone asks questions (start, links, health, shutdown). `PROTOCOL.md` describes the bytes.
//!
//! ```text
//! caller ─ outgoing ─▶ outbox ─▶ writer task ─▶ socket ─▶ reader task ─▶ incoming ─▶ PipeHandler
//!    ▲                                                                       │
//!    └─────── calls ◀── reader task ◀── socket ◀── writer task ◀── outbox ◀──┘
//! ```
//!
//! The **reader** task never waits for anything but bytes, so neither end can make the other stop reading. The
//! **writer** task takes control frames first, then one frame of each call in turn, as many as there are in one call of
//! the system; where the other end takes nothing for [`STALLED_AFTER`], the pipe ends.
//!
//! **Neither end trusts the other further than this.** Lengths are checked before anything is reserved; bodies and values
//! come out of one byte budget; calls, questions and refusals are counted; a call goes on counting while what it leaves
//! to be written finds no place; frames that come for nothing are paid by those that are of use. Whatever does not keep
//! to the protocol ends the pipe, with the reason in [`PipeEnd`].
//!
//! **Places.** A call counts among those that the callee takes at once until the callee has said its last word. So a
//! *cancel* is answered, once the work has ended; where it is not within [`CANCEL_WAIT`], the pipe ends. When it does, for
//! whatever reason, calls under way fail with `outcome-unknown`, and questions with the reason.

mod calls;
mod error;
mod exchange;
mod incoming;
mod outbox;
mod outgoing;
mod questions;
mod reader;
mod refusals;
mod strays;
mod streams;
mod watch;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio_util::sync::CancellationToken;
use trellis_flow::FlowBody;
use trellis_flow::budget::BUDGET_BYTES_MIN;
use trellis_protocol::pipe::{Control, PIPE_VERSION, PipeFrame};
use trellis_protocol::{InvocationHead, Lease, Refusal};

use crate::exchange::{Exchange, Side};
use crate::outbox::Message;
use crate::reader::Frames;

pub use error::{PipeEnd, PipeError};
pub use trellis_protocol::pipe::{Failure, FailureKind, Hello, PipeLink, PipeLinkEnd, Question};

/// The body of a request or response. Polling it asks for more; dropping it stops the sender.
pub type PipeBody = FlowBody;

/// Bytes of bodies and values that one end holds, where nothing else is configured.
pub const BUDGET_BYTES_DEFAULT: usize = 24 * 1024 * 1024;

/// Calls of the other end that a host takes at once, where nothing else is configured.
pub const INCOMING_CALLS_DEFAULT: usize = 1024;

/// Calls under way to the other end at once, where nothing else is configured.
pub const OUTGOING_CALLS_DEFAULT: usize = 1024;

/// How long the other end may take nothing of what is written.
pub const STALLED_AFTER: Duration = Duration::from_secs(2);

/// How long a handler may go on after its caller has gone or its deadline has passed, before it is dropped.
pub const HANDLER_GRACE: Duration = Duration::from_secs(3);

/// How long the other end may take to end a call whose caller has gone.
pub const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// How long a call's parameters may wait for room in the byte budget.
pub const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Most questions that wait for an answer at once; further ones wait to be asked.
pub const QUESTIONS_MAX: usize = 64;

/// Most releases that wait to be written, and most that a provider works on at once.
pub const RELEASES_MAX: usize = 256;

/// Most refusals by the reader task that wait to be written. Who lets them pile up calls without listening.
const REFUSALS_MAX: usize = 1024;

const _: () = assert!(HANDLER_GRACE.as_millis() < CANCEL_WAIT.as_millis());
const _: () = assert!(BUDGET_BYTES_MIN <= BUDGET_BYTES_DEFAULT);

/// What an end does with the other's calls.
///
/// A call's token is cancelled when its caller has gone or its deadline has passed; the future is dropped
/// [`HANDLER_GRACE`] later. A panic is answered as `internal`.
#[async_trait]
pub trait PipeHandler: Send + Sync + 'static {
    /// Serves a call of a function: its encoded result, or a refusal.
    ///
    /// # Errors
    /// A [`Refusal`], which travels to the caller as it is.
    async fn invoke(
        &self,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal>;

    /// Serves an HTTP request. The deadline runs to the response's head.
    ///
    /// # Errors
    /// A [`Refusal`] where there is no response.
    async fn http(
        &self,
        head: InvocationHead,
        deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PipeBody>,
    ) -> Result<http::Response<PipeBody>, Refusal>;

    /// An instance has ended; the handles given to it can go. At the provider's end only.
    async fn release(&self, lease: Lease);

    /// A host has disappeared. At the provider's end only.
    async fn release_host(&self, host: String);

    /// Answers the host. At the provider's end only: the other end is never asked.
    ///
    /// # Errors
    /// A [`Failure`], which travels to the host as it is.
    async fn answer(&self, question: Question) -> Result<(), Failure>;
}

/// How much an end does at once.
#[derive(Debug, Clone)]
pub struct PipeLimits {
    /// Bytes of bodies and values held at once. At least [`BUDGET_BYTES_MIN`].
    pub budget_bytes: usize,
    /// Calls taken from the other end; at the provider's end, `calls_max` of its hello takes its place.
    pub incoming_calls: usize,
    /// Calls under way to the other end; a provider's `calls_max` may lower it.
    pub outgoing_calls: usize,
}

impl Default for PipeLimits {
    fn default() -> Self {
        Self {
            budget_bytes: BUDGET_BYTES_DEFAULT,
            incoming_calls: INCOMING_CALLS_DEFAULT,
            outgoing_calls: OUTGOING_CALLS_DEFAULT,
        }
    }
}

/// One end of a socket between a host and a provider process. Cloning it is a reference count; when the last clone goes,
/// the pipe ends.
#[derive(Clone)]
pub struct Pipe {
    exchange: Arc<Exchange>,
    _guard: Arc<Guard>,
}

/// Ends the pipe when nobody can use it any more.
struct Guard(Arc<Exchange>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end(PipeEnd::Closed {
            reason: "this end let go of the pipe".to_owned(),
        });
    }
}

impl Pipe {
    /// The host's end: waits for the provider's hello, and serves the provider's calls from then on.
    ///
    /// # Errors
    /// [`PipeError`].
    pub async fn host_end(
        socket: UnixStream,
        limits: PipeLimits,
        handler: Arc<dyn PipeHandler>,
        hello_within: Duration,
    ) -> Result<(Self, Hello), PipeError> {
        limits.check()?;
        let (reading, writing) = socket.into_split();
        let mut frames = Frames::new(reading);
        let first = tokio::time::timeout(hello_within, frames.next()).await;
        let first = first.map_err(|_| PipeError::NoHello(hello_within))??;
        let hello = match first {
            PipeFrame::Control(control) => match *control {
                Control::Hello(hello) => hello,
                other => return Err(no_hello(other.kind()).into()),
            },
            PipeFrame::Call(frame) => return Err(no_hello(frame.kind()).into()),
        };
        if hello.version != PIPE_VERSION {
            return Err(PipeError::Version {
                theirs: hello.version,
                ours: PIPE_VERSION,
            });
        }
        let offered = usize::try_from(hello.calls_max).unwrap_or(usize::MAX);
        let exchange = Exchange::new(
            Side::Host,
            handler,
            limits.budget_bytes,
            limits.incoming_calls,
            limits.outgoing_calls.min(offered),
        );
        Ok((Self::start(exchange, frames, writing), hello))
    }

    /// The provider's end: says hello, and serves the host from then on.
    ///
    /// # Errors
    /// [`PipeError`].
    pub async fn provider_end(
        socket: UnixStream,
        hello: Hello,
        limits: PipeLimits,
        handler: Arc<dyn PipeHandler>,
    ) -> Result<Self, PipeError> {
        limits.check()?;
        let (reading, writing) = socket.into_split();
        let incoming_calls = usize::try_from(hello.calls_max).unwrap_or(usize::MAX);
        let hello = Message::control(&Control::Hello(hello)).map_err(|error| PipeEnd::Closed {
            reason: format!("this provider's hello cannot be sent: {error}"),
        })?;
        writer::write_all(&writing, &[hello]).await?;
        let exchange = Exchange::new(
            Side::Provider,
            handler,
            limits.budget_bytes,
            incoming_calls,
            limits.outgoing_calls,
        );
        Ok(Self::start(exchange, Frames::new(reading), writing))
    }

    fn start(exchange: Exchange, frames: Frames, writing: OwnedWriteHalf) -> Self {
        let exchange = Arc::new(exchange);
        tokio::spawn(reader::run(Arc::clone(&exchange), frames));
        tokio::spawn(writer::run(Arc::clone(&exchange), writing));
        tokio::spawn(watch::run(Arc::clone(&exchange)));
        let guard = Arc::new(Guard(Arc::clone(&exchange)));
        Self {
            exchange,
            _guard: guard,
        }
    }

    /// Calls a function. `head.deadline_ms` is set from `deadline`. Dropping the future cancels the call.
    ///
    /// # Errors
    /// `not-here` where the pipe had ended before; `outcome-unknown` where it ended with the call; `overloaded`,
    /// `cancelled`, `deadline-exceeded`, `too-large`; and what the other end refuses.
    pub async fn invoke(
        &self,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Bytes, Refusal> {
        outgoing::invoke(&self.exchange, head, payload, deadline, cancel).await
    }

    /// Hands over an HTTP request. The deadline runs to the response's head; after it, dropping the response's body, or
    /// cancelling the token, ends the call.
    ///
    /// # Errors
    /// As [`Self::invoke`].
    pub async fn http(
        &self,
        head: InvocationHead,
        deadline: Instant,
        cancel: &CancellationToken,
        request: http::Request<PipeBody>,
    ) -> Result<http::Response<PipeBody>, Refusal> {
        outgoing::http(&self.exchange, head, deadline, cancel, request).await
    }

    /// Tells the provider that an instance has ended. For the host's end.
    pub async fn release(&self, lease: Lease) {
        questions::tell_release(&self.exchange, lease).await;
    }

    /// Tells the provider that a host has disappeared. For the host's end.
    pub async fn release_host(&self, host: &str) {
        questions::tell_release_host(&self.exchange, host).await;
    }

    /// Asks the provider. The caller sets its own time-out. For the host's end.
    ///
    /// Questions may be answered in any order: who asks about one link again waits for the answer before.
    ///
    /// # Errors
    /// [`PipeEnd`] where the pipe ends first.
    pub async fn ask(&self, question: Question) -> Result<Result<(), Failure>, PipeEnd> {
        questions::ask(&self.exchange, question).await
    }

    /// Waits until the pipe has ended, and says why.
    pub async fn ended(&self) -> PipeEnd {
        self.exchange.ended.cancelled().await;
        self.exchange.why_ended()
    }

    /// Ends the pipe. What waits to be written is dropped.
    pub fn close(&self, why: impl Into<String>) {
        self.exchange.end(PipeEnd::Closed { reason: why.into() });
    }

    /// How many calls are under way: of this end to the other, and of the other to this.
    ///
    /// A cancelled call counts until the other end has ended it.
    pub fn calls_under_way(&self) -> (usize, usize) {
        let calls = self.exchange.calls();
        (calls.outgoing_count(), calls.incoming_count())
    }

    /// Bytes that this end holds for the other, or has promised to take.
    pub fn held_bytes(&self) -> usize {
        self.exchange
            .budget_bytes
            .saturating_sub(self.exchange.budget.free())
    }

    /// Bytes of calls that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.exchange.outbox.lanes_bytes()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("side", &self.exchange.side)
            .finish_non_exhaustive()
    }
}

impl PipeLimits {
    fn check(&self) -> Result<(), PipeError> {
        if self.budget_bytes < BUDGET_BYTES_MIN {
            return Err(PipeError::Budget {
                value: self.budget_bytes,
                least: BUDGET_BYTES_MIN,
            });
        }
        Ok(())
    }
}

fn no_hello(kind: &str) -> PipeEnd {
    PipeEnd::broken(format!("its first frame is {kind} and not hello"))
}

#[cfg(test)]
mod tests;
