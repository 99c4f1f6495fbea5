//! Contexts: named sets of the flags that lead to a lattice, one JSON file each.
//!
//! | in the directory | what |
//! | --- | --- |
//! | `<name>.json` | a context |
//! | `default` | the name of the one that counts where none is named |
//!
//! The keys are [`Context`]'s. Files of wasmCloud 1.x's shell are read as well: its `ctl_…` keys stand for ours, and its
//! `rpc_…` keys, its `cluster_seed` and its `ctl_timeout` are passed over: a lattice has one NATS system, hosts have keys of
//! their own, and that shell writes its own default time into every file.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trellis_lattice::connection::ServerUrl;
use trellis_protocol::LatticeName;

use crate::environment::{self, Environment};

/// Largest file of a context, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Most contexts that are listed.
const CONTEXTS_MAX: usize = 1_024;

/// Longest name of a context, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The file that names the default context.
const DEFAULT_FILE: &str = "default";

/// A context that wasmCloud 1.x's shell makes by itself. It says nothing that is not the default anyway.
const OLDER_OWN: &str = "host_config";

/// Where a lattice is, and as whom to go there. What is absent is left to the environment and the defaults.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// NATS servers, with commas between. It may hold a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats_url: Option<String>,
    /// The lattice.
    #[serde(
        alias = "ctl_lattice_prefix",
        alias = "lattice_prefix",
        skip_serializing_if = "Option::is_none"
    )]
    pub lattice: Option<String>,
    /// Credentials file for NATS.
    #[serde(alias = "ctl_credsfile", skip_serializing_if = "is_no_path")]
    pub creds: Option<PathBuf>,
    /// User JWT for NATS.
    #[serde(alias = "ctl_jwt", skip_serializing_if = "Option::is_none")]
    pub nats_jwt: Option<String>,
    /// Seed of the user's nkey: a file, `env:VARIABLE`, or the seed.
    #[serde(alias = "ctl_seed", skip_serializing_if = "Option::is_none")]
    pub nats_seed: Option<String>,
    /// Root certificates to believe instead of the system's.
    #[serde(alias = "ctl_tls_ca_file", skip_serializing_if = "is_no_path")]
    pub nats_ca: Option<PathBuf>,
    /// Client certificate for NATS.
    #[serde(skip_serializing_if = "is_no_path")]
    pub nats_cert: Option<PathBuf>,
    /// Private key of the client certificate.
    #[serde(skip_serializing_if = "is_no_path")]
    pub nats_key: Option<PathBuf>,
    /// Whether the TLS handshake comes before the server's greeting.
    #[serde(alias = "ctl_tls_first", skip_serializing_if = "Option::is_none")]
    pub nats_tls_first: Option<bool>,
    /// JetStream domain of the lattice's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub js_domain: Option<String>,
    /// What control subjects begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_prefix: Option<String>,
    /// Account key that signs commands: a file with its seed, or `env:VARIABLE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Milliseconds to wait for an outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Read alone: wasmCloud 1.x's host and port.
    #[serde(skip_serializing)]
    pub(crate) ctl_host: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) ctl_port: Option<u16>,
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn is_no_path(path: &Option<PathBuf>) -> bool {
    path.as_deref()
        .is_none_or(|path| path.as_os_str().is_empty())
}

impl std::fmt::Debug for Context {
    /// Nothing that could be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("lattice", &self.lattice)
            .field("creds", &self.creds)
            .field("js_domain", &self.js_domain)
            .finish_non_exhaustive()
    }
}

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// No directory is known.
    #[error(
        "cannot tell where contexts are: set {}, XDG_CONFIG_HOME or HOME to an absolute path, or give --directory",
        environment::CONTEXTS.name
    )]
    NoDirectory,
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
    /// There is none of that name.
    #[error("there is no context {name} in {}; `wash ctx list` shows those that are, `wash ctx new {name}` makes one", directory.display())]
    Missing {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// There is one of that name.
    #[error("there is a context {name} already: see {}, or replace it with --replace", path.display())]
    Exists {
        /// The name.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// The name cannot be that of a file.
    #[error(
        "{name:?} cannot be the name of a context: give at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, beginning with none of the last"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The file is no context.
    #[error("cannot read the context in {}: {reason}; mend it with `wash ctx edit {name}`", path.display())]
    Malformed {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A directory of contexts, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Contexts {
    directory: PathBuf,
}

impl Contexts {
    /// What a flag names, else `$TRELLIS_CONTEXTS`, else `$XDG_CONFIG_HOME/trellis/contexts`, else
    /// `~/.config/trellis/contexts`.
    ///
    /// # Errors
    /// [`ContextError::NoDirectory`] where none of them is set.
    pub fn of(flag: Option<&Path>, environment: &mut Environment) -> Result<Self, ContextError> {
        flag.map(Path::to_path_buf)
            .or_else(|| environment.get(environment::CONTEXTS).map(PathBuf::from))
            .or_else(|| {
                environment
                    .xdg_dir("XDG_CONFIG_HOME", ".config")
                    .map(|base| base.join("contexts"))
            })
            .map(|directory| Self { directory })
            .ok_or(ContextError::NoDirectory)
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a context.
    ///
    /// # Errors
    /// [`ContextError::Name`].
    pub fn path(&self, name: &str) -> Result<PathBuf, ContextError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.chars().all(plain)
            && !name.starts_with('.');
        if !is_name {
            return Err(ContextError::Name {
                name: name.to_owned(),
            });
        }
        Ok(self.directory.join(format!("{name}.json")))
    }

    /// The names of all contexts, in order.
    ///
    /// # Errors
    /// [`ContextError::Io`]. A directory that is not there has none.
    pub fn list(&self) -> Result<Vec<String>, ContextError> {
        let failed = |source| io_error("read", &self.directory, source);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries.take(CONTEXTS_MAX) {
            let path = entry.map_err(failed)?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(name) = name
                && path.extension().is_some_and(|suffix| suffix == "json")
                && name != "index"
                && self.path(name).is_ok()
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The name of the default context. One that names no context is none.
    ///
    /// # Errors
    /// [`ContextError::Io`].
    pub fn default_name(&self) -> Result<Option<String>, ContextError> {
        let path = self.directory.join(DEFAULT_FILE);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let name = text.trim();
        let there = self.path(name).is_ok_and(|path| path.is_file());
        Ok(there.then(|| name.to_owned()))
    }

    /// A context.
    ///
    /// # Errors
    /// [`ContextError`], by cause.
    pub fn load(&self, name: &str) -> Result<Context, ContextError> {
        let path = self.path(name)?;
        let text = read(&path)?.ok_or_else(|| self.missing(name))?;
        // By way of an object: a list would be taken for one, in the order of its keys.
        let mut context: Context = serde_json::from_str::<serde_json::Map<_, _>>(&text)
            .and_then(|object| serde_json::from_value(object.into()))
            .map_err(|error| ContextError::Malformed {
                name: name.to_owned(),
                path: path.clone(),
                reason: error.to_string(),
            })?;
        context.translate(name == OLDER_OWN);
        context.check().map_err(|reason| ContextError::Malformed {
            name: name.to_owned(),
            path,
            reason,
        })?;
        Ok(context)
    }

    /// Writes a context, readable by nobody else: it may hold a password.
    ///
    /// # Errors
    /// [`ContextError`], by cause; [`ContextError::Exists`] unless it may be replaced.
    pub fn save(
        &self,
        name: &str,
        context: &Context,
        may_replace: bool,
    ) -> Result<PathBuf, ContextError> {
        let path = self.path(name)?;
        if path.exists() && !may_replace {
            return Err(ContextError::Exists {
                name: name.to_owned(),
                path,
            });
        }
        let mut text = serde_json::to_vec_pretty(context)
            .map_err(|error| io_error("write", &path, error.into()))?;
        text.push(b'\n');
        self.write(&path, &text)?;
        Ok(path)
    }

    /// Makes a context the default.
    ///
    /// # Errors
    /// [`ContextError`], by cause.
    pub fn set_default(&self, name: &str) -> Result<(), ContextError> {
        self.load(name)?;
        self.write(
            &self.directory.join(DEFAULT_FILE),
            format!("{name}\n").as_bytes(),
        )
    }

    /// Deletes a context. Says whether it was the default, which there is none of then.
    ///
    /// # Errors
    /// [`ContextError`], by cause.
    pub fn delete(&self, name: &str) -> Result<bool, ContextError> {
        let path = self.path(name)?;
        let was_default = self.default_name()?.as_deref() == Some(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.missing(name));
            }
            removed => removed.map_err(|source| io_error("remove", &path, source))?,
        }
        if was_default {
            let default = self.directory.join(DEFAULT_FILE);
            fs::remove_file(&default).map_err(|source| io_error("remove", &default, source))?;
        }
        Ok(was_default)
    }

    fn write(&self, path: &Path, text: &[u8]) -> Result<(), ContextError> {
        let failed = |source| io_error("write", path, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| io_error("make", &self.directory, source))?;
        // A temporary file has mode 0600, and keeps it where it is moved to.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        file.write_all(text).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn missing(&self, name: &str) -> ContextError {
        ContextError::Missing {
            name: name.to_owned(),
            directory: self.directory.clone(),
        }
    }
}

impl Context {
    /// Turns what wasmCloud 1.x's shell wrote into our keys. It writes empty texts for what is not set.
    fn translate(&mut self, made_by_itself: bool) {
        for text in [
            &mut self.nats_url,
            &mut self.lattice,
            &mut self.nats_jwt,
            &mut self.nats_seed,
            &mut self.js_domain,
            &mut self.control_prefix,
            &mut self.signer,
        ] {
            text.take_if(|text| text.is_empty());
        }
        for path in [
            &mut self.creds,
            &mut self.nats_ca,
            &mut self.nats_cert,
            &mut self.nats_key,
        ] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        let (host, port) = (self.ctl_host.take(), self.ctl_port.take());
        let host = host.filter(|host| !host.is_empty());
        let (default_host, default_port) = ("127.0.0.1", 4222);
        let is_default = host.as_deref().is_none_or(|host| host == default_host)
            && port.is_none_or(|port| port == default_port);
        // What that shell makes by itself names the usual server without anybody having chosen it.
        if self.nats_url.is_none()
            && (host.is_some() || port.is_some())
            && !(made_by_itself && is_default)
        {
            self.nats_url = Some(format!(
                "nats://{}:{}",
                host.as_deref().unwrap_or(default_host),
                port.unwrap_or(default_port)
            ));
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(lattice) = &self.lattice {
            lattice
                .parse::<LatticeName>()
                .map_err(|error| format!("lattice: {error}"))?;
        }
        if let Some(url) = &self.nats_url {
            let urls = ServerUrl::parse_list(url).map_err(|error| format!("nats_url: {error}"))?;
            if urls.is_empty() {
                return Err("nats_url names no server".to_owned());
            }
        }
        Ok(())
    }

    /// The servers without passwords, for people.
    #[must_use]
    pub fn servers(&self) -> Option<String> {
        let urls = ServerUrl::parse_list(self.nats_url.as_deref()?).ok()?;
        let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
        Some(urls.join(","))
    }
}

fn read(path: &Path) -> Result<Option<String>, ContextError> {
    let failed = |source| io_error("read", path, source);
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => file
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    Ok(Some(text))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> ContextError {
    ContextError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests;
