//! Environment variables that `wash` reads: their names, and the older names that still work.
//!
//! A flag wins over a variable of ours, which wins over one of wasmCloud 1.x's, which wins over the default. Nothing else
//! reads the environment, and it is read through [`Environment`], so tests never touch the process's own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use trellis_host::args::older;

use crate::command::Order;

/// URL of the NATS server.
pub const NATS_URL: Variable = Variable::new("TRELLIS_NATS_URL");
/// Name of the lattice.
pub const LATTICE: Variable = Variable::with_older("TRELLIS_LATTICE", &["WASMCLOUD_LATTICE"]);
/// Credentials file for NATS.
pub const CREDS: Variable = Variable::with_older(
    "TRELLIS_CREDS",
    &[
        "WASMCLOUD_CTL_CREDSFILE",
        "WASMCLOUD_CTL_CREDS",
        "WASH_CTL_CREDS",
    ],
);
/// User JWT for NATS, or a file with one.
pub const NATS_JWT: Variable = Variable::with_older("TRELLIS_NATS_JWT", &["WASMCLOUD_CTL_JWT"]);
/// Seed of the user's nkey for NATS, or a file with one.
pub const NATS_SEED: Variable = Variable::with_older("TRELLIS_NATS_SEED", &["WASMCLOUD_CTL_SEED"]);
/// Root certificates of NATS.
pub const NATS_CA: Variable = Variable::with_older(
    "TRELLIS_NATS_CA",
    &["WASMCLOUD_CTL_TLS_CA_FILE", "WASH_CTL_TLS_CA_FILE"],
);
/// Client certificate for NATS.
pub const NATS_CERT: Variable = Variable::new("TRELLIS_NATS_CERT");
/// Key of the client certificate for NATS.
pub const NATS_KEY: Variable = Variable::new("TRELLIS_NATS_KEY");
/// Whether TLS comes before the greeting.
pub const NATS_TLS_FIRST: Variable = Variable::with_older(
    "TRELLIS_NATS_TLS_FIRST",
    &["WASMCLOUD_CTL_TLS_FIRST", "WASH_CTL_TLS_FIRST"],
);
/// JetStream domain of the lattice's state.
pub const JS_DOMAIN: Variable = Variable::with_older("TRELLIS_JS_DOMAIN", &["WASMCLOUD_JS_DOMAIN"]);
/// What control subjects begin with.
pub const CONTROL_PREFIX: Variable =
    Variable::with_older("TRELLIS_CONTROL_PREFIX", &["WASMCLOUD_CTL_TOPIC_PREFIX"]);
/// Context of commands that name none.
pub const CONTEXT: Variable = Variable::new("TRELLIS_CONTEXT");
/// Directory of contexts.
pub const CONTEXTS: Variable = Variable::with_older("TRELLIS_CONTEXTS", &["WASH_CONTEXTS"]);
/// The host's own key: a file with its seed, or the seed.
pub const HOST_SEED: Variable = Variable::with_older("TRELLIS_HOST_SEED", &["WASMCLOUD_HOST_SEED"]);
/// The account that certifies the host: a file with its seed, or the seed.
pub const CLUSTER_SEED: Variable =
    Variable::with_older("TRELLIS_CLUSTER_SEED", &["WASMCLOUD_CLUSTER_SEED"]);
/// Editor of contexts.
pub const EDITOR: Variable = Variable::new("EDITOR");
/// Account key that signs commands: a file with its seed, or `env:VARIABLE`.
pub const SIGNER: Variable = Variable::new("TRELLIS_SIGNER");
/// File with the token by which an operator vouches for that account.
pub const ACCOUNT_TOKEN: Variable = Variable::new("TRELLIS_ACCOUNT_TOKEN");
/// Milliseconds to wait.
pub const TIMEOUT_MS: Variable =
    Variable::with_older("TRELLIS_TIMEOUT_MS", &["WASMCLOUD_CTL_TIMEOUT_MS"]);
/// Directory of keys.
pub const KEYS_DIR: Variable = Variable::with_older("TRELLIS_KEYS_DIR", &["WASMCLOUD_KEYS"]);
/// Directory of what `wash up` runs.
pub const STATE_DIR: Variable = Variable::new("TRELLIS_STATE_DIR");
/// Keys of further accounts and operators that `wash up` trusts.
pub const TRUST: Variable = Variable::with_older("TRELLIS_TRUST", &["WASMCLOUD_CLUSTER_ISSUERS"]);
/// The registry that user and password are for; every one, where it is not set.
pub const OCI_REGISTRY: Variable = Variable::new("TRELLIS_OCI_REGISTRY");
/// Certificates of authorities to believe of registries, with commas between.
pub const OCI_CA: Variable = Variable::new("TRELLIS_OCI_CA");
/// Registries that are spoken to over plain HTTP, with commas between.
pub const INSECURE_REGISTRIES: Variable = Variable::new("TRELLIS_INSECURE_REGISTRIES");
/// User of registries.
pub const OCI_USER: Variable = Variable::with_older("TRELLIS_OCI_USER", &["WASH_REG_USER"]);
/// Password of registries.
pub const OCI_PASSWORD: Variable =
    Variable::with_older("TRELLIS_OCI_PASSWORD", &["WASH_REG_PASSWORD"]);
/// Directory of artifacts that were pulled.
pub const ARTIFACT_CACHE: Variable = Variable::new("TRELLIS_ARTIFACT_CACHE");
/// The two that 1.x has instead of a URL.
const OLDER_HOST: &str = "WASMCLOUD_CTL_HOST";
const OLDER_PORT: &str = "WASMCLOUD_CTL_PORT";

/// A variable by its name, and names it had before.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The name to use.
    pub name: &'static str,
    /// Names it had before.
    pub older: &'static [&'static str],
}

impl Variable {
    const fn new(name: &'static str) -> Self {
        Self { name, older: &[] }
    }

    const fn with_older(name: &'static str, older: &'static [&'static str]) -> Self {
        Self { name, older }
    }
}

/// A copy of the environment, and notes about older names that were used.
#[derive(Debug, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    notes: Vec<String>,
    arguments: Vec<OsString>,
    order: Option<Order>,
}

impl Environment {
    /// The process's own.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&mut self, variable: Variable) -> Option<OsString> {
        if let Some(value) = self.raw(variable.name) {
            return Some(value);
        }
        let (older, value) = variable
            .older
            .iter()
            .find_map(|older| Some((*older, self.raw(older)?)))?;
        self.note_older(older, variable.name);
        Some(value)
    }

    /// The value of a variable as text. What is not UTF-8 becomes `�`, and is then refused by whoever parses it.
    pub fn text(&mut self, variable: Variable) -> Option<String> {
        Some(self.get(variable)?.to_string_lossy().into_owned())
    }

    /// The URL of the NATS server, put together from host and port where only the older names are set, and the variables
    /// that it came from, for people.
    pub fn nats_url(&mut self) -> Option<(String, String)> {
        if let Some(url) = self.text(NATS_URL) {
            return Some((url, NATS_URL.name.to_owned()));
        }
        let (host, port) = (self.raw(OLDER_HOST), self.raw(OLDER_PORT));
        let mut read = Vec::new();
        for (older, value) in [(OLDER_HOST, &host), (OLDER_PORT, &port)] {
            if value.is_some() {
                self.note_older(older, NATS_URL.name);
                read.push(older);
            }
        }
        if read.is_empty() {
            return None;
        }
        let text = |value: Option<OsString>, default: &str| {
            value.map_or_else(
                || default.to_owned(),
                |value| value.to_string_lossy().into_owned(),
            )
        };
        let url = format!("nats://{}:{}", text(host, "127.0.0.1"), text(port, "4222"));
        Some((url, read.join(" and ")))
    }

    /// A directory of ours below one of the XDG base directories; relative values are passed over, as that
    /// specification asks.
    #[must_use]
    pub fn xdg_dir(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |name: &str| {
            self.raw(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute(variable)
            .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
            .map(|base| base.join("trellis"))
    }

    /// The value of any variable, by its name alone.
    #[must_use]
    pub fn raw(&self, name: impl AsRef<OsStr>) -> Option<OsString> {
        self.variables
            .get(name.as_ref())
            .filter(|value| !value.is_empty())
            .cloned()
    }

    /// The command line, without the program's name: for `wash up --detached`, which runs itself again.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Remembers the command line.
    #[must_use]
    pub fn with_arguments(mut self, arguments: impl IntoIterator<Item = OsString>) -> Self {
        self.arguments = arguments.into_iter().collect();
        self
    }

    /// What this process is to do as the daemon of `wash up --detached`, if it is one.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Makes this process the daemon of another one.
    #[must_use]
    pub fn with_order(mut self, order: Option<Order>) -> Self {
        self.order = order;
        self
    }

    /// Labels that a host is given by variables such as `WASMCLOUD_LABEL_zone`.
    pub fn older_labels(&mut self) -> Vec<(String, String)> {
        let labels = older::older_labels(self.variables.clone());
        for (key, _) in &labels {
            self.note_older(&format!("WASMCLOUD_LABEL_{key}"), "TRELLIS_LABELS");
        }
        labels
    }

    /// Has something said on stderr once the command has ended, if it is not to be said already.
    pub fn tell(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What is to be said on stderr about older names. Each is said once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn note_older(&mut self, older: &str, name: &str) {
        self.tell(older::note(older, name));
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            notes: Vec::new(),
            arguments: Vec::new(),
            order: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_name_wins_over_the_older_one_without_a_note() {
        let mut environment: Environment =
            [("TRELLIS_LATTICE", "ours"), ("WASMCLOUD_LATTICE", "older")]
                .into_iter()
                .collect();
        assert_eq!(environment.text(LATTICE).as_deref(), Some("ours"));
        assert!(environment.take_notes().is_empty());
    }

    #[test]
    fn an_older_name_is_read_with_a_note() {
        let mut environment: Environment =
            [("TRELLIS_LATTICE", ""), ("WASMCLOUD_LATTICE", "older")]
                .into_iter()
                .collect();
        assert_eq!(environment.text(LATTICE).as_deref(), Some("older"));
        assert_eq!(
            environment.take_notes(),
            ["note: read WASMCLOUD_LATTICE; its name is TRELLIS_LATTICE now"]
        );
    }

    #[test]
    fn host_and_port_make_a_url() {
        let mut environment: Environment = [("WASMCLOUD_CTL_PORT", "4333")].into_iter().collect();
        assert_eq!(
            environment.nats_url(),
            Some((
                "nats://127.0.0.1:4333".to_owned(),
                "WASMCLOUD_CTL_PORT".to_owned()
            ))
        );
        assert_eq!(environment.take_notes().len(), 1);
        assert_eq!(Environment::default().nats_url(), None);
    }

    #[test]
    fn a_relative_base_directory_is_passed_over() {
        let environment: Environment = [("XDG_CONFIG_HOME", "relative"), ("HOME", "/home/ada")]
            .into_iter()
            .collect();
        assert_eq!(
            environment.xdg_dir("XDG_CONFIG_HOME", ".config"),
            Some(PathBuf::from("/home/ada/.config/trellis"))
        );
    }
}
