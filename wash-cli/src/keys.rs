//! The developer's keys: one seed per file, `<name>.nk`, in a directory that nobody else can read.
//!
//! The first run that needs a key makes it: `account.nk` signs actors, `<actor>_module.nk` is an actor's identity across
//! its revisions. Files have mode 0600 in a directory of mode 0700; a file that others can read, or a directory that
//! others can write, is refused with the `chmod` that mends it, as a key that may be known to others proves nothing.
//!
//! A new file appears whole or not at all, so two first runs at once end up with the same key.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use trellis_claims::{KeyError, KeyKind, PublicKey, SigningKey};
use zeroize::Zeroizing;

use crate::environment::{self, Environment};
use crate::output;

/// Largest key file that is read, in bytes: a seed has 58, the rest is room for blanks around it.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Longest name of a key, in bytes. With its suffix it still is a file name everywhere.
pub const KEY_NAME_BYTES_MAX: usize = 128;

/// The name of the developer's account key.
pub const ACCOUNT: &str = "account";

const SUFFIX: &str = "nk";
/// Permission bits of others and the group.
const EXPOSED: u32 = 0o077;
/// Write permission of others and the group.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// No directory is known.
    #[error(
        "cannot tell where keys are kept: set {}, XDG_CONFIG_HOME or HOME to an absolute path",
        environment::KEYS_DIR.name
    )]
    NoDirectory,
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `make` …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Others can read the key.
    #[error(
        "refused the key in {}: its mode {mode:04o} lets others read it; run `chmod 600 {}` if nobody has, else make a new one with `wash keys gen`",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can replace keys.
    #[error(
        "refused the key directory {}: its mode {mode:04o} lets others write to it; run `chmod 700 {}`",
        path.display(), path.display()
    )]
    DirectoryExposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no seed, or another kind of one.
    #[error("cannot use the key in {origin}")]
    Key {
        /// The file or variable.
        origin: String,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The file is too large to be a key.
    #[error("cannot use {} as a key: it has more than {KEY_FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is there already.
    #[error("refused to overwrite the key in {}; choose another --name, or move the file away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The name cannot be a file's.
    #[error("{0}")]
    Name(String),
    /// The variable is not set.
    #[error("cannot read a key from the environment: {name} is not set")]
    Unset {
        /// Its name.
        name: String,
    },
    /// A seed stands on the command line.
    #[error(
        "refused a seed on the command line, where every process of this machine can read it; put it into a file of mode 0600, or into a variable named by `env:VARIABLE`"
    )]
    SeedArgument,
    /// No such key file.
    #[error("there is no key in {}; make one with `wash keys gen`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// A directory of keys. Nothing in it is opened or made before it is needed.
#[derive(Debug, Clone)]
pub struct KeyStore {
    directory: PathBuf,
}

/// One key of the store, without its secret.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its name: that of its file, less the suffix.
    pub name: String,
    /// The public part.
    pub public: PublicKey,
    /// The file.
    pub path: PathBuf,
}

/// Where a key is to be taken from, as `--issuer` and `--subject` say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a seed.
    File(PathBuf),
    /// An environment variable with a seed.
    Variable(String),
    /// A public key, where no secret is needed.
    Public(PublicKey),
}

impl KeySource {
    /// Reads `FILE`, `env:VARIABLE`, or a public key.
    ///
    /// # Errors
    /// [`KeyStoreError::SeedArgument`] for a seed.
    pub fn parse(text: &str) -> Result<Self, KeyStoreError> {
        if SigningKey::from_seed(text).is_ok() {
            return Err(KeyStoreError::SeedArgument);
        }
        if let Some(variable) = text.strip_prefix("env:") {
            return Ok(Self::Variable(variable.to_owned()));
        }
        Ok(match text.parse() {
            Ok(public) => Self::Public(public),
            Err(_) => Self::File(PathBuf::from(text)),
        })
    }
}

impl KeyStore {
    /// The keys in a directory, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// `$TRELLIS_KEYS_DIR`, else `$XDG_CONFIG_HOME/trellis/keys`, else `~/.config/trellis/keys`.
    ///
    /// # Errors
    /// [`KeyStoreError::NoDirectory`] where none of them is set.
    pub fn of(environment: &mut Environment) -> Result<Self, KeyStoreError> {
        let named = environment.get(environment::KEYS_DIR).map(PathBuf::from);
        named
            .or_else(|| {
                environment
                    .xdg_dir("XDG_CONFIG_HOME", ".config")
                    .map(|base| base.join("keys"))
            })
            .map(Self::new)
            .ok_or(KeyStoreError::NoDirectory)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The developer's account key, made on first use.
    ///
    /// # Errors
    /// [`KeyStoreError`], by cause.
    pub fn account(&self) -> Result<SigningKey, KeyStoreError> {
        self.load_or_make(ACCOUNT, KeyKind::Account)
    }

    /// The public part of the account key, if there is one; none is made.
    ///
    /// # Errors
    /// [`KeyStoreError`], by cause.
    pub fn existing_account(&self) -> Result<Option<PublicKey>, KeyStoreError> {
        match self.load(&self.path_of(ACCOUNT), KeyKind::Account) {
            Ok(key) => Ok(Some(key.public().clone())),
            Err(KeyStoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key of an actor's identity, made on first use.
    ///
    /// # Errors
    /// [`KeyStoreError`], by cause.
    pub fn module(&self, actor: &str) -> Result<SigningKey, KeyStoreError> {
        self.load_or_make(&format!("{actor}_module"), KeyKind::Module)
    }

    /// Makes a key under a name that is not taken.
    ///
    /// # Errors
    /// [`KeyStoreError::Exists`] where it is taken; else by cause.
    pub fn generate(&self, name: &str, kind: KeyKind) -> Result<StoredKey, KeyStoreError> {
        check_name("a key", name).map_err(KeyStoreError::Name)?;
        let path = self.path_of(name);
        let key = SigningKey::generate(kind);
        if self.store(&path, &key)? {
            Ok(StoredKey {
                name: name.to_owned(),
                public: key.public().clone(),
                path,
            })
        } else {
            Err(KeyStoreError::Exists { path })
        }
    }

    /// A key by its name, with its secret.
    ///
    /// # Errors
    /// [`KeyStoreError::Missing`] where there is none of that name; else by cause.
    pub fn get(&self, name: &str) -> Result<(StoredKey, SigningKey), KeyStoreError> {
        check_name("a key", name).map_err(KeyStoreError::Name)?;
        self.check_directory()?;
        let path = self.path_of(name);
        let key = read_key(&path)?;
        let stored = StoredKey {
            name: name.to_owned(),
            public: key.public().clone(),
            path,
        };
        Ok((stored, key))
    }

    /// The key of a provider's identity, made on first use.
    ///
    /// # Errors
    /// [`KeyStoreError`], by cause.
    pub fn provider(&self, provider: &str) -> Result<SigningKey, KeyStoreError> {
        self.load_or_make(&format!("{provider}_provider"), KeyKind::Provider)
    }

    /// Every key, in order of their names. Files of other suffixes are passed over; a directory that is not there has
    /// none.
    ///
    /// # Errors
    /// [`KeyStoreError`] about the first file that cannot be used.
    pub fn list(&self) -> Result<Vec<StoredKey>, KeyStoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read", &self.directory, error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|error| io_error("read", &self.directory, error))?
                .path();
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            let name = path.file_stem().unwrap_or_default();
            keys.push(StoredKey {
                name: name.to_string_lossy().into_owned(),
                public: read_key(&path)?.public().clone(),
                path,
            });
        }
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(keys)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{SUFFIX}"))
    }

    fn load_or_make(&self, name: &str, kind: KeyKind) -> Result<SigningKey, KeyStoreError> {
        check_name("a key", name).map_err(KeyStoreError::Name)?;
        let path = self.path_of(name);
        match self.load(&path, kind) {
            Err(KeyStoreError::Missing { .. }) => {}
            loaded => return loaded,
        }
        let key = SigningKey::generate(kind);
        if self.store(&path, &key)? {
            output::note(&format!(
                "note: made the {kind} key {} and keep its seed in {}",
                key.public(),
                path.display()
            ));
            return Ok(key);
        }
        // Somebody else made it between the two looks.
        self.load(&path, kind)
    }

    fn load(&self, path: &Path, kind: KeyKind) -> Result<SigningKey, KeyStoreError> {
        self.check_directory()?;
        let key = read_key(path)?;
        key.public()
            .expect_kind(kind)
            .map_err(|source| KeyStoreError::Key {
                origin: path.display().to_string(),
                source,
            })?;
        Ok(key)
    }

    /// Writes a new file. Returns whether it was new; another one is left as it is.
    fn store(&self, path: &Path, key: &SigningKey) -> Result<bool, KeyStoreError> {
        let failed = |error| io_error("write", path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| io_error("make", &self.directory, error))?;
        self.check_directory()?;
        // Made with mode 0600, under a random name.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        file.write_all(key.seed().as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed(error.error)),
        }
    }

    fn check_directory(&self) -> Result<(), KeyStoreError> {
        let mode = match fs::metadata(&self.directory) {
            Ok(metadata) => metadata.mode() & 0o7777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("read", &self.directory, error)),
        };
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(KeyStoreError::DirectoryExposed {
                path: self.directory.clone(),
                mode,
            });
        }
        Ok(())
    }
}

/// Reads the seed that a source names.
///
/// # Errors
/// [`KeyStoreError`], by cause; a public key where a secret is needed is one.
pub fn signing_key(
    source: &KeySource,
    kind: KeyKind,
    environment: &Environment,
) -> Result<SigningKey, KeyStoreError> {
    let (origin, key) = match source {
        KeySource::File(path) => (path.display().to_string(), read_key(path)?),
        KeySource::Variable(name) => {
            let seed = environment
                .raw(name)
                .and_then(|value| value.into_string().ok())
                .map(Zeroizing::new)
                .ok_or_else(|| KeyStoreError::Unset { name: name.clone() })?;
            let key = parse_seed(&seed, name)?;
            (name.clone(), key)
        }
        KeySource::Public(public) => {
            return Err(KeyStoreError::Name(format!(
                "{public} is a public key, but a seed is needed to sign; give a file, or `env:VARIABLE`"
            )));
        }
    };
    key.public()
        .expect_kind(kind)
        .map_err(|source| KeyStoreError::Key { origin, source })?;
    Ok(key)
}

/// The public part of what a source names.
///
/// # Errors
/// [`KeyStoreError`], by cause.
pub fn public_key(
    source: &KeySource,
    kind: KeyKind,
    environment: &Environment,
) -> Result<PublicKey, KeyStoreError> {
    if let KeySource::Public(public) = source {
        public
            .expect_kind(kind)
            .map_err(|source| KeyStoreError::Key {
                origin: public.to_string(),
                source,
            })?;
        return Ok(public.clone());
    }
    signing_key(source, kind, environment).map(|key| key.public().clone())
}

/// Checks a name that becomes part of file names: `[A-Za-z0-9._-]`, not hidden.
///
/// # Errors
/// A sentence that says what is wrong with the name of `what`.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX {
        return Err(format!(
            "the name of {what} must have 1 to {KEY_NAME_BYTES_MAX} bytes, this one has {}",
            name.len()
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with(['.', '-']) || !name.chars().all(legal) {
        return Err(format!(
            "the name of {what} may hold letters, digits, `_`, `-` and `.` and begin with none of the last two, unlike {name:?}"
        ));
    }
    Ok(())
}

fn read_key(path: &Path) -> Result<SigningKey, KeyStoreError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyStoreError::Missing {
            path: path.to_path_buf(),
        },
        _ => io_error("read", path, error),
    })?;
    // Asked of the opened file, so that no other one can be put in its place in between.
    let metadata = file
        .metadata()
        .map_err(|error| io_error("read", path, error))?;
    let mode = metadata.mode() & 0o7777;
    if mode & EXPOSED != 0 {
        return Err(KeyStoreError::Exposed {
            path: path.to_path_buf(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
    file.take(KEY_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| io_error("read", path, error))?;
    if text.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(KeyStoreError::TooLarge {
            path: path.to_path_buf(),
        });
    }
    parse_seed(&text, &path.display().to_string())
}

fn parse_seed(text: &str, origin: &str) -> Result<SigningKey, KeyStoreError> {
    SigningKey::from_seed(text.trim()).map_err(|source| KeyStoreError::Key {
        origin: origin.to_owned(),
        source,
    })
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> KeyStoreError {
    KeyStoreError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
