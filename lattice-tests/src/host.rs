//! A host in this process, on a runtime of its own, as a host has in a process of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use trellis_claims::{
    HostCertificate, KeyKind, NewHostCertificate, PublicKey, SigningKey, TrustRoots, UnixTime,
    Validity,
};
use trellis_host_core::{Host, HostError, HostOptions};

use crate::Lattice;
use crate::actor::VALID_FOR;
use crate::process::HostProcess;

/// Whatever has the id of a host.
pub trait HostId {
    /// The host's public key.
    fn id(&self) -> &str;
}

impl HostId for str {
    fn id(&self) -> &str {
        self
    }
}

/// How a host is started. Built by [`Lattice::host`] and the methods that follow it.
#[derive(Debug)]
pub struct HostBuilder<'a> {
    lattice: &'a Lattice,
    name: String,
    key: Arc<SigningKey>,
    may_run: Vec<String>,
    certified: bool,
    allow_file: bool,
    trust: TrustRoots,
    shutdown_timeout: Option<Duration>,
    adjust: Vec<fn(&mut HostOptions)>,
    flags: Vec<String>,
}

impl<'a> HostBuilder<'a> {
    pub(crate) fn new(lattice: &'a Lattice, name: &str) -> Self {
        Self {
            lattice,
            name: name.to_owned(),
            key: Arc::new(SigningKey::generate(KeyKind::Host)),
            may_run: vec!["*".to_owned()],
            certified: true,
            allow_file: true,
            trust: lattice.trust(),
            shutdown_timeout: None,
            adjust: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// With options changed, where it is started in this process.
    #[must_use]
    pub fn adjusted(mut self, adjust: fn(&mut HostOptions)) -> Self {
        self.adjust.push(adjust);
        self
    }

    /// With further flags, where it is started as a process of its own.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// With a certificate that names these ids alone.
    #[must_use]
    pub fn may_run(mut self, ids: &[&str]) -> Self {
        self.may_run = ids.iter().map(|id| (*id).to_owned()).collect();
        self
    }

    /// Without a certificate.
    #[must_use]
    pub fn uncertified(mut self) -> Self {
        self.certified = false;
        self
    }

    /// Without leave to load components from files.
    #[must_use]
    pub fn without_files(mut self) -> Self {
        self.allow_file = false;
        self
    }

    /// Which trusts another account beside the lattice's.
    ///
    /// # Panics
    /// Where the key is not that of an account or an operator.
    #[must_use]
    pub fn trusting(mut self, account: &PublicKey) -> Self {
        self.trust
            .insert(account.clone())
            .expect("a test trusts accounts");
        self
    }

    /// With this time for draining.
    #[must_use]
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.shutdown_timeout = Some(time);
        self
    }

    /// Starts it in this process.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn start(self) -> HostFixture {
        let state_dir = state_dir(&self.name);
        match self.try_start(state_dir).await {
            Ok(host) => host,
            Err(error) => panic!("the host does not start: {error:?}"),
        }
    }

    async fn try_start(self, state_dir: TempDir) -> Result<HostFixture, HostError> {
        trellis_host::install_crypto();
        let options = self.options(state_dir.path());
        let runtime = trellis_host::runtime::build().expect("threads can be started");
        let started = runtime
            .spawn(Host::start(options))
            .await
            .expect("starting a host does not panic");
        let host = match started {
            Ok(host) => host,
            Err(error) => {
                // A runtime may not be dropped where others are running: that panic would hide the error.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(HostFixture {
            id: host.id().to_owned(),
            host: Some(host),
            runtime: Some(runtime),
            state_dir: Some(state_dir),
        })
    }

    /// Starts it as a process of its own.
    ///
    /// # Panics
    /// Where the program is missing, or does not serve in time.
    pub async fn spawn(self) -> HostProcess {
        let state_dir = state_dir(&self.name);
        let key_file = state_dir.path().join("host.nk");
        write_private(&key_file, self.key.seed().as_bytes());
        let certificate = self.certificate();
        HostProcess::spawn(self.lattice, &self, state_dir, certificate).await
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn host_id(&self) -> &str {
        self.key.public().as_str()
    }

    pub(crate) fn further_flags(&self) -> &[String] {
        &self.flags
    }

    pub(crate) fn drains_within(&self) -> Option<Duration> {
        self.shutdown_timeout
    }

    fn certificate(&self) -> Option<String> {
        let now = UnixTime::now();
        let new = NewHostCertificate {
            subject: self.key.public().clone(),
            lattice: self.lattice.name().to_owned(),
            may_run: self.may_run.clone(),
            validity: Validity::starting(now, VALID_FOR),
        };
        self.certified.then(|| {
            HostCertificate::issue(&new, self.lattice.account(), now)
                .expect("a certificate of a test can be issued")
        })
    }

    fn options(&self, state_dir: &Path) -> HostOptions {
        let nats = self.lattice.options();
        let mut options = HostOptions::new(nats.clone(), state_dir, Arc::clone(&self.key));
        options.friendly_name = Some(self.name.clone());
        options.trust = self.trust.clone();
        options.certificate = self.certificate();
        options.artifacts.allow_file = self.allow_file;
        options.provider_factories = trellis_host::built_in(&nats);
        if let Some(time) = self.shutdown_timeout {
            options.shutdown_timeout = time;
        }
        for adjust in &self.adjust {
            adjust(&mut options);
        }
        options
    }
}

/// A host in this process. Dropping it takes it out of the lattice without a goodbye.
#[derive(Debug)]
pub struct HostFixture {
    id: String,
    host: Option<Arc<Host>>,
    runtime: Option<Runtime>,
    state_dir: Option<TempDir>,
}

impl HostId for HostFixture {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HostFixture {
    /// The host itself.
    ///
    /// # Panics
    /// After [`Self::stop`].
    pub fn host(&self) -> &Arc<Host> {
        self.host.as_ref().expect("the host has not been stopped")
    }

    /// Its state directory.
    ///
    /// # Panics
    /// After [`Self::stop`].
    pub fn state_dir(&self) -> &Path {
        self.state_dir
            .as_ref()
            .expect("the host has not been stopped")
            .path()
    }

    /// Drains it. Says whether everything that had begun was finished in time.
    pub async fn stop(&self, within: Duration) -> bool {
        let host = Arc::clone(self.host());
        let runtime = self
            .runtime
            .as_ref()
            .expect("the host has not been stopped");
        runtime
            .spawn(async move { host.stop(within).await })
            .await
            .expect("stopping a host does not panic")
    }
}

impl Drop for HostFixture {
    fn drop(&mut self) {
        self.host = None;
        // A runtime that is dropped waits for its blocking tasks, which a test's own runtime does not let it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A host, wherever it runs.
#[derive(Debug)]
pub enum AnyHost {
    /// In this process.
    Here(HostFixture),
    /// As a process of its own.
    Process(HostProcess),
}

impl HostId for AnyHost {
    fn id(&self) -> &str {
        match self {
            Self::Here(host) => host.id(),
            Self::Process(host) => host.id(),
        }
    }
}

impl AnyHost {
    /// The id of its process.
    ///
    /// # Panics
    /// Where that is the test's own.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Here(_) => panic!("the host has no process of its own"),
            Self::Process(host) => host.pid(),
        }
    }
}

/// A state directory that shares its compiled components with those of all other tests.
fn state_dir(name: &str) -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix(&format!("trellis-{name}-"))
        .tempdir()
        .expect("a temporary directory can be made");
    let cache = compiled_dir();
    std::os::unix::fs::symlink(cache, directory.path().join("aot"))
        .expect("a link can be made in a new directory");
    directory
}

/// Compiled components outlive the tests: each is checked by its host before it is loaded.
fn compiled_dir() -> PathBuf {
    use std::os::unix::fs::DirBuilderExt as _;
    let test = std::env::current_exe().expect("a test knows its own path");
    let beside = test.parent().expect("a program is in a directory");
    let directory = beside.join("lattice-tests-compiled");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .expect("a directory can be made beside the test");
    directory
}

fn write_private(path: &Path, content: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .expect("a file can be written into a new directory");
}
