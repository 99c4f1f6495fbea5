//! Signing a component file: `wash build` and `wash claims sign` meet here.
//!
//! The signed copy is written beside its place and renamed, so a host that reads the file meets the old one or the new
//! one, never half of it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trellis_claims::{
    ActorClaims, ActorToken, Capabilities, NewActorToken, PublicKey, SectionError, SignError,
    SigningKey, TokenError, UnixTime, Validity, content_hash, embed,
};

use crate::output::{self, Report};

/// Largest component file that is read, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How long claims are valid where nobody says otherwise: a year.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the claims of a component are to say.
#[derive(Debug)]
pub struct Statement {
    /// What people call the actor.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its revision.
    pub revision: u32,
    /// Words for people and policies.
    pub tags: Vec<String>,
    /// Another name to call it by.
    pub call_alias: Option<String>,
    /// What it may use, and what may be called on it.
    pub capabilities: Capabilities,
    /// Who it is.
    pub subject: PublicKey,
    /// How long the claims are valid from now on.
    pub lifetime: Duration,
    /// The token by which an operator vouches for the signing account.
    pub account_token: Option<String>,
}

/// A signed component file.
#[derive(Debug)]
pub struct Signed {
    /// The file, as an absolute path.
    pub path: PathBuf,
    /// What its claims say.
    pub claims: ActorClaims,
}

/// Why a component is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Larger than [`COMPONENT_BYTES_MAX`].
    #[error("cannot read {}: it has {bytes} bytes, at most {COMPONENT_BYTES_MAX} are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The file is no component, or carries claims twice.
    #[error("cannot use {}", path.display())]
    Section {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SectionError,
    },
    /// The claims cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Our own claims cannot be read back. A fault of this software.
    #[error("cannot read back the claims just made; please report it")]
    ReadBack(#[source] TokenError),
}

/// Signs the component in the file `from` and writes it to the file `to`.
///
/// # Errors
/// [`SigningError`], by cause.
pub fn sign_file(
    from: &Path,
    to: &Path,
    statement: Statement,
    issuer: &SigningKey,
) -> Result<Signed, SigningError> {
    let component = read_component(from)?;
    let section = |source| SigningError::Section {
        path: from.to_path_buf(),
        source,
    };
    let now = UnixTime::now();
    let token = NewActorToken {
        subject: statement.subject,
        name: statement.name,
        version: statement.version,
        revision: statement.revision,
        tags: statement.tags,
        call_alias: statement.call_alias,
        capabilities: statement.capabilities,
        content_hash: content_hash(&component).map_err(section)?,
        validity: Validity::starting(now, statement.lifetime),
        account_token: statement.account_token,
    }
    .sign(issuer, now)?;
    let signed = embed(&component, &token).map_err(section)?;
    replace_file(to, &signed)?;
    // Whoever reads the path may stand in another directory.
    let path = fs::canonicalize(to).unwrap_or_else(|_| to.to_path_buf());
    Ok(Signed {
        path,
        claims: ActorToken::decode_unverified(&token).map_err(SigningError::ReadBack)?,
    })
}

/// Reads a component file of bounded size.
///
/// # Errors
/// [`SigningError::Io`] or [`SigningError::TooLarge`].
pub fn read_component(path: &Path) -> Result<Vec<u8>, SigningError> {
    let failed = |source| SigningError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > COMPONENT_BYTES_MAX {
        return Err(SigningError::TooLarge {
            path: path.to_path_buf(),
            bytes,
        });
    }
    fs::read(path).map_err(failed)
}

/// `target/hello.wasm` → `target/hello_s.wasm`: where a signed copy goes if nobody says otherwise.
#[must_use]
pub fn signed_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}_s.wasm"))
}

/// What to say about a signed component.
#[must_use]
pub fn report(signed: &Signed) -> Report {
    let claims = &signed.claims;
    let capabilities: Vec<_> = claims
        .capabilities
        .iter()
        .map(ToString::to_string)
        .collect();
    let granted = if capabilities.is_empty() {
        "nothing".to_owned()
    } else {
        capabilities.join(", ")
    };
    let rows = [
        ("Component", signed.path.display().to_string()),
        (
            "Actor",
            format!(
                "{} {} (revision {})",
                claims.name, claims.version, claims.revision
            ),
        ),
        ("Granted", granted),
        ("Subject", claims.subject.to_string()),
        ("Issuer", claims.issuer.to_string()),
        ("Expires", claims.validity.expires.to_string()),
    ];
    Report::new(output::pairs(
        rows.map(|(name, value)| (name.to_owned(), value)),
    ))
    .with("path", &signed.path)
    .with("name", &claims.name)
    .with("version", &claims.version)
    .with("revision", claims.revision)
    .with("capabilities", capabilities)
    .with("subject", &claims.subject)
    .with("issuer", &claims.issuer)
    .with("expires", claims.validity.expires.to_string())
}

fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), SigningError> {
    let failed = |source| SigningError::Io {
        action: "write",
        path: path.to_path_buf(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // A component is no secret, and a host may run as another user.
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
