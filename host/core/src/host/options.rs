//! What a host is started with. Plain data: where it comes from is for the binaries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trellis_artifacts::ArtifactOptions;
use trellis_claims::{SigningKey, TrustRoots};
use trellis_lattice::connection::LatticeOptions;
use trellis_protocol::control::RegistryCredentials;
use trellis_protocol::control::host::RESERVED_LABEL_PREFIX;
use trellis_provider_sdk::ProviderFactory;

use crate::limits::COMPONENT_BYTES_MAX;
use crate::observe::span::Tracer;

/// Time that a host takes to drain where nobody chose another.
pub const SHUTDOWN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The directory of fetched artifacts, in the state directory.
const ARTIFACT_CACHE: &str = "artifacts";

/// What a host is started with.
#[derive(Clone)]
pub struct HostOptions {
    /// How to reach the lattice, and which one it is.
    pub nats: LatticeOptions,
    /// The host's own directory, made with mode 0700 where it is missing. One host at a time has it.
    pub state_dir: PathBuf,
    /// Its name for people. Without one it takes the machine's, with the end of its key.
    pub friendly_name: Option<String>,
    /// Labels, by which placement chooses. Those that begin with `hostcore.` are the host's own and replaced.
    pub labels: BTreeMap<String, String>,
    /// Whose actors are started, and whose hosts are believed. With none, nothing starts.
    pub trust: TrustRoots,
    /// Whether commands that nobody whom it trusts has signed are refused, and such links take no effect.
    pub require_signed: bool,
    /// The host's key, `N…`.
    pub host_key: Arc<SigningKey>,
    /// The certificate by which other hosts believe this one. Without it, it runs alone.
    pub certificate: Option<String>,
    /// Where components and providers may be had from. Whose providers are run is `trust`'s to say; a cache that is not
    /// named lies in the state directory.
    pub artifacts: ArtifactOptions,
    /// Credentials for registries. Further ones come over the control interface.
    pub registries: RegistryCredentials,
    /// The directory of programs that are started as providers by their file's name, `<name>` or `trellis-<name>`.
    pub provider_dir: Option<PathBuf>,
    /// As whom provider processes run where the host is root: a name, a number, or two with a colon between. `nobody` where
    /// none is given.
    pub provider_user: Option<String>,
    /// Files and directories that provider processes are kept from, beside the state directory and what `nats` names.
    pub private_paths: Vec<PathBuf>,
    /// The providers that it can start.
    pub provider_factories: Vec<Arc<dyn ProviderFactory>>,
    /// Further references of providers, without tag, and the names of providers that they stand for.
    pub provider_aliases: BTreeMap<String, String>,
    /// Whether it answers auctions of actors. Otherwise it runs those alone that it is named for.
    pub component_auctions: bool,
    /// Whether it answers auctions of providers.
    pub provider_auctions: bool,
    /// Who collects spans of calls. Without one there are none.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Whether it runs what it ran before it was stopped. Otherwise it forgets that.
    pub restore: bool,
    /// Time for work in flight when it is asked to stop without another time.
    pub shutdown_timeout: Duration,
}

impl std::fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let factories: Vec<_> = self.provider_factories.iter().map(|f| f.name()).collect();
        f.debug_struct("HostOptions")
            .field("nats", &self.nats)
            .field("state_dir", &self.state_dir)
            .field("host", self.host_key.public())
            .field("certificate", &self.certificate.is_some())
            .field("allow_file", &self.artifacts.allow_file)
            .field("providers", &factories)
            .finish_non_exhaustive()
    }
}

impl HostOptions {
    /// A host that trusts nobody, has no certificate and no providers, and loads no files.
    pub fn new(
        nats: LatticeOptions,
        state_dir: impl Into<PathBuf>,
        host_key: Arc<SigningKey>,
    ) -> Self {
        Self {
            nats,
            state_dir: state_dir.into(),
            friendly_name: None,
            labels: BTreeMap::new(),
            trust: TrustRoots::default(),
            require_signed: false,
            host_key,
            certificate: None,
            artifacts: ArtifactOptions {
                component_bytes_max: COMPONENT_BYTES_MAX,
                ..ArtifactOptions::default()
            },
            registries: RegistryCredentials::default(),
            provider_dir: None,
            provider_user: None,
            private_paths: Vec::new(),
            provider_factories: Vec::new(),
            provider_aliases: BTreeMap::new(),
            component_auctions: true,
            provider_auctions: true,
            tracer: None,
            restore: true,
            shutdown_timeout: SHUTDOWN_TIMEOUT_DEFAULT,
        }
    }

    /// What artifacts are fetched with.
    pub(super) fn artifact_options(&self, state_dir: &Path) -> ArtifactOptions {
        let mut options = self.artifacts.clone();
        options.trust = self.trust.clone();
        options
            .cache_dir
            .get_or_insert_with(|| state_dir.join(ARTIFACT_CACHE));
        options
    }

    /// Everything of this host that is none of a provider process's business.
    pub(super) fn all_private_paths(&self) -> Vec<PathBuf> {
        let secrets = [&self.nats.creds_file, &self.nats.tls.key];
        std::iter::once(self.state_dir.clone())
            .chain(secrets.into_iter().flatten().cloned())
            .chain(self.private_paths.iter().cloned())
            .collect()
    }

    pub(super) fn name(&self) -> String {
        self.friendly_name.clone().unwrap_or_else(|| {
            let key = self.host_key.public().as_str();
            let end = key.get(key.len().saturating_sub(4)..).unwrap_or(key);
            let machine = rustix::system::uname();
            format!(
                "{}-{}",
                machine.nodename().to_string_lossy(),
                end.to_lowercase()
            )
        })
    }

    /// The labels that were asked for, and those that say what machine this is.
    pub(super) fn all_labels(&self) -> BTreeMap<String, String> {
        let own = [
            ("os", std::env::consts::OS),
            ("arch", std::env::consts::ARCH),
            ("osfamily", std::env::consts::FAMILY),
        ];
        let own =
            own.map(|(key, value)| (format!("{RESERVED_LABEL_PREFIX}{key}"), value.to_owned()));
        let asked = self.labels.clone().into_iter();
        asked
            .filter(|(key, _)| !key.to_ascii_lowercase().starts_with(RESERVED_LABEL_PREFIX))
            .chain(own)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trellis_claims::KeyKind;

    #[test]
    fn a_host_says_what_machine_it_is_and_nobody_else_does() {
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        let mut options = HostOptions::new(LatticeOptions::default(), "/tmp/x", key);
        options.labels = BTreeMap::from([
            ("zone".to_owned(), "a".to_owned()),
            ("HOSTCORE.os".to_owned(), "lie".to_owned()),
        ]);
        let labels = options.all_labels();
        assert_eq!(labels["hostcore.os"], std::env::consts::OS);
        assert_eq!(labels["zone"], "a");
        assert_eq!(labels.len(), 4);
    }

    #[test]
    fn a_host_without_a_name_takes_one_that_tells_it_from_its_neighbours() {
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        let end = key.public().as_str()[52..].to_lowercase();
        let options = HostOptions::new(LatticeOptions::default(), "/tmp/x", key);
        assert!(
            options.name().ends_with(&format!("-{end}")),
            "{}",
            options.name()
        );
    }
}
