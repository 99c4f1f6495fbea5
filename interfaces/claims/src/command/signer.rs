//! [`CommandSigner`]: the hand of an operator. It signs commands and links with an account's key.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::link::{LINK_LIFETIME, LinkSaid, LinkStatement, LinkWire, UnlinkSaid};
use super::{
    Body, COMMAND_LIFETIME, CommandSaid, CommandWire, ROLES, SUBJECT_BYTES_MAX, Trellis, body_hash,
    no_lattice,
};
use crate::account::check_vouching;
use crate::content_hash::ContentHash;
use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::label::is_id;
use crate::token::{self, SignError, TokenError, Validity, check_text, new_token_id};
use crate::unix_time::UnixTime;

/// Signs commands and links in the name of an account. Cloning shares the key.
#[derive(Debug, Clone)]
pub struct CommandSigner {
    account: Arc<SigningKey>,
    account_token: Option<String>,
}

impl CommandSigner {
    /// A hand that holds an account's key, and the token by which an operator vouches for it, where hosts trust the
    /// operator alone.
    ///
    /// # Errors
    /// [`SignError::WrongKeyKind`] for the key of anything but an account, [`SignError::AccountToken`] for a token that
    /// is about another account.
    pub fn new(account: Arc<SigningKey>, account_token: Option<String>) -> Result<Self, SignError> {
        if account.kind() != KeyKind::Account {
            return Err(SignError::WrongKeyKind {
                role: "the signer",
                expected: ROLES.issuers_in_words,
                found: account.kind(),
            });
        }
        if let Some(vouching) = &account_token {
            check_vouching(vouching, account.public())?;
        }
        Ok(Self {
            account,
            account_token,
        })
    }

    /// In whose name it signs.
    #[must_use]
    pub fn account(&self) -> &PublicKey {
        self.account.public()
    }

    /// Signs a control request: this body, published on this subject, in this lattice, within the next minute.
    ///
    /// # Errors
    /// [`SignError::InvalidField`] for a lattice or subject that cannot be one.
    pub fn sign_command(
        &self,
        lattice: &str,
        subject: &str,
        body: &[u8],
        at: SystemTime,
    ) -> Result<String, SignError> {
        self.sign_command_as(new_token_id(), lattice, subject, body, at)
    }

    pub(super) fn sign_command_as(
        &self,
        id: String,
        lattice: &str,
        subject: &str,
        body: &[u8],
        at: SystemTime,
    ) -> Result<String, SignError> {
        check_lattice(lattice)?;
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(SignError::InvalidField {
                fault: format!("a subject has 1 to {SUBJECT_BYTES_MAX} bytes"),
            });
        }
        let command = CommandSaid {
            lattice: lattice.to_owned(),
            subject: subject.to_owned(),
            body: ContentHash::from_bytes(body_hash(body)),
        };
        self.seal(id, CommandWire { command }, at.into(), COMMAND_LIFETIME)
    }

    /// Signs what is said about a link in a lattice. It holds for [`LINK_LIFETIME`].
    ///
    /// # Errors
    /// [`SignError::InvalidField`] for names that cannot be any.
    pub fn sign_link(
        &self,
        lattice: &str,
        statement: &LinkStatement,
        at: SystemTime,
    ) -> Result<String, SignError> {
        self.sign_link_as(new_token_id(), lattice, statement, at)
    }

    pub(super) fn sign_link_as(
        &self,
        id: String,
        lattice: &str,
        statement: &LinkStatement,
        at: SystemTime,
    ) -> Result<String, SignError> {
        check_lattice(lattice)?;
        let lattice = lattice.to_owned();
        let at_ms = unix_millis(at);
        let said = match statement {
            LinkStatement::Put { fields } => LinkWire::Link(LinkSaid {
                lattice,
                at: at_ms,
                fields: ContentHash::from_bytes(*fields),
            }),
            LinkStatement::Delete {
                source,
                name,
                package,
            } => {
                if !is_id(source) || !is_id(name) {
                    return Err(SignError::InvalidField {
                        fault: "a link's source and name are ids".to_owned(),
                    });
                }
                check_text("package", package).map_err(SignError::from_field)?;
                LinkWire::Unlink(UnlinkSaid {
                    lattice,
                    at: at_ms,
                    source: source.clone(),
                    name: name.clone(),
                    package: package.clone(),
                })
            }
        };
        self.seal(id, said, UnixTime::from_secs(at_ms / 1000), LINK_LIFETIME)
    }

    fn seal<T: Serialize>(
        &self,
        id: String,
        said: T,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<String, SignError> {
        let trellis = Trellis {
            said,
            account_token: self.account_token.clone(),
        };
        token::seal_as(
            id,
            &self.account,
            self.account.public(),
            &ROLES,
            Validity::starting(now, lifetime),
            now,
            Body { trellis },
        )
    }
}

/// The rule that a reader has, so that nobody signs in vain.
fn check_lattice(lattice: &str) -> Result<(), SignError> {
    if is_id(lattice) {
        return Ok(());
    }
    Err(match no_lattice() {
        TokenError::Malformed { fault } => SignError::InvalidField { fault },
        other => SignError::from_field(other),
    })
}

fn unix_millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
