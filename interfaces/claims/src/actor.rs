//! [`ActorToken`]: an account says who an actor is, which component it is, and what it may use.
//!
//! Issued by `A…` for `M…`. Beside the registered fields it has one object, under the name that tools for signed
//! WebAssembly know:
//!
//! ```json
//! "wascap": {
//!   "name": "shortlink", "ver": "0.1.0", "rev": 3, "tags": ["demo"], "call_alias": "demo/shortlink",
//!   "caps": ["wasi:http", "wasi:keyvalue/store"], "hash": "sha256:…", "account_token": "…"
//! }
//! ```
//!
//! The account is believed if it is a trust root itself, or if `account_token` is the token of an operator that is one
//! (see [`AccountToken`](crate::AccountToken)); a trusted account's `account_token` is not looked at. The hash is only
//! *read* here: whether it is that of the component at hand is checked by [`verify_component`](crate::verify_component).

use serde::{Deserialize, Serialize};

use crate::account;
use crate::capability::Capabilities;
use crate::content_hash::ContentHash;
use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::token::{self, Registered, Roles, SignError, TokenError, Validity, check_text};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

const ROLES: Roles = Roles {
    issuers: &[KeyKind::Account],
    issuers_in_words: "an account (A)",
    subject: KeyKind::Module,
    subject_in_words: "a module (M)",
};

/// What an account says about an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorClaims {
    /// The account, `A…`.
    pub issuer: PublicKey,
    /// The actor's identity across its revisions, `M…`.
    pub subject: PublicKey,
    /// What people call it.
    pub name: String,
    /// Its version as people write it.
    pub version: String,
    /// Its revision, a number that grows with each release.
    pub revision: u32,
    /// Words for people and policies.
    pub tags: Vec<String>,
    /// Another name by which it can be called.
    pub call_alias: Option<String>,
    /// What it may import, and what may be called on it.
    pub capabilities: Capabilities,
    /// The component that all this is about.
    pub content_hash: ContentHash,
    /// When the token was made.
    pub issued_at: UnixTime,
    /// From when until when the token is valid. It begins no earlier than it was issued.
    pub validity: Validity,
    /// The token's own id, by which it can be revoked.
    pub token_id: String,
    /// The token by which an operator vouches for the issuer, as it stands in this one.
    pub account_token: Option<String>,
    /// From when until when an operator vouches for the issuer. `None` if the issuer is a trust root itself, and in
    /// claims that nobody verified.
    pub account_validity: Option<Validity>,
}

impl ActorClaims {
    /// Refuses a `now` at which these claims no longer hold, or not yet: a running actor is asked this again and again.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`], or [`TokenError::BrokenChain`] around one of them if it is
    /// the account's token.
    pub fn check_time(&self, now: UnixTime) -> Result<(), TokenError> {
        account::check_time(&self.issuer, self.validity, self.account_validity, now)
    }

    /// The last second at which these claims hold: the earlier end of the token and of what vouches for its issuer.
    #[must_use]
    pub fn valid_until(&self) -> UnixTime {
        let own = self.validity.expires;
        self.account_validity
            .map_or(own, |account| own.min(account.expires))
    }

    fn new(registered: Registered, body: Body) -> Result<Self, TokenError> {
        let wire = body.wascap;
        wire.check_texts()?;
        Ok(Self {
            issuer: registered.issuer,
            subject: registered.subject,
            name: wire.name,
            version: wire.ver,
            revision: wire.rev,
            tags: wire.tags,
            call_alias: wire.call_alias,
            capabilities: wire
                .caps
                .iter()
                .map(|capability| capability.parse())
                .collect::<Result<_, _>>()
                .map_err(TokenError::malformed)?,
            content_hash: wire.hash.parse().map_err(TokenError::malformed)?,
            issued_at: registered.issued_at,
            validity: registered.validity,
            token_id: registered.token_id,
            account_token: wire.account_token,
            account_validity: None,
        })
    }
}

/// An actor token to be made. Texts hold at most 256 bytes each and no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActorToken {
    /// The actor's identity, `M…`.
    pub subject: PublicKey,
    /// What people call it.
    pub name: String,
    /// Its version as people write it.
    pub version: String,
    /// Its revision.
    pub revision: u32,
    /// Words for people and policies.
    pub tags: Vec<String>,
    /// Another name by which it can be called.
    pub call_alias: Option<String>,
    /// What it may import, and what may be called on it.
    pub capabilities: Capabilities,
    /// The component, by [`section::content_hash`](crate::section::content_hash).
    pub content_hash: ContentHash,
    /// From when until when.
    pub validity: Validity,
    /// The token by which an operator vouches for the signing account, where hosts trust the operator alone.
    pub account_token: Option<String>,
}

impl NewActorToken {
    /// Makes the token; [`embed`](crate::embed) puts it into the component.
    ///
    /// # Errors
    /// [`SignError`] if a key is of the wrong kind, a text cannot be written, the token would never be valid or be too
    /// large, or the account token given is not one for `account`.
    pub fn sign(&self, account: &SigningKey, now: UnixTime) -> Result<String, SignError> {
        if let Some(vouching) = &self.account_token {
            account::check_vouching(vouching, account.public())?;
        }
        let wascap = Wire {
            name: self.name.clone(),
            ver: self.version.clone(),
            rev: self.revision,
            tags: self.tags.clone(),
            call_alias: self.call_alias.clone(),
            caps: self.capabilities.iter().map(ToString::to_string).collect(),
            hash: self.content_hash.to_string(),
            account_token: self.account_token.clone(),
        };
        wascap.check_texts().map_err(SignError::from_field)?;
        let body = Body { wascap };
        token::seal(account, &self.subject, &ROLES, self.validity, now, body)
    }
}

/// Reads actor tokens.
#[derive(Debug)]
pub struct ActorToken;

impl ActorToken {
    /// What the token says, once its signature, its times and the chain to a trust root have been checked.
    ///
    /// Whether it speaks of the component at hand is not checked: for that, there is
    /// [`verify_component`](crate::verify_component).
    ///
    /// # Errors
    /// [`TokenError`], by cause.
    pub fn verify(
        token: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<ActorClaims, TokenError> {
        let (registered, body) = token::open(token, &ROLES)?;
        let mut claims = ActorClaims::new(registered, body)?;
        claims.validity.check(now)?;
        claims.account_validity =
            account::vouched_for(&claims.issuer, claims.account_token.as_deref(), roots, now)?;
        Ok(claims)
    }

    /// What the token says, whoever made it and whenever. For showing to people, never for deciding.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be read.
    pub fn decode_unverified(token: &str) -> Result<ActorClaims, TokenError> {
        let (registered, body) = token::decode_unverified(token, &ROLES)?;
        ActorClaims::new(registered, body)
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    wascap: Wire,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    name: String,
    ver: String,
    rev: u32,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_alias: Option<String>,
    #[serde(default)]
    caps: Vec<String>,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_token: Option<String>,
}

impl Wire {
    fn check_texts(&self) -> Result<(), TokenError> {
        check_text("name", &self.name)?;
        check_text("ver", &self.ver)?;
        for tag in &self.tags {
            check_text("tags", tag)?;
        }
        check_text("call_alias", self.call_alias.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;
