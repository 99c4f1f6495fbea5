//! Why a token is not believed, and why one is not made. Each refusal says what would help, and has a stable code.

use super::{ALGORITHM, EXPIRES_MAX, TOKEN_BYTES_MAX};
use crate::key::{KeyError, KeyKind, PublicKey};
use crate::unix_time::UnixTime;

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Larger than [`TOKEN_BYTES_MAX`].
    #[error("refused a token of {len} bytes: at most {TOKEN_BYTES_MAX} are accepted")]
    TooLarge {
        /// Length of the token, in bytes.
        len: usize,
    },
    /// Not a JWT, or a field of it does not have the form it must have.
    #[error("cannot read the token: {fault}")]
    Malformed {
        /// What is wrong, and where.
        fault: String,
    },
    /// Signed with anything but Ed25519, or not at all.
    #[error("refused the token: its algorithm is `{found}`, only `{ALGORITHM}` is accepted")]
    WrongAlgorithm {
        /// The algorithm that the header names, shortened.
        found: String,
    },
    /// A field that every token must have is not there.
    #[error("refused the token: it has no `{claim}`")]
    Missing {
        /// The name of the field.
        claim: &'static str,
    },
    /// The token would never expire.
    #[error(
        "refused the token: it has no `exp`, and a token without an end is not accepted; sign again with an expiry"
    )]
    MissingExpiry,
    /// `iss` or `sub` is no public key.
    #[error("cannot read the token: `{claim}` is not a public key")]
    InvalidKey {
        /// `iss` or `sub`.
        claim: &'static str,
        /// Why it is none.
        #[source]
        cause: KeyError,
    },
    /// `iss` or `sub` is a key of a kind that cannot stand there in this sort of token.
    #[error("refused the token: `{claim}` is the key of {found}, expected {expected}")]
    WrongPrefix {
        /// `iss` or `sub`.
        claim: &'static str,
        /// The kinds that can stand there, in words.
        expected: &'static str,
        /// The kind that stands there.
        found: KeyKind,
    },
    /// The issuer did not sign this.
    #[error(
        "refused the token: its signature is not that of {issuer}; it was changed, or made by somebody else"
    )]
    BadSignature {
        /// The issuer that the token names.
        issuer: PublicKey,
    },
    /// `exp` has passed, by more than [`CLOCK_TOLERANCE`](super::CLOCK_TOLERANCE).
    #[error("refused the token: it expired at {at}; sign again with a later expiry")]
    Expired {
        /// When it expired.
        at: UnixTime,
    },
    /// `nbf` or `iat` lies ahead, by more than [`CLOCK_TOLERANCE`](super::CLOCK_TOLERANCE).
    #[error("refused the token: it is not valid before {from}; wait, or set this machine's clock")]
    NotYetValid {
        /// When it begins to be valid.
        from: UnixTime,
    },
    /// The token is valid for longer than tokens of its sort may be.
    #[error(
        "refused the token: it is valid for {secs} s from when it was issued, at most {max} s are accepted"
    )]
    LivesTooLong {
        /// From when it was issued until it expires, in seconds.
        secs: u64,
        /// The longest such time, in seconds.
        max: u64,
    },
    /// Nobody here trusts the issuer.
    #[error(
        "refused the token: its issuer {issuer} is no trust root and brings no token of an operator that is one; add the key to the trust roots, or sign with a trusted account"
    )]
    UntrustedIssuer {
        /// The issuer.
        issuer: PublicKey,
    },
    /// The account's own token, by which an operator vouches for it, is not good.
    #[error("refused the token: the operator's token for its issuer {issuer} does not hold")]
    BrokenChain {
        /// The account that issued the token.
        issuer: PublicKey,
        /// What is wrong with the account's token.
        #[source]
        cause: Box<TokenError>,
    },
    /// The token speaks of somebody or something else than what it came with.
    #[error("refused the token: it is for {found}, not for {expected}")]
    WrongSubject {
        /// What it came with.
        expected: String,
        /// What it speaks of.
        found: String,
    },
}

impl TokenError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "token-too-large",
            Self::Malformed { .. } => "token-malformed",
            Self::WrongAlgorithm { .. } => "token-wrong-algorithm",
            Self::Missing { .. } => "token-missing-field",
            Self::MissingExpiry => "token-missing-expiry",
            Self::InvalidKey { .. } => "token-invalid-key",
            Self::WrongPrefix { .. } => "token-wrong-prefix",
            Self::BadSignature { .. } => "token-bad-signature",
            Self::Expired { .. } => "token-expired",
            Self::NotYetValid { .. } => "token-not-yet-valid",
            Self::LivesTooLong { .. } => "token-lives-too-long",
            Self::UntrustedIssuer { .. } => "token-untrusted-issuer",
            Self::BrokenChain { .. } => "token-broken-chain",
            Self::WrongSubject { .. } => "token-wrong-subject",
        }
    }

    pub(crate) fn malformed(fault: impl ToString) -> Self {
        Self::Malformed {
            fault: fault.to_string(),
        }
    }
}

/// Why a token is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signing key, or the key the token is for, is of a kind that cannot stand there.
    #[error("cannot sign: {role} must be the key of {expected}, got that of {found}")]
    WrongKeyKind {
        /// Which of the two: "the signer" or "the subject".
        role: &'static str,
        /// The kinds that can stand there, in words.
        expected: &'static str,
        /// The kind that was given.
        found: KeyKind,
    },
    /// The token would be valid at no time, or already is no more.
    #[error(
        "cannot sign: a token that begins at {not_before} and expires at {expires} would never be valid from now on"
    )]
    NeverValid {
        /// The beginning asked for.
        not_before: UnixTime,
        /// The end asked for.
        expires: UnixTime,
    },
    /// The end lies beyond [`EXPIRES_MAX`].
    #[error(
        "cannot sign: {expires} is too far away, a token can expire at {EXPIRES_MAX} at the latest"
    )]
    ExpiresTooLate {
        /// The end asked for.
        expires: UnixTime,
    },
    /// A field cannot be written as it is.
    #[error("cannot sign: {fault}")]
    InvalidField {
        /// What is wrong, and where.
        fault: String,
    },
    /// An account's token was given that cannot vouch for the signing account.
    #[error("cannot sign: the account token given does not vouch for {account}")]
    AccountToken {
        /// The signing account.
        account: PublicKey,
        /// What is wrong with it.
        #[source]
        cause: Box<TokenError>,
    },
    /// The token would be larger than [`TOKEN_BYTES_MAX`].
    #[error(
        "cannot sign: the token would have {len} bytes, at most {TOKEN_BYTES_MAX} are accepted; shorten tags and grants"
    )]
    TooLarge {
        /// The length that it would have, in bytes.
        len: usize,
    },
}

impl SignError {
    /// The same rule that refuses a field in a token read refuses it in one to be made.
    pub(crate) fn from_field(error: TokenError) -> Self {
        Self::InvalidField {
            fault: match error {
                TokenError::Malformed { fault } => fault,
                other => other.to_string(),
            },
        }
    }
}
