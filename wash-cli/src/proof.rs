//! In whose name `wash` commands: the account key that signs what it asks of hosts.
//!
//! It is the key that signs actors too, the developer's `account`, unless a flag, a context or a variable names another, or
//! says `none`. None is made for this: who has no account key commands without a signature, as other tools do, and a host that insists
//! on one says so. Hosts that trust an operator alone need the operator's token for the account as well; it is taken from
//! the file beside the key, `account.jwt` beside `account.nk`, or from the one that a variable names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use trellis_claims::token::TOKEN_BYTES_MAX;
use trellis_claims::{CommandSigner, KeyKind};

use crate::environment::{self, Environment};
use crate::exit::{Failure, chain};
use crate::keys::{self, ACCOUNT, KeySource, KeyStore, KeyStoreError};
use crate::output;

/// What is named instead of a key where nothing is to be signed.
const NONE: &str = "none";

/// How commands are signed.
#[derive(Debug, Clone, Default)]
pub enum Proof {
    /// In the name of this account.
    Signed(CommandSigner),
    /// Not at all: there is no key.
    #[default]
    Unsigned,
    /// Not at all, though there is a key: it cannot be used, for this reason.
    Unusable(String),
}

impl Proof {
    /// Finds the key. `named` is what a flag or a context names: a file with a seed, or `env:VARIABLE`.
    ///
    /// # Errors
    /// A local failure where the key that is named cannot be used. The developer's own, which nobody named, is passed
    /// over then, with [`Proof::Unusable`].
    pub fn find(named: Option<&str>, environment: &mut Environment) -> Result<Self, Failure> {
        let Some(named) = named else {
            return Ok(match developers_own(environment) {
                Ok(Some(signer)) => Self::Signed(signer),
                Ok(None) => Self::Unsigned,
                Err(failure) => Self::Unusable(failure.message().to_owned()),
            });
        };
        if named == NONE {
            return Ok(Self::Unsigned);
        }
        let source = KeySource::parse(named)?;
        let key = keys::signing_key(&source, KeyKind::Account, environment)?;
        let beside = match &source {
            KeySource::File(path) => Some(path.with_extension("jwt")),
            KeySource::Variable(_) | KeySource::Public(_) => None,
        };
        let token = account_token(beside.as_deref(), environment)?;
        signer(key, token).map(Self::Signed)
    }

    /// What signs, where something does.
    #[must_use]
    pub fn signer(&self) -> Option<CommandSigner> {
        match self {
            Self::Signed(signer) => Some(signer.clone()),
            Self::Unsigned | Self::Unusable(_) => None,
        }
    }

    /// Says once that commands are not signed, where somebody could think that they are.
    pub fn tell(&self) {
        static TOLD: Once = Once::new();
        if let Some(note) = self.note() {
            TOLD.call_once(|| output::note(&note));
        }
    }

    fn note(&self) -> Option<String> {
        match self {
            Self::Unusable(reason) => Some(format!("note: commands are not signed: {reason}")),
            Self::Signed(_) | Self::Unsigned => None,
        }
    }
}

fn developers_own(environment: &mut Environment) -> Result<Option<CommandSigner>, Failure> {
    let store = match KeyStore::of(environment) {
        Ok(store) => store,
        // Who has no home has no keys.
        Err(KeyStoreError::NoDirectory) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (stored, key) = match store.get(ACCOUNT) {
        Ok(found) => found,
        Err(KeyStoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let token = account_token(Some(&stored.path.with_extension("jwt")), environment)?;
    signer(key, token).map(Some)
}

fn signer(
    key: trellis_claims::SigningKey,
    account_token: Option<String>,
) -> Result<CommandSigner, Failure> {
    CommandSigner::new(Arc::new(key), account_token).map_err(|error| Failure::local(chain(&error)))
}

/// The operator's token: from the file that a variable names, else from the one beside the key, which need not be there.
fn account_token(
    beside: Option<&Path>,
    environment: &mut Environment,
) -> Result<Option<String>, Failure> {
    let named = environment
        .get(environment::ACCOUNT_TOKEN)
        .map(PathBuf::from);
    let (path, must_exist) = match (&named, beside) {
        (Some(path), _) => (path.as_path(), true),
        (None, Some(path)) => (path, false),
        (None, None) => return Ok(None),
    };
    let failed = |fault: String| {
        Failure::local(format!(
            "cannot read the account token {}: {fault}",
            path.display()
        ))
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    // A token, and a line's end.
    let most = u64::try_from(TOKEN_BYTES_MAX + 2).unwrap_or(u64::MAX);
    if metadata.len() > most {
        return Err(failed(format!(
            "it has {} bytes, at most {most} are accepted",
            metadata.len()
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(Some(text.trim().to_owned()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use trellis_claims::{NewAccountToken, SigningKey, UnixTime, Validity};

    use super::*;
    use crate::exit::FailureKind;

    fn environment(keys: &Path) -> Environment {
        [(environment::KEYS_DIR.name, keys)].into_iter().collect()
    }

    fn account(proof: &Proof) -> Option<String> {
        proof.signer().map(|signer| signer.account().to_string())
    }

    #[test]
    fn the_developers_key_signs_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let proof = Proof::find(None, &mut environment(&keys)).unwrap();
        assert!(matches!(proof, Proof::Unsigned), "{proof:?}");
        assert!(!keys.exists());
        let key = KeyStore::new(&keys).account().unwrap();
        let proof = Proof::find(None, &mut environment(&keys)).unwrap();
        assert_eq!(account(&proof), Some(key.public().to_string()));
        assert_eq!(proof.note(), None);
    }

    #[test]
    fn a_key_that_is_named_counts_instead_and_must_be_good() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        KeyStore::new(&keys).account().unwrap();
        let other = KeyStore::new(dir.path().join("other")).account().unwrap();
        let path = dir.path().join("other/account.nk");
        let named = |text: &str| Proof::find(Some(text), &mut environment(&keys));
        assert_eq!(account(&named("none").unwrap()), None);
        let proof = named(path.to_str().unwrap()).unwrap();
        assert_eq!(account(&proof), Some(other.public().to_string()));
        for bad in [
            "/nowhere/account.nk",
            "env:NOT_SET",
            other.public().as_str(),
        ] {
            let failure = named(bad).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Local, "{bad}: {failure}");
        }
    }

    #[test]
    fn an_exposed_key_signs_nothing_and_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        KeyStore::new(&keys).account().unwrap();
        let path = keys.join("account.nk");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let proof = Proof::find(None, &mut environment(&keys)).unwrap();
        assert_eq!(account(&proof), None);
        let note = proof.note().unwrap();
        assert!(
            note.starts_with("note: commands are not signed: refused the key"),
            "{note}"
        );
    }

    #[test]
    fn an_operators_token_is_taken_from_beside_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let key = KeyStore::new(&keys).account().unwrap();
        let now = UnixTime::now();
        let vouching = |account: &SigningKey| {
            NewAccountToken {
                subject: account.public().clone(),
                name: String::new(),
                validity: Validity::starting(now, std::time::Duration::from_secs(3600)),
            }
            .sign(&SigningKey::generate(KeyKind::Operator), now)
            .unwrap()
        };
        let beside = keys.join("account.jwt");
        fs::write(&beside, vouching(&key) + "\n").unwrap();
        let proof = Proof::find(None, &mut environment(&keys)).unwrap();
        assert!(matches!(proof, Proof::Signed(_)), "{proof:?}");
        fs::write(&beside, vouching(&SigningKey::generate(KeyKind::Account))).unwrap();
        let proof = Proof::find(None, &mut environment(&keys)).unwrap();
        assert!(matches!(proof, Proof::Unusable(_)), "{proof:?}");
    }
}
