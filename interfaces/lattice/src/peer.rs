//! Calls between hosts, over the data connection: signed frames to the peer's rpc subject, answers to one's own.
//!
//! ```text
//! caller's task ── sign ──▶ NATS ──▶ reader task: verify, dispatch ──▶ callee's task ── PeerHandler
//!       ▲                                                                   │
//!       └── reader task: verify, dispatch ◀── NATS ◀────────── sign ────────┘
//! ```
//!
//! The **reader** takes what arrives for this host, checks it (version, recipient, sender's certificate by way of
//! [`Routes`], incarnations, replay window, signature, in the order of their cost), and hands it to the call it belongs
//! to, or refuses it. It never waits: a call's queue is bounded by the credit it was given, refusals go to the
//! **courier**, a task that signs and sends what nobody's own task can. Verifying is done in the reader and not on a
//! pool: it keeps the order of each sender for free, and costs about 70 µs for a small frame and 240 µs for a full one
//! (measured), which bounds a host at some ten thousand frames a second until sessions make it a microsecond.
//!
//! **Memory.** Bodies and long values are paid from one byte budget for the whole host: a quarter each is for parameters
//! and for results, reserved whole before the first byte is asked for, in order of arrival; the other half is for first
//! frames and bodies, whose windows start small and grow only while half of it is free. Where there is none left, calls
//! are refused as *overloaded*. Calls are bounded in all and for each peer.
//!
//! **Endings.** A caller that drops its future, or whose token is cancelled, sends *cancel*, and the callee's token is
//! cancelled; a handler that does not end then is dropped after [`HANDLER_GRACE`]. A host that leaves the routes fails
//! its calls at once: *outcome unknown*. A gap in a stream's sequence aborts it. Bodies end after [`BODY_IDLE`] without
//! a byte. *No responders* is a hint that anybody may forge (D5): an idempotent call becomes *not here* and may go to
//! the next route; any other does so only where permissions close this host's inbox to others
//! ([`PeerLimits::inbox_is_closed`]), and has an unknown outcome otherwise.
//!
//! What does not authenticate is counted and dropped, and never answered. What a host signed that is not in the routes
//! yet waits a second at most on the **doorstep**, while its roster is asked for, and is then checked as all else. This module does not know what is called, nor
//! whether it may be: that is the [`PeerHandler`]'s, which authorises every call again.

mod body;
mod clock;
mod courier;
mod doorstep;
mod exchange;
mod incoming;
mod outgoing;
mod reader;
mod remote;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_claims::SigningKey;
use trellis_protocol::subject::Subjects;
use trellis_protocol::{InvocationHead, Lease, Refusal};

pub use trellis_flow::BODY_IDLE;
pub use trellis_flow::budget::BUDGET_BYTES_MIN;

use crate::presence::tally;
use crate::routes::Routes;
use exchange::Exchange;
use outgoing::Callee;

/// How long a handler may go on after its caller has gone or its deadline has passed, before it is dropped.
pub const HANDLER_GRACE: Duration = Duration::from_secs(5);

/// How long a call's parameters may wait for room in the byte budget.
pub const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Bytes of bodies and values that a host holds for its peers, where nothing else is configured.
///
/// It bounds what peers may have on the way to this host, so it stays below the 64 MiB at which a NATS server cuts a
/// client off (D4). A thousand bodies can begin in its half.
pub const BUDGET_BYTES_DEFAULT: usize = 32 * 1024 * 1024;

/// Calls that a host takes from all its peers at once, where nothing else is configured.
pub const INCOMING_CALLS_DEFAULT: usize = 4096;

/// Calls that a host takes from one peer at once, where nothing else is configured.
pub const INCOMING_CALLS_PER_PEER_DEFAULT: usize = 1024;

/// Calls that a host has under way to its peers at once, where nothing else is configured.
pub const OUTGOING_CALLS_DEFAULT: usize = 4096;

const _: () = assert!(BUDGET_BYTES_MIN <= BUDGET_BYTES_DEFAULT);
const _: () = assert!(BUDGET_BYTES_DEFAULT < 64 * 1024 * 1024);

/// The body of a request or response that crosses hosts. Polling it asks for more; dropping it stops the sender.
pub type PeerBody = trellis_flow::FlowBody;

/// A peer, as one run of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerHost {
    /// Public key of the host.
    pub key: Arc<str>,
    /// The run of its process.
    pub incarnation: u64,
}

/// What a host does with its peers' calls.
///
/// The caller is authentic, and its certificate lets it speak for `head.source`; nothing else has been decided. The
/// token is cancelled when the caller has gone or the deadline has passed; the future is dropped [`HANDLER_GRACE`] later.
/// A panic is answered as `internal`.
#[async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// Serves a call of a function: its encoded result, or a refusal.
    ///
    /// # Errors
    /// A [`Refusal`], which travels to the caller as it is.
    async fn invoke(
        &self,
        from: &PeerHost,
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
        from: &PeerHost,
        head: InvocationHead,
        deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PeerBody>,
    ) -> Result<http::Response<PeerBody>, Refusal>;

    /// An instance of the peer has ended; the handles given to it can go.
    async fn release(&self, from: &PeerHost, lease: Lease);
}

/// How much a host does for its peers at once.
#[derive(Debug, Clone)]
pub struct PeerLimits {
    /// Bytes of bodies and values held at once. At least [`BUDGET_BYTES_MIN`].
    pub budget_bytes: usize,
    /// Calls taken from all peers.
    pub incoming_calls: usize,
    /// Calls taken from one peer.
    pub incoming_calls_per_peer: usize,
    /// Calls under way to peers.
    pub outgoing_calls: usize,
    /// Whether NATS permissions let nobody but the server publish to this host's inbox, so that *no responders* can be
    /// believed for calls that are not idempotent too.
    pub inbox_is_closed: bool,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            budget_bytes: BUDGET_BYTES_DEFAULT,
            incoming_calls: INCOMING_CALLS_DEFAULT,
            incoming_calls_per_peer: INCOMING_CALLS_PER_PEER_DEFAULT,
            outgoing_calls: OUTGOING_CALLS_DEFAULT,
            inbox_is_closed: false,
        }
    }
}

/// What calls between hosts are started with.
pub struct PeerOptions {
    /// The connection for data.
    pub client: async_nats::Client,
    /// The lattice's subjects.
    pub subjects: Subjects,
    /// The host's key.
    pub key: Arc<SigningKey>,
    /// This run of the process, the same as in its beats.
    pub incarnation: u64,
    /// Who is there, and for whom each may speak.
    pub routes: Routes,
    /// How much at once.
    pub limits: PeerLimits,
}

/// Why calls between hosts could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerStartError {
    /// NATS did not take a subscription.
    #[error("cannot subscribe to `{subject}`: {reason}")]
    Subscribe {
        /// The subject.
        subject: String,
        /// What the client said.
        reason: String,
    },
    /// A limit is too low to work with.
    #[error("{what} of {value} is below {least}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// What was configured.
        value: usize,
        /// The least.
        least: usize,
    },
}

tally::reasons! {
    /// Why a message of a peer, or of somebody who would be one, was dropped or refused.
    pub enum PeerRejection {
        /// The bytes are no envelope.
        Malformed = "malformed",
        /// The envelope's version is unknown.
        UnknownVersion = "unknown-version",
        /// It is for another host.
        WrongRecipient = "wrong-recipient",
        /// It is for a former run of this host, or from a run of the sender that is not the present one.
        WrongIncarnation = "wrong-incarnation",
        /// It came under the subject of another sender.
        Misrouted = "misrouted",
        /// The sender is not in the routes: it has no valid certificate, or is not known yet.
        Stranger = "stranger",
        /// It was taken before, or is too old to tell.
        Replayed = "replayed",
        /// The signature is not the sender's.
        Signature = "signature",
        /// The sender is authentic, and the frame is none.
        BadFrame = "bad-frame",
        /// The sender's certificate does not let it speak for the source or the lease.
        SourceNotAllowed = "source-not-allowed",
        /// It was held back on its way until its deadline had passed.
        TooLate = "too-late",
        /// There is no room for another call.
        Overloaded = "overloaded",
        /// A stream's frame has the wrong sequence, or exceeds the credit given.
        BrokenStream = "broken-stream",
        /// A refusal was not sent, since too many wait.
        RefusalDropped = "refusal-dropped",
    }
}

/// Calls to and from the other hosts. Cloning it is a reference count.
#[derive(Clone)]
pub struct Peers {
    exchange: Arc<Exchange>,
    /// Ends the tasks when the last clone goes.
    _guard: Arc<tokio_util::sync::DropGuard>,
}

impl Peers {
    /// Subscribes, and serves peers' calls from now on.
    ///
    /// # Errors
    /// [`PeerStartError`].
    pub async fn start(
        options: PeerOptions,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<Self, PeerStartError> {
        let least = [
            (
                "the byte budget",
                options.limits.budget_bytes,
                BUDGET_BYTES_MIN,
            ),
            (
                "the count of incoming calls",
                options.limits.incoming_calls,
                1,
            ),
            (
                "the count of incoming calls per peer",
                options.limits.incoming_calls_per_peer,
                1,
            ),
            (
                "the count of outgoing calls",
                options.limits.outgoing_calls,
                1,
            ),
        ];
        for (what, value, least) in least {
            if value < least {
                return Err(PeerStartError::Limit { what, value, least });
            }
        }
        let exchange = reader::start(options, handler).await?;
        let guard = Arc::new(exchange.cancel.clone().drop_guard());
        Ok(Self {
            exchange,
            _guard: guard,
        })
    }

    /// Calls a function of an id that a peer runs. `head.deadline_ms` is set from `deadline`.
    ///
    /// Dropping the future cancels the call at the peer.
    ///
    /// # Errors
    /// `not-here` where the peer is unknown or has nobody listening, and nothing was begun; `outcome-unknown` where it
    /// was lost with the call; `cancelled`, `deadline-exceeded`, `too-large`, `overloaded`; and what the peer refuses.
    pub async fn invoke(
        &self,
        host: &str,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Bytes, Refusal> {
        let callee = Callee {
            host,
            incarnation: None,
        };
        outgoing::invoke(&self.exchange, callee, head, payload, deadline, cancel).await
    }

    /// The same for one run of a peer and no other, as a call on a handle must be: another run knows nothing of it.
    ///
    /// # Errors
    /// `bad-handle` where that run is gone before anything was sent; else as [`Self::invoke`], without its `not-here`
    /// for an unknown peer. The run is looked at as the call is entered, and the call is sealed for it, so a run that
    /// follows at that moment drops it.
    pub async fn invoke_run(
        &self,
        host: &str,
        incarnation: u64,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Bytes, Refusal> {
        let callee = Callee {
            host,
            incarnation: Some(incarnation),
        };
        outgoing::invoke(&self.exchange, callee, head, payload, deadline, cancel).await
    }

    /// Hands an HTTP request to an id that a peer runs. The deadline runs to the response's head; after it, dropping the
    /// response's body, or cancelling the token, stops the peer.
    ///
    /// # Errors
    /// As [`Self::invoke`].
    pub async fn http(
        &self,
        host: &str,
        head: InvocationHead,
        deadline: Instant,
        cancel: &CancellationToken,
        request: http::Request<PeerBody>,
    ) -> Result<http::Response<PeerBody>, Refusal> {
        let callee = Callee {
            host,
            incarnation: None,
        };
        outgoing::http(&self.exchange, callee, head, deadline, cancel, request).await
    }

    /// Tells a peer that an instance has ended. A peer that is not there holds nothing of it any more.
    pub async fn release(&self, host: &str, lease: Lease) {
        outgoing::release(&self.exchange, host, lease).await;
    }

    /// How many messages were dropped or refused, by reason.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        self.exchange.rejected.counts()
    }

    /// Takes no new call, waits for those under way, then ends whatever is left. Says whether all ended by themselves.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.exchange.shutdown(within).await
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("routes", &self.exchange.routes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
