//! What all tokens have in common: a JWT (RFC 7519) signed with Ed25519 (`EdDSA`, RFC 8037), its limits and its times.
//!
//! `jwt-simple` writes tokens, checks their header and their signature. Two things it leaves to us. Its clock stops at
//! 32 bits of seconds and it takes a token without `exp` for an eternal one, so times are read from the payload and
//! judged here, against a time that the caller gives. And it reports no reasons by field, so the payload is read by our
//! own types once the signature has been found good.
//!
//! Order of checks, size, form, algorithm, issuer's key,
//! signature, then the fields, then the times, and last (in the modules of each kind of token) whether the chain ends in
//! a trust root. Nothing but `iss` is believed before the signature holds.
//!
//! Fields that this version does not know are ignored, so that later versions can add some.

mod error;

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jwt_simple::JWTError;
use jwt_simple::algorithms::{EdDSAKeyPairLike as _, EdDSAPublicKeyLike as _};
use jwt_simple::claims::{JWTClaims, NoCustomClaims};
use jwt_simple::common::VerificationOptions;
use jwt_simple::prelude::UnixTimeStamp;
use jwt_simple::token::Token;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::label::fault_in_text;
use crate::unix_time::UnixTime;

pub use error::{SignError, TokenError};

/// Largest token that is made or read, in bytes.
///
/// Names, tags and a few dozen grants make a kilobyte or two. Tokens travel in state and events, whose messages a NATS
/// server limits to 1 MiB.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// How far two clocks may disagree: a token is good from this long before `nbf` until this long after `exp`.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Last second that a token can be made to expire at, in February 2106: the clock of `jwt-simple` ends there.
pub const EXPIRES_MAX: UnixTime = UnixTime::from_secs(u32::MAX as u64);

/// The one signature algorithm that is accepted.
const ALGORITHM: &str = "EdDSA";

/// How much of a stranger's text is repeated in an error, in characters.
const QUOTED_CHARS_MAX: usize = 120;

/// From when until when a token is to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second of validity (`nbf`).
    pub not_before: UnixTime,
    /// Last second of validity (`exp`).
    pub expires: UnixTime,
}

impl Validity {
    /// Valid from `now`, for as long as `lifetime`, in whole seconds.
    #[must_use]
    pub const fn starting(now: UnixTime, lifetime: Duration) -> Self {
        Self {
            not_before: now,
            expires: now.saturating_add(lifetime),
        }
    }

    /// Refuses a `now` outside, give or take [`CLOCK_TOLERANCE`].
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::NotYetValid`].
    pub fn check(&self, now: UnixTime) -> Result<(), TokenError> {
        if now.saturating_sub(CLOCK_TOLERANCE) > self.expires {
            return Err(TokenError::Expired { at: self.expires });
        }
        if now.saturating_add(CLOCK_TOLERANCE) < self.not_before {
            return Err(TokenError::NotYetValid {
                from: self.not_before,
            });
        }
        Ok(())
    }
}

/// The keys that may stand in one sort of token.
pub(crate) struct Roles {
    pub(crate) issuers: &'static [KeyKind],
    pub(crate) issuers_in_words: &'static str,
    pub(crate) subject: KeyKind,
    pub(crate) subject_in_words: &'static str,
}

impl Roles {
    fn check_issuer(&self, issuer: &PublicKey) -> Result<(), TokenError> {
        if self.issuers.contains(&issuer.kind()) {
            return Ok(());
        }
        Err(TokenError::WrongPrefix {
            claim: "iss",
            expected: self.issuers_in_words,
            found: issuer.kind(),
        })
    }

    fn check_subject(&self, subject: &PublicKey) -> Result<(), TokenError> {
        if self.subject == subject.kind() {
            return Ok(());
        }
        Err(TokenError::WrongPrefix {
            claim: "sub",
            expected: self.subject_in_words,
            found: subject.kind(),
        })
    }
}

/// The registered fields (RFC 7519, section 4.1), checked for form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) issuer: PublicKey,
    pub(crate) subject: PublicKey,
    pub(crate) issued_at: UnixTime,
    pub(crate) validity: Validity,
    pub(crate) token_id: String,
}

/// The registered fields as they are written. Times in whole seconds; a fraction or a sign is refused.
#[derive(Deserialize)]
struct RegisteredWire {
    iss: Option<String>,
    sub: Option<String>,
    iat: Option<u64>,
    nbf: Option<u64>,
    exp: Option<u64>,
    jti: Option<String>,
}

/// Reads a token and checks size, form, algorithm, keys' kinds and signature. Times and trust are still unjudged.
pub(crate) fn open<B: DeserializeOwned>(
    token: &str,
    roles: &Roles,
) -> Result<(Registered, B), TokenError> {
    let payload = payload_of(token)?;
    let metadata = Token::decode_metadata(token).map_err(|_| not_a_jwt())?;
    if metadata.algorithm() != ALGORITHM {
        return Err(TokenError::WrongAlgorithm {
            found: shortened(metadata.algorithm()),
        });
    }
    let wire: RegisteredWire = parse(&payload)?;
    let issuer = wire.issuer()?;
    roles.check_issuer(&issuer)?;
    check_signature(token, &issuer)?;
    Ok((wire.check(issuer, roles)?, parse(&payload)?))
}

/// Reads a token and checks size, form and keys' kinds, and *not* who signed it.
pub(crate) fn decode_unverified<B: DeserializeOwned>(
    token: &str,
    roles: &Roles,
) -> Result<(Registered, B), TokenError> {
    let payload = payload_of(token)?;
    let wire: RegisteredWire = parse(&payload)?;
    let issuer = wire.issuer()?;
    roles.check_issuer(&issuer)?;
    Ok((wire.check(issuer, roles)?, parse(&payload)?))
}

fn check_signature(token: &str, issuer: &PublicKey) -> Result<(), TokenError> {
    let key = issuer
        .verifying_key()
        .map_err(|cause| TokenError::InvalidKey {
            claim: "iss",
            cause,
        })?;
    // At time zero, with the future accepted, no time in the token can be amiss: see the module's page.
    let options = VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: None,
        max_token_length: Some(TOKEN_BYTES_MAX),
        ..VerificationOptions::default()
    };
    key.verify_token::<NoCustomClaims>(token, Some(options))
        .map(drop)
        .map_err(|error| {
            if let Some(JWTError::InvalidSignature) = error.downcast_ref() {
                TokenError::BadSignature {
                    issuer: issuer.clone(),
                }
            } else if let Some(fault) = error.downcast_ref::<JWTError>() {
                TokenError::malformed(fault)
            } else if let Some(fault) = error.downcast_ref::<serde_json::Error>() {
                TokenError::malformed(shortened(&fault.to_string()))
            } else {
                TokenError::malformed("its signature is not 64 bytes in base64url")
            }
        })
}

/// The bytes between the two dots.
fn payload_of(token: &str) -> Result<Vec<u8>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLarge { len: token.len() });
    }
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(payload), Some(_), None) => BASE64URL_NOPAD
            .decode(payload.as_bytes())
            .map_err(|_| not_a_jwt()),
        _ => Err(not_a_jwt()),
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(payload)
        .map_err(|error| TokenError::malformed(shortened(&error.to_string())))
}

fn not_a_jwt() -> TokenError {
    TokenError::malformed("it is not a JWT of three parts in base64url")
}

fn shortened(text: &str) -> String {
    text.chars()
        .take(QUOTED_CHARS_MAX)
        .flat_map(char::escape_default)
        .collect()
}

impl RegisteredWire {
    fn issuer(&self) -> Result<PublicKey, TokenError> {
        key_in("iss", self.iss.as_deref())
    }

    fn check(self, issuer: PublicKey, roles: &Roles) -> Result<Registered, TokenError> {
        let subject = key_in("sub", self.sub.as_deref())?;
        roles.check_subject(&subject)?;
        let expires = self.exp.ok_or(TokenError::MissingExpiry)?;
        let issued_at = self.iat.ok_or(TokenError::Missing { claim: "iat" })?;
        // A token is not valid before it was issued, whatever it says.
        let not_before = self.nbf.unwrap_or(issued_at).max(issued_at);
        let token_id = self.jti.ok_or(TokenError::Missing { claim: "jti" })?;
        check_text("jti", &token_id)?;
        Ok(Registered {
            issuer,
            subject,
            issued_at: UnixTime::from_secs(issued_at),
            validity: Validity {
                not_before: UnixTime::from_secs(not_before),
                expires: UnixTime::from_secs(expires),
            },
            token_id,
        })
    }
}

fn key_in(claim: &'static str, text: Option<&str>) -> Result<PublicKey, TokenError> {
    text.ok_or(TokenError::Missing { claim })?
        .parse()
        .map_err(|cause| TokenError::InvalidKey { claim, cause })
}

/// Refuses text that should not be shown to people.
pub(crate) fn check_text(field: &str, text: &str) -> Result<(), TokenError> {
    match fault_in_text(text) {
        Some(fault) => Err(TokenError::malformed(format_args!("`{field}` {fault}"))),
        None => Ok(()),
    }
}

/// Makes a token: the registered fields, and `body` beside them.
pub(crate) fn seal<B: Serialize>(
    issuer: &SigningKey,
    subject: &PublicKey,
    roles: &Roles,
    validity: Validity,
    now: UnixTime,
    body: B,
) -> Result<String, SignError> {
    let id = new_token_id();
    seal_as(id, issuer, subject, roles, validity, now, body)
}

/// As [`seal`], with an id that was chosen already, so that test vectors can fix every byte that is signed.
pub(crate) fn seal_as<B: Serialize>(
    id: String,
    issuer: &SigningKey,
    subject: &PublicKey,
    roles: &Roles,
    validity: Validity,
    now: UnixTime,
    body: B,
) -> Result<String, SignError> {
    let wrong_kind = |role, expected, found| SignError::WrongKeyKind {
        role,
        expected,
        found,
    };
    if !roles.issuers.contains(&issuer.kind()) {
        return Err(wrong_kind(
            "the signer",
            roles.issuers_in_words,
            issuer.kind(),
        ));
    }
    if roles.subject != subject.kind() {
        return Err(wrong_kind(
            "the subject",
            roles.subject_in_words,
            subject.kind(),
        ));
    }
    let Validity {
        not_before,
        expires,
    } = validity;
    if expires <= not_before || expires <= now {
        return Err(SignError::NeverValid {
            not_before,
            expires,
        });
    }
    if expires > EXPIRES_MAX {
        return Err(SignError::ExpiresTooLate { expires });
    }

    let stamp = |time: UnixTime| Some(UnixTimeStamp::from_secs(time.as_secs()));
    let claims = JWTClaims {
        issued_at: stamp(now),
        expires_at: stamp(expires),
        invalid_before: stamp(not_before),
        issuer: Some(issuer.public().to_string()),
        subject: Some(subject.to_string()),
        audiences: None,
        jwt_id: Some(id),
        nonce: None,
        custom: body,
    };
    let token = issuer
        .pair()
        .sign(claims)
        .map_err(|error| SignError::InvalidField {
            fault: error.to_string(),
        })?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(SignError::TooLarge { len: token.len() });
    }
    Ok(token)
}

/// 128 random bits: enough that no two tokens share an id, so a revocation can name one.
pub(crate) fn new_token_id() -> String {
    BASE64URL_NOPAD.encode(&rand::random::<[u8; 16]>())
}
