//! [`CommandToken`]: an account says that it wants one control request, with exactly these bytes, carried out now.
//!
//! Whoever may publish on NATS could otherwise command a host. The token travels beside the request; it names the
//! lattice, the subject (and so the verb, and the host or configuration it is for) and the hash of the body, lives for
//! two minutes at most, and has an id that a host takes once. Issued by `A…` for itself (`sub` is `iss`), with one object
//! beside the registered fields:
//!
//! ```json
//! "trellis": {
//!   "command": { "lattice": "default", "subject": "wasmbus.ctl.v1.default.link.put", "body": "sha256:…" },
//!   "account_token": "…"
//! }
//! ```
//!
//! The account is believed as the issuer of an actor is: it is a trust root, or `account_token` is the token of an
//! operator that is one. Links, which stay when the command is long forgotten, have tokens of their own: [`LinkToken`].
//! The two cannot stand for each other, nor for any other token of an account: what the object holds differs, and no
//! other sort has an account as its subject that an account issued.
//!
//! This module remembers nothing: that an id is taken once is for the host to see to.

mod link;
mod signer;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::account;
use crate::content_hash::ContentHash;
use crate::key::{KeyKind, PublicKey};
use crate::label::{ID_BYTES_MAX, is_id};
use crate::token::{self, Registered, Roles, TokenError, Validity};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

pub use link::{LINK_LIFETIME, LinkClaims, LinkStatement, LinkToken};
pub use signer::CommandSigner;

const ROLES: Roles = Roles {
    issuers: &[KeyKind::Account],
    issuers_in_words: "an account (A)",
    subject: KeyKind::Account,
    subject_in_words: "an account (A), the issuer itself",
};

/// How long a command is valid that [`CommandSigner`] signs: time for a busy server and for clocks that disagree.
pub const COMMAND_LIFETIME: Duration = Duration::from_secs(60);

/// Longest validity of a command that is accepted. For so long, and the tolerance of clocks, its id must be remembered.
pub const COMMAND_LIFETIME_MAX: Duration = Duration::from_secs(120);

/// Longest NATS subject that a command can name, in bytes: a prefix, the tokens, and the longest name of a configuration.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// What an account says about one control request. Made by [`CommandToken::verify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandClaims {
    /// Who commands, `A…`.
    pub issuer: PublicKey,
    /// The lattice that the command is for.
    pub lattice: String,
    /// The NATS subject that the request is published on.
    pub subject: String,
    /// SHA-256 of the request's body.
    pub body: [u8; 32],
    /// When it was signed.
    pub issued_at: UnixTime,
    /// From when until when it may be carried out.
    pub validity: Validity,
    /// The token's own id, which must be taken once only.
    pub token_id: String,
}

/// Reads commands' tokens.
#[derive(Debug)]
pub struct CommandToken;

impl CommandToken {
    /// What the token says, once its signature, its times, its lifetime and the chain to a trust root have been checked.
    ///
    /// Whether it speaks of the request at hand is for [`CommandClaims::check`] to say.
    ///
    /// # Errors
    /// [`TokenError`], by cause; [`TokenError::LivesTooLong`] beyond [`COMMAND_LIFETIME_MAX`].
    pub fn verify(
        token: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<CommandClaims, TokenError> {
        let (registered, body): (_, Body<CommandWire>) = token::open(token, &ROLES)?;
        check_self_issued(&registered)?;
        let wire = body.trellis.said.command;
        if !is_id(&wire.lattice) {
            return Err(no_lattice());
        }
        if wire.subject.is_empty() || wire.subject.len() > SUBJECT_BYTES_MAX {
            return Err(TokenError::malformed(format_args!(
                "`subject` is not a NATS subject of 1 to {SUBJECT_BYTES_MAX} bytes"
            )));
        }
        let lives = registered
            .validity
            .expires
            .as_secs()
            .saturating_sub(registered.issued_at.as_secs());
        if lives > COMMAND_LIFETIME_MAX.as_secs() {
            return Err(TokenError::LivesTooLong {
                secs: lives,
                max: COMMAND_LIFETIME_MAX.as_secs(),
            });
        }
        registered.validity.check(now)?;
        let account_token = body.trellis.account_token.as_deref();
        account::vouched_for(&registered.issuer, account_token, roots, now)?;
        Ok(CommandClaims {
            issuer: registered.issuer,
            lattice: wire.lattice,
            subject: wire.subject,
            body: *wire.body.as_bytes(),
            issued_at: registered.issued_at,
            validity: registered.validity,
            token_id: registered.token_id,
        })
    }
}

impl CommandClaims {
    /// Refuses a request that the token was not made for.
    ///
    /// # Errors
    /// [`TokenError::WrongSubject`], which names the lattice, the subject, or the body.
    pub fn check(&self, lattice: &str, subject: &str, body: &[u8]) -> Result<(), TokenError> {
        let other = |expected: String, found: String| TokenError::WrongSubject { expected, found };
        if self.lattice != lattice {
            return Err(other(
                format!("the lattice {lattice}"),
                format!("the lattice {}", self.lattice),
            ));
        }
        if self.subject != subject {
            return Err(other(
                format!("`{}`", shown(subject)),
                format!("`{}`", shown(&self.subject)),
            ));
        }
        if self.body != body_hash(body) {
            return Err(other("this body".to_owned(), "another body".to_owned()));
        }
        Ok(())
    }
}

/// A subject is text of a stranger where it does not match, and goes into a message for people.
fn shown(subject: &str) -> String {
    subject
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect()
}

/// The hash by which a command names a body.
#[must_use]
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

fn no_lattice() -> TokenError {
    TokenError::malformed(format_args!(
        "`lattice` is not a name of 1 to {ID_BYTES_MAX} letters, digits, `_` and `-`"
    ))
}

/// An account speaks for itself: a token about another account is of another sort.
fn check_self_issued(registered: &Registered) -> Result<(), TokenError> {
    if registered.issuer == registered.subject {
        return Ok(());
    }
    Err(TokenError::WrongSubject {
        expected: registered.issuer.to_string(),
        found: registered.subject.to_string(),
    })
}

/// The object beside the registered fields.
#[derive(Serialize, Deserialize)]
struct Body<T> {
    trellis: Trellis<T>,
}

#[derive(Serialize, Deserialize)]
struct Trellis<T> {
    #[serde(flatten)]
    said: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_token: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct CommandWire {
    command: CommandSaid,
}

#[derive(Serialize, Deserialize)]
struct CommandSaid {
    lattice: String,
    subject: String,
    body: ContentHash,
}

#[cfg(test)]
mod tests;
