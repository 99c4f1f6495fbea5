//! [`LinkToken`]: an account says that a link stands as it is, or that it is deleted.
//!
//! It is kept in the lattice's state with the link, so that each host judges the link by itself, whoever wrote it there.
//! Issued by `A…` for itself, with one of two objects beside the registered fields:
//!
//! ```json
//! "trellis": { "link":   { "lattice": "default", "at": 1800000000123, "fields": "sha256:…" } }
//! "trellis": { "unlink": { "lattice": "default", "at": 1800000000123,
//!                          "source": "shortlink", "name": "default", "package": "wasi:keyvalue" } }
//! ```
//!
//! `fields` is a hash over everything that the link says, which the protocol defines. `at` is when it was said, in
//! milliseconds since 1970, in the second of `iat`: of two statements about one link the later one counts, and a host
//! that has seen it believes no earlier one any more. So a link that was deleted cannot be put back by whoever kept it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Body, ROLES, check_self_issued, no_lattice};
use crate::account;
use crate::content_hash::ContentHash;
use crate::key::PublicKey;
use crate::label::is_id;
use crate::token::{self, TokenError, Validity, check_text};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

/// How long a link holds that [`CommandSigner`](super::CommandSigner) signs, as long as claims do: a year.
///
/// It bounds for how long a host that has never seen a deletion, since it is new, could be shown the deleted link.
pub const LINK_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What is said about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatement {
    /// It stands, and this is the hash over everything it says.
    Put {
        /// SHA-256 of the link's fields.
        fields: [u8; 32],
    },
    /// Every link of this source, name and package is deleted.
    Delete {
        /// The id of the source.
        source: String,
        /// The link's name.
        name: String,
        /// Namespace and package, `wasi:keyvalue`.
        package: String,
    },
}

/// What an account says about a link. Made by [`LinkToken::verify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkClaims {
    /// Who says so, `A…`.
    pub issuer: PublicKey,
    /// The lattice that it is said for.
    pub lattice: String,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: u64,
    /// What is said.
    pub statement: LinkStatement,
    /// From when until when it holds.
    pub validity: Validity,
    /// From when until when an operator vouches for the issuer; `None` if the issuer is a trust root itself.
    pub account_validity: Option<Validity>,
}

impl LinkClaims {
    /// Refuses a `now` at which the statement no longer holds, or not yet.
    ///
    /// # Errors
    /// As [`ActorClaims::check_time`](crate::ActorClaims::check_time).
    pub fn check_time(&self, now: UnixTime) -> Result<(), TokenError> {
        account::check_time(&self.issuer, self.validity, self.account_validity, now)
    }

    /// The last second at which it holds: the earlier end of the token and of what vouches for its issuer.
    #[must_use]
    pub fn valid_until(&self) -> UnixTime {
        let own = self.validity.expires;
        self.account_validity
            .map_or(own, |account| own.min(account.expires))
    }
}

/// Reads links' tokens.
#[derive(Debug)]
pub struct LinkToken;

impl LinkToken {
    /// What the token says, once its signature, its times, its lattice and the chain to a trust root have been checked.
    ///
    /// Whether it speaks of the link at hand is for whoever has the link: the hash must be that of its fields.
    ///
    /// # Errors
    /// [`TokenError`], by cause; [`TokenError::WrongSubject`] for a link of another lattice.
    pub fn verify(
        token: &str,
        lattice: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<LinkClaims, TokenError> {
        let (registered, body): (_, Body<LinkWire>) = token::open(token, &ROLES)?;
        check_self_issued(&registered)?;
        let (said_for, at_ms, statement) = match body.trellis.said {
            LinkWire::Link(said) => (
                said.lattice,
                said.at,
                LinkStatement::Put {
                    fields: *said.fields.as_bytes(),
                },
            ),
            LinkWire::Unlink(said) => {
                if !is_id(&said.source) || !is_id(&said.name) {
                    return Err(TokenError::malformed(
                        "`source` or `name` is no name of a link's source, or of a link",
                    ));
                }
                check_text("package", &said.package)?;
                let statement = LinkStatement::Delete {
                    source: said.source,
                    name: said.name,
                    package: said.package,
                };
                (said.lattice, said.at, statement)
            }
        };
        if !is_id(&said_for) {
            return Err(no_lattice());
        }
        if at_ms / 1000 != registered.issued_at.as_secs() {
            return Err(TokenError::malformed("`at` is not in the second of `iat`"));
        }
        if said_for != lattice {
            return Err(TokenError::WrongSubject {
                expected: format!("the lattice {lattice}"),
                found: format!("the lattice {said_for}"),
            });
        }
        registered.validity.check(now)?;
        let account_token = body.trellis.account_token.as_deref();
        let account_validity = account::vouched_for(&registered.issuer, account_token, roots, now)?;
        Ok(LinkClaims {
            issuer: registered.issuer,
            lattice: said_for,
            at_ms,
            statement,
            validity: registered.validity,
            account_validity,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LinkWire {
    Link(LinkSaid),
    Unlink(UnlinkSaid),
}

#[derive(Serialize, Deserialize)]
pub(super) struct LinkSaid {
    pub(super) lattice: String,
    pub(super) at: u64,
    pub(super) fields: ContentHash,
}

#[derive(Serialize, Deserialize)]
pub(super) struct UnlinkSaid {
    pub(super) lattice: String,
    pub(super) at: u64,
    pub(super) source: String,
    pub(super) name: String,
    pub(super) package: String,
}
