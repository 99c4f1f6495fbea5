//! [`AccountToken`]: an operator vouches for an account, so that trusting the operator is enough to trust its accounts.
//!
//! Issued by `O…` for `A…`, with an optional name for people. It travels inside what the account signs.

use serde::{Deserialize, Serialize};

use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::token::{self, Roles, SignError, TokenError, Validity, check_text};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

const ROLES: Roles = Roles {
    issuers: &[KeyKind::Operator],
    issuers_in_words: "an operator (O)",
    subject: KeyKind::Account,
    subject_in_words: "an account (A)",
};

/// What an operator says about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountClaims {
    /// The operator, `O…`.
    pub issuer: PublicKey,
    /// The account, `A…`.
    pub subject: PublicKey,
    /// What people call the account; empty if nobody gave it a name.
    pub name: String,
    /// When the token was made.
    pub issued_at: UnixTime,
    /// From when until when the account is vouched for.
    pub validity: Validity,
    /// The token's own id, by which it can be revoked.
    pub token_id: String,
}

/// An account token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccountToken {
    /// The account to vouch for, `A…`.
    pub subject: PublicKey,
    /// What people call it; may be empty. At most 256 bytes without control characters.
    pub name: String,
    /// From when until when.
    pub validity: Validity,
}

impl NewAccountToken {
    /// Makes the token.
    ///
    /// # Errors
    /// [`SignError`] if a key is of the wrong kind, the name cannot be written, or the token would never be valid.
    pub fn sign(&self, operator: &SigningKey, now: UnixTime) -> Result<String, SignError> {
        check_text("name", &self.name).map_err(SignError::from_field)?;
        let body = Body {
            wascap: Wire {
                name: self.name.clone(),
            },
        };
        token::seal(operator, &self.subject, &ROLES, self.validity, now, body)
    }
}

/// Reads account tokens.
#[derive(Debug)]
pub struct AccountToken;

impl AccountToken {
    /// What the token says, once its signature, its times and its operator have been checked.
    ///
    /// # Errors
    /// [`TokenError`], by cause.
    pub fn verify(
        token: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<AccountClaims, TokenError> {
        let (registered, body) = token::open(token, &ROLES)?;
        let claims = AccountClaims::new(registered, body)?;
        claims.validity.check(now)?;
        if !roots.contains(&claims.issuer) {
            return Err(TokenError::UntrustedIssuer {
                issuer: claims.issuer,
            });
        }
        Ok(claims)
    }

    /// What the token says, whoever made it and whenever. For showing to people, never for deciding.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be read.
    pub fn decode_unverified(token: &str) -> Result<AccountClaims, TokenError> {
        let (registered, body) = token::decode_unverified(token, &ROLES)?;
        AccountClaims::new(registered, body)
    }
}

impl AccountClaims {
    fn new(registered: token::Registered, body: Body) -> Result<Self, TokenError> {
        check_text("name", &body.wascap.name)?;
        Ok(Self {
            issuer: registered.issuer,
            subject: registered.subject,
            name: body.wascap.name,
            issued_at: registered.issued_at,
            validity: registered.validity,
            token_id: registered.token_id,
        })
    }
}

/// How long an operator vouches for an issuer, or `None` if it is a trust root and needs nobody to.
pub(crate) fn vouched_for(
    issuer: &PublicKey,
    account_token: Option<&str>,
    roots: &TrustRoots,
    now: UnixTime,
) -> Result<Option<Validity>, TokenError> {
    if roots.contains(issuer) {
        return Ok(None);
    }
    let Some(vouching) = account_token else {
        return Err(TokenError::UntrustedIssuer {
            issuer: issuer.clone(),
        });
    };
    AccountToken::verify(vouching, roots, now)
        .and_then(|account| {
            expect_subject(issuer, &account.subject)?;
            Ok(Some(account.validity))
        })
        .map_err(|cause| TokenError::BrokenChain {
            issuer: issuer.clone(),
            cause: Box::new(cause),
        })
}

/// Refuses a `now` at which what an issuer said no longer holds, or not yet, or nobody vouches for the issuer.
pub(crate) fn check_time(
    issuer: &PublicKey,
    own: Validity,
    account: Option<Validity>,
    now: UnixTime,
) -> Result<(), TokenError> {
    own.check(now)?;
    let vouched = account.map_or(Ok(()), |account| account.check(now));
    vouched.map_err(|cause| TokenError::BrokenChain {
        issuer: issuer.clone(),
        cause: Box::new(cause),
    })
}

/// Catches the wrong file given to `wash`. Whether the operator is trusted is for each host to say.
pub(crate) fn check_vouching(vouching: &str, account: &PublicKey) -> Result<(), SignError> {
    AccountToken::decode_unverified(vouching)
        .and_then(|claims| expect_subject(account, &claims.subject))
        .map_err(|cause| SignError::AccountToken {
            account: account.clone(),
            cause: Box::new(cause),
        })
}

fn expect_subject(expected: &PublicKey, found: &PublicKey) -> Result<(), TokenError> {
    if expected == found {
        return Ok(());
    }
    Err(TokenError::WrongSubject {
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default)]
    wascap: Wire,
}

#[derive(Default, Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
}
