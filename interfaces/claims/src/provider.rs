//! [`ProviderToken`]: an account says who a provider is, what it serves and calls, and which executables it is.
//!
//! Issued by `A…` for `V…`. It stands as `manifest.jwt` at the head of a provider's archive. Beside the registered
//! fields it has one object, under the name that tools for signed WebAssembly know:
//!
//! ```json
//! "wascap": {
//!   "name": "keyvalue-redis", "ver": "0.1.0", "rev": 3, "vendor": "Example",
//!   "serves": ["wasi:keyvalue"], "calls": ["wasi:keyvalue/watcher"],
//!   "targets": {"x86_64-linux": {"hash": "sha256:…", "bytes": 12345678}},
//!   "config_schema": "{…}", "account_token": "…"
//! }
//! ```
//!
//! The account is believed as an actor's is (see [`actor`](crate::actor)): it is a trust root, or an operator that is one
//! vouches for it. That the executables are those named here is for whoever reads the archive to check.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::account::{self, check_vouching, vouched_for};
use crate::capability::Capabilities;
use crate::content_hash::ContentHash;
use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::token::{self, Registered, Roles, SignError, TokenError, Validity, check_text};
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

/// Most platforms of one provider.
pub const TARGETS_MAX: usize = 32;

/// Longest description of a provider's configuration, in bytes. The token as a whole has its own limit.
pub const CONFIG_SCHEMA_BYTES_MAX: usize = 32 * 1024;

/// Longest name of an architecture or an operating system, in bytes.
const PLATFORM_PART_BYTES_MAX: usize = 32;

const ROLES: Roles = Roles {
    issuers: &[KeyKind::Account],
    issuers_in_words: "an account (A)",
    subject: KeyKind::Provider,
    subject_in_words: "a provider (V)",
};

/// A machine's architecture and operating system, as Rust names them: `x86_64-linux`, `aarch64-macos`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    arch: String,
    os: String,
}

/// Text that is not `<arch>-<os>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a platform is `<arch>-<os>` in lower case, as `x86_64-linux`, not {text:?}")]
pub struct PlatformError {
    /// The text, shortened.
    pub text: String,
}

impl Platform {
    /// The machine that this program was built for.
    #[must_use]
    pub fn here() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
        }
    }

    /// A platform by its two parts.
    ///
    /// # Errors
    /// [`PlatformError`] if a part is empty, too long, or not of lower case letters, digits and `_`.
    pub fn new(arch: &str, os: &str) -> Result<Self, PlatformError> {
        let is_part = |part: &str| {
            (1..=PLATFORM_PART_BYTES_MAX).contains(&part.len())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if is_part(arch) && is_part(os) {
            return Ok(Self {
                arch: arch.to_owned(),
                os: os.to_owned(),
            });
        }
        Err(PlatformError {
            text: format!("{arch}-{os}").chars().take(80).collect(),
        })
    }

    /// The architecture: `x86_64`, `aarch64`.
    #[must_use]
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The operating system: `linux`, `macos`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.arch, self.os)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('-') {
            Some((arch, os)) => Self::new(arch, os),
            None => Err(PlatformError {
                text: text.chars().take(80).collect(),
            }),
        }
    }
}

/// One executable, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// SHA-256 of the executable.
    pub hash: ContentHash,
    /// Its length.
    pub bytes: u64,
}

/// What an account says about a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderClaims {
    /// The account, `A…`.
    pub issuer: PublicKey,
    /// The provider's identity across its revisions, `V…`.
    pub subject: PublicKey,
    /// What people call it.
    pub name: String,
    /// Its version as people write it.
    pub version: String,
    /// Its revision, a number that grows with each release.
    pub revision: u32,
    /// Who makes it; may be empty.
    pub vendor: String,
    /// The interfaces that actors import from it.
    pub serves: Capabilities,
    /// The interfaces that it calls on actors.
    pub calls: Capabilities,
    /// Its executables by platform; at least one.
    pub targets: BTreeMap<Platform, Target>,
    /// A JSON schema of its configuration, as text.
    pub config_schema: Option<String>,
    /// When the token was made.
    pub issued_at: UnixTime,
    /// From when until when the token is valid.
    pub validity: Validity,
    /// The token's own id, by which it can be revoked.
    pub token_id: String,
    /// The token by which an operator vouches for the issuer, as it stands in this one.
    pub account_token: Option<String>,
    /// From when until when an operator vouches for the issuer, as for an actor's.
    pub account_validity: Option<Validity>,
}

impl ProviderClaims {
    /// Refuses a `now` at which these claims no longer hold, or not yet.
    ///
    /// # Errors
    /// As [`ActorClaims::check_time`](crate::ActorClaims::check_time).
    pub fn check_time(&self, now: UnixTime) -> Result<(), TokenError> {
        account::check_time(&self.issuer, self.validity, self.account_validity, now)
    }

    fn new(registered: Registered, body: Body) -> Result<Self, TokenError> {
        let wire = body.wascap;
        wire.check_texts()?;
        let targets = wire
            .targets
            .into_iter()
            .map(|(platform, target)| Ok((platform.parse()?, target)))
            .collect::<Result<BTreeMap<_, _>, PlatformError>>()
            .map_err(TokenError::malformed)?;
        Ok(Self {
            issuer: registered.issuer,
            subject: registered.subject,
            name: wire.name,
            version: wire.ver,
            revision: wire.rev,
            vendor: wire.vendor,
            serves: capabilities(&wire.serves)?,
            calls: capabilities(&wire.calls)?,
            targets,
            config_schema: wire.config_schema,
            issued_at: registered.issued_at,
            validity: registered.validity,
            token_id: registered.token_id,
            account_token: wire.account_token,
            account_validity: None,
        })
    }
}

fn capabilities(texts: &[String]) -> Result<Capabilities, TokenError> {
    texts
        .iter()
        .map(|capability| capability.parse())
        .collect::<Result<_, _>>()
        .map_err(TokenError::malformed)
}

/// A provider token to be made. Texts hold at most 256 bytes each and no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProviderToken {
    /// The provider's identity, `V…`.
    pub subject: PublicKey,
    /// What people call it.
    pub name: String,
    /// Its version as people write it.
    pub version: String,
    /// Its revision.
    pub revision: u32,
    /// Who makes it; may be empty.
    pub vendor: String,
    /// The interfaces that actors import from it.
    pub serves: Capabilities,
    /// The interfaces that it calls on actors.
    pub calls: Capabilities,
    /// Its executables by platform, at least one and at most [`TARGETS_MAX`].
    pub targets: BTreeMap<Platform, Target>,
    /// A JSON schema of its configuration, as text of at most [`CONFIG_SCHEMA_BYTES_MAX`].
    pub config_schema: Option<String>,
    /// From when until when.
    pub validity: Validity,
    /// The token by which an operator vouches for the signing account, where hosts trust the operator alone.
    pub account_token: Option<String>,
}

impl NewProviderToken {
    /// Makes the token.
    ///
    /// # Errors
    /// As [`NewActorToken::sign`](crate::NewActorToken::sign); also for no targets or too many.
    pub fn sign(&self, account: &SigningKey, now: UnixTime) -> Result<String, SignError> {
        if let Some(vouching) = &self.account_token {
            check_vouching(vouching, account.public())?;
        }
        let wascap = Wire {
            name: self.name.clone(),
            ver: self.version.clone(),
            rev: self.revision,
            vendor: self.vendor.clone(),
            serves: self.serves.iter().map(ToString::to_string).collect(),
            calls: self.calls.iter().map(ToString::to_string).collect(),
            targets: self
                .targets
                .iter()
                .map(|(platform, target)| (platform.to_string(), *target))
                .collect(),
            config_schema: self.config_schema.clone(),
            account_token: self.account_token.clone(),
        };
        wascap.check_texts().map_err(SignError::from_field)?;
        let body = Body { wascap };
        token::seal(account, &self.subject, &ROLES, self.validity, now, body)
    }
}

/// Reads provider tokens.
#[derive(Debug)]
pub struct ProviderToken;

impl ProviderToken {
    /// What the token says, once its signature, its times and the chain to a trust root have been checked.
    ///
    /// # Errors
    /// [`TokenError`], by cause.
    pub fn verify(
        token: &str,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<ProviderClaims, TokenError> {
        let (registered, body) = token::open(token, &ROLES)?;
        let mut claims = ProviderClaims::new(registered, body)?;
        claims.validity.check(now)?;
        claims.account_validity =
            vouched_for(&claims.issuer, claims.account_token.as_deref(), roots, now)?;
        Ok(claims)
    }

    /// What the token says, whoever made it and whenever. For showing to people, never for deciding.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be read.
    pub fn decode_unverified(token: &str) -> Result<ProviderClaims, TokenError> {
        let (registered, body) = token::decode_unverified(token, &ROLES)?;
        ProviderClaims::new(registered, body)
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
    #[serde(default, skip_serializing_if = "String::is_empty")]
    vendor: String,
    #[serde(default)]
    serves: Vec<String>,
    #[serde(default)]
    calls: Vec<String>,
    targets: BTreeMap<String, Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_schema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_token: Option<String>,
}

impl Wire {
    fn check_texts(&self) -> Result<(), TokenError> {
        check_text("name", &self.name)?;
        check_text("ver", &self.ver)?;
        check_text("vendor", &self.vendor)?;
        if self.targets.is_empty() || self.targets.len() > TARGETS_MAX {
            return Err(TokenError::malformed(format_args!(
                "`targets` names {} platforms, it must be 1 to {TARGETS_MAX}",
                self.targets.len()
            )));
        }
        match self.config_schema.as_deref().map_or(0, str::len) {
            len if len > CONFIG_SCHEMA_BYTES_MAX => Err(TokenError::malformed(format_args!(
                "`config_schema` has {len} bytes, at most {CONFIG_SCHEMA_BYTES_MAX} are accepted"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
