//! [`verify_component`]: may these bytes be believed? The one front door for whoever is about to run a component.
//!
//! It answers who signed the component, that they did, that it is unchanged, that the token is valid now and that its
//! chain ends in a trust root. Not asked here, and the host's to ask next: whether the token was revoked, and whether
//! what it grants covers what the component imports.

use crate::actor::{ActorClaims, ActorToken};
use crate::content_hash::ContentHash;
use crate::section::{Parts, SectionError};
use crate::token::TokenError;
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

/// A component that is believed: unchanged, signed, valid, and by somebody who is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedComponent {
    /// What its token says.
    pub claims: ActorClaims,
    /// The token itself, as others verify it in turn.
    pub token: String,
    /// SHA-256 of the component less its claims: the same however often it is signed, so caches are keyed by it.
    pub content_hash: ContentHash,
}

/// Why a component is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// It carries no claims.
    #[error("refused the component: it is unsigned; sign it with `wash claims sign`")]
    Unsigned,
    /// Its sections cannot be read, or it cannot be told which token counts.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// Its token is not believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its token was made for other bytes.
    #[error(
        "refused the component: its claims are for {claimed}, but it is {actual}; it was changed after signing, or carries the claims of another; sign it again with `wash claims sign`"
    )]
    HashMismatch {
        /// The hash in the token.
        claimed: ContentHash,
        /// The hash of the component.
        actual: ContentHash,
    },
}

impl ClaimsError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "claims-unsigned",
            Self::Section(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::HashMismatch { .. } => "claims-hash-mismatch",
        }
    }
}

/// Checks that `component` may be believed at the time `now`.
///
/// Costs one or two signatures and one pass of SHA-256 over the component; call it off the threads that serve.
///
/// # Errors
/// [`ClaimsError`], by cause. A good token is looked for before the bytes are hashed.
pub fn verify_component(
    component: &[u8],
    roots: &TrustRoots,
    now: UnixTime,
) -> Result<VerifiedComponent, ClaimsError> {
    let parts = Parts::of(component)?;
    let token = parts.token()?.ok_or(ClaimsError::Unsigned)?;
    let claims = ActorToken::verify(token, roots, now)?;
    let content_hash = parts.content_hash();
    if content_hash != claims.content_hash {
        return Err(ClaimsError::HashMismatch {
            claimed: claims.content_hash,
            actual: content_hash,
        });
    }
    Ok(VerifiedComponent {
        claims,
        token: token.to_owned(),
        content_hash,
    })
}

#[cfg(test)]
mod tests;
