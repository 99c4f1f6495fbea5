//! [`HostCertificate`]: a lattice's authority says that a host belongs to it, and which actors the host may run.
//!
//! Issued by `A…` or `O…` for `N…`, with one object beside the registered fields:
//!
//! ```json
//! "trellis": { "lattice": "default", "may_run": ["orders", "shortlink"] }
//! ```
//!
//! The issuer must be a trust root itself: an operator's vouching for an account covers the actors that the account
//! signs, and not hosts, which could then speak for the actors of others. `may_run` holds actor ids, or `*` for all of
//! them; a host without the wildcard can speak for no other actor, whatever becomes of it.

use serde::{Deserialize, Serialize};

use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::label::{ID_BYTES_MAX, is_id};
use crate::token::{self, Registered, Roles, SignError, TokenError, Validity};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

const ROLES: Roles = Roles {
    issuers: &[KeyKind::Account, KeyKind::Operator],
    issuers_in_words: "an account (A) or an operator (O)",
    subject: KeyKind::Host,
    subject_in_words: "a host (N)",
};

/// In `may_run`: every actor.
pub const MAY_RUN_ANY: &str = "*";

/// What a lattice's authority says about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// The authority, `A…` or `O…`.
    pub issuer: PublicKey,
    /// The host, `N…`.
    pub subject: PublicKey,
    /// The lattice that it belongs to.
    pub lattice: String,
    /// Ids of actors that it may run, or [`MAY_RUN_ANY`].
    pub may_run: Vec<String>,
    /// When the certificate was made.
    pub issued_at: UnixTime,
    /// From when until when it is valid.
    pub validity: Validity,
    /// The certificate's own id, by which it can be revoked.
    pub token_id: String,
}

/// A host certificate to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHostCertificate {
    /// The host, `N…`.
    pub subject: PublicKey,
    /// The lattice that it is to belong to.
    pub lattice: String,
    /// Ids of actors that it may run, or [`MAY_RUN_ANY`]. None: it may run nothing.
    pub may_run: Vec<String>,
    /// From when until when.
    pub validity: Validity,
}

impl HostCertificate {
    /// Makes a certificate, signed by a lattice's authority.
    ///
    /// # Errors
    /// [`SignError`] if a key is of the wrong kind, a name is none, or the certificate would never be valid or be too
    /// large.
    pub fn issue(
        new: &NewHostCertificate,
        authority: &SigningKey,
        now: UnixTime,
    ) -> Result<String, SignError> {
        let trellis = Wire {
            lattice: new.lattice.clone(),
            may_run: new.may_run.clone(),
        };
        trellis.check().map_err(SignError::from_field)?;
        let body = Body { trellis };
        token::seal(authority, &new.subject, &ROLES, new.validity, now, body)
    }

    /// What the certificate says, once its signature, its times, its authority and its lattice have been checked.
    ///
    /// That the host at the other end holds the certified key is for the session to prove.
    ///
    /// # Errors
    /// [`TokenError`], by cause; [`TokenError::WrongSubject`] for the certificate of another lattice.
    pub fn verify(
        token: &str,
        lattice: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<Self, TokenError> {
        let (registered, body) = token::open(token, &ROLES)?;
        let certificate = Self::new(registered, body)?;
        certificate.validity.check(now)?;
        if !roots.contains(&certificate.issuer) {
            return Err(TokenError::UntrustedIssuer {
                issuer: certificate.issuer,
            });
        }
        if certificate.lattice != lattice {
            return Err(TokenError::WrongSubject {
                expected: format!("lattice {lattice}"),
                found: format!("lattice {}", certificate.lattice),
            });
        }
        Ok(certificate)
    }

    /// What the certificate says, whoever made it and whenever. For showing to people, never for deciding.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be read.
    pub fn decode_unverified(token: &str) -> Result<Self, TokenError> {
        let (registered, body) = token::decode_unverified(token, &ROLES)?;
        Self::new(registered, body)
    }

    /// Whether the host may run the actor with this id, and so may speak for it.
    #[must_use]
    pub fn may_run(&self, actor_id: &str) -> bool {
        self.may_run
            .iter()
            .any(|allowed| allowed == MAY_RUN_ANY || allowed == actor_id)
    }

    fn new(registered: Registered, body: Body) -> Result<Self, TokenError> {
        body.trellis.check()?;
        Ok(Self {
            issuer: registered.issuer,
            subject: registered.subject,
            lattice: body.trellis.lattice,
            may_run: body.trellis.may_run,
            issued_at: registered.issued_at,
            validity: registered.validity,
            token_id: registered.token_id,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    trellis: Wire,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    lattice: String,
    may_run: Vec<String>,
}

impl Wire {
    fn check(&self) -> Result<(), TokenError> {
        let fault = |field, allowed| {
            TokenError::malformed(format_args!(
                "`{field}` is not {allowed} of 1 to {ID_BYTES_MAX} letters, digits, `_` and `-`"
            ))
        };
        if !is_id(&self.lattice) {
            return Err(fault("lattice", "a name"));
        }
        let allowed = |pattern: &String| pattern == MAY_RUN_ANY || is_id(pattern);
        if !self.may_run.iter().all(allowed) {
            return Err(fault("may_run", "`*` or ids"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
