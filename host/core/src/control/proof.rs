//! Signed commands: what a host believes of those who command it (D1).
//!
//! ```text
//! request ──▶ a question? ──────────────────────────────────────────▶ answered
//!                 │ no
//!                 ▼
//!             no signature ──▶ refused where signatures are required, else carried out as ever
//!             a signature ──▶ token, trust, lattice, subject, body, times ──▶ its id taken once ──▶ carried out
//! ```
//!
//! A signature that is there is held to all of this in both modes; but where none is required, that of an account which
//! this host does not know is as good as none, since `wash` signs for whoever has a key. Ids are taken in this host's own memory, which
//! outlives it ([`replay`]), and, for what any host of a queue group may take, in the lattice's ([`CommandLedger`]), so
//! that a command cannot be carried out by two of them. Links are signed beside that, each for itself: [`links`].
//!
//! Every command leaves a line in the log, with who signed it. Refusals do too, as many as a second bears.

mod links;
mod refusal;
mod replay;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Message;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use trellis_claims::{CommandClaims, CommandToken, TokenError, TrustRoots, UnixTime};
use trellis_lattice::connection::Connection;
use trellis_lattice::ledger::CommandLedger;
use trellis_lattice::state::LinkBelief;
use trellis_protocol::control::Ack;
use trellis_protocol::control::proof::{SIGNATURE_BYTES_MAX, SIGNATURE_HEADER, is_question};
use trellis_protocol::subject::ControlRequest;

use super::{Answer, refused};
use crate::host::HostInner;
pub(crate) use links::LinkTrust;
pub(crate) use refusal::Refusal;
use replay::{Replays, Taken};

/// Refused commands that are logged in a second. The next line says how many were left out.
const REFUSALS_LOGGED_PER_SECOND: u32 = 20;

/// What a host needs to judge signatures.
#[derive(Debug)]
pub(crate) struct Signatures {
    lattice: String,
    trust: Arc<TrustRoots>,
    required: bool,
    replays: Mutex<Replays>,
    /// For commands that several hosts could take; only where signatures are required do they protect anything.
    ledger: Option<Arc<CommandLedger>>,
    links: Arc<LinkTrust>,
    refusals: Mutex<RefusalLog>,
}

impl Signatures {
    /// Reads what a former run of the host has seen. What cannot be read is said in the log, and counts as nothing.
    pub(crate) fn open(
        state_dir: &Path,
        connection: &Connection,
        trust: Arc<TrustRoots>,
        required: bool,
    ) -> Self {
        let lattice = connection.lattice().to_string();
        if required && trust.is_empty() {
            tracing::warn!(
                "this host takes signed commands alone, and trusts nobody's signature: nobody can command it"
            );
        }
        Self {
            links: Arc::new(LinkTrust::open(
                state_dir,
                &lattice,
                Arc::clone(&trust),
                required,
            )),
            ledger: required.then(|| Arc::new(CommandLedger::new(connection))),
            replays: Mutex::new(Replays::open(state_dir, UnixTime::now())),
            refusals: Mutex::default(),
            lattice,
            trust,
            required,
        }
    }

    /// What decides which links of the state take effect, where that is not all of them.
    pub(crate) fn belief(&self) -> Option<Arc<dyn LinkBelief>> {
        let links: Arc<dyn LinkBelief> = Arc::clone(&self.links) as _;
        self.required.then_some(links)
    }

    /// Who is believed about links.
    pub(crate) fn links(&self) -> &Arc<LinkTrust> {
        &self.links
    }

    /// Judges a command. `None`: nobody whom this host knows signed it, which it allows.
    fn check(&self, message: &Message, now: UnixTime) -> Result<Option<CommandClaims>, Refusal> {
        let Some(token) = signature(message)? else {
            return if self.required {
                Err(Refusal::unsigned("command"))
            } else {
                Ok(None)
            };
        };
        let claims = match CommandToken::verify(token, &self.trust, now) {
            Err(error) if !self.required && is_of_a_stranger(&error) => return Ok(None),
            verified => verified?,
        };
        claims.check(&self.lattice, &message.subject, &message.payload)?;
        let until = claims.validity.expires;
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        match replays.take(id(&claims), until, now) {
            Taken::First => Ok(Some(claims)),
            Taken::Again => Err(Refusal::replayed()),
            Taken::NoRoom => Err(Refusal::no_room()),
        }
    }

    fn log_refusal(&self, refusal: &Refusal, request: &ControlRequest<'_>) {
        let mut log = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = log.permits(Instant::now()) else {
            return;
        };
        tracing::warn!(
            command = format_args!("{}.{}", request.noun, request.verb),
            about = request.argument.unwrap_or_default(),
            code = refusal.code,
            reason = refusal.reason,
            left_out,
            "a command was refused"
        );
    }
}

/// Carries out a request if its signature, or the want of one, allows it.
pub(super) fn guarded(
    shared: &Arc<HostInner>,
    message: &Message,
    request: &ControlRequest<'_>,
    route: impl FnOnce() -> Answer,
) -> Answer {
    if is_question(request.noun, request.verb) {
        return route();
    }
    let signatures = &shared.signatures;
    let claims = match signatures.check(message, UnixTime::now()) {
        Ok(claims) => claims,
        Err(refusal) => {
            signatures.log_refusal(&refusal, request);
            return refused(refusal.to_string());
        }
    };
    tracing::info!(
        command = format_args!("{}.{}", request.noun, request.verb),
        about = request.argument.unwrap_or_default(),
        who = claims
            .as_ref()
            .map_or("unsigned", |claims| claims.issuer.as_str()),
        token = claims.as_ref().map(|claims| claims.token_id.as_str()),
        "a command was taken"
    );
    let answer = route();
    match (&signatures.ledger, claims, answer) {
        // What is left to do has not begun: see `Answer::Later`.
        (Some(ledger), Some(claims), Answer::Later(work)) if is_for_any_host(request.noun) => {
            let ledger = Arc::clone(ledger);
            Answer::Later(Box::pin(async move {
                match ledger.take(&HEXLOWER.encode(&id(&claims))).await {
                    Ok(true) => work.await,
                    Ok(false) => Ack::refused(Refusal::replayed().to_string()).to_bytes(),
                    Err(error) => Ack::refused(Refusal::unchecked(&error).to_string()).to_bytes(),
                }
            }))
        }
        (_, _, answer) => answer,
    }
}

/// Whether a token is in order, and nobody here trusts who signed it.
fn is_of_a_stranger(error: &TokenError) -> bool {
    matches!(
        error,
        TokenError::UntrustedIssuer { .. } | TokenError::BrokenChain { .. }
    )
}

/// Whether the server chooses the host.
fn is_for_any_host(noun: &str) -> bool {
    matches!(noun, "link" | "config" | "claims")
}

/// The header that holds the signature, if there is one, and no more than one.
fn signature(message: &Message) -> Result<Option<&str>, Refusal> {
    let Some(headers) = &message.headers else {
        return Ok(None);
    };
    let mut values = headers.get_all(SIGNATURE_HEADER);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::malformed("the request has several signatures"));
    }
    let token = value.as_str();
    if token.len() > SIGNATURE_BYTES_MAX {
        return Err(Refusal::malformed(format_args!(
            "the signature has {} bytes, at most {SIGNATURE_BYTES_MAX} are accepted",
            token.len()
        )));
    }
    Ok(Some(token))
}

/// What a command is remembered by. Ids are chosen by signers, each for itself.
fn id(claims: &CommandClaims) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(claims.issuer.as_str());
    hash.update([0]);
    hash.update(&claims.token_id);
    hash.finalize().into()
}

/// Lets so many lines through in a second, and counts the others.
#[derive(Debug, Default)]
struct RefusalLog {
    since: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl RefusalLog {
    /// How many lines were left out before this one, or `None` if it is to be left out as well.
    fn permits(&mut self, now: Instant) -> Option<u64> {
        let begun = self
            .since
            .is_some_and(|since| now.duration_since(since) < Duration::from_secs(1));
        if !begun {
            self.since = Some(now);
            self.logged = 0;
        }
        if self.logged >= REFUSALS_LOGGED_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_logged_in_part_and_the_rest_counted() {
        let mut log = RefusalLog::default();
        let now = Instant::now();
        let logged = (0..1_000).filter(|_| log.permits(now).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(log.permits(now + Duration::from_secs(1)), Some(980));
        assert_eq!(log.permits(now + Duration::from_secs(1)), Some(0));
    }
}
