//! A lattice of a test's own: its server, its account, its files, and the usual ways to put something into it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use trellis_claims::{CommandSigner, KeyKind, SigningKey, TrustRoots};
use trellis_lattice::client::ControlClient;
use trellis_lattice::connection::{LatticeOptions, connect_control};
use trellis_protocol::{LatticeName, Link};

use crate::actor::{Signature, reference};
use crate::deploy::{Failed, Operator, link, scale};
use crate::door::{Door, Setting};
use crate::host::{AnyHost, HostBuilder, HostId};
use crate::http;
use crate::nats::Nats;
use crate::ports::free_port;
use crate::wait::eventually;

/// Permits that actors of tests get.
pub const COUNT: u32 = 100;

/// A lattice.
#[derive(Debug)]
pub struct Lattice {
    nats: Mutex<Nats>,
    url: String,
    name: LatticeName,
    account: SigningKey,
    files: TempDir,
    written: AtomicU32,
    operator: Operator,
}

impl Lattice {
    /// Starts a server, and connects an operator to it.
    ///
    /// # Panics
    /// Where the server cannot be had.
    pub async fn start() -> Self {
        trellis_host::install_crypto();
        log_if_wanted();
        let nats = tokio::task::spawn_blocking(Nats::start)
            .await
            .expect("the server starts");
        let url = nats.url().to_owned();
        let name = LatticeName::new(&format!("test-{:08x}", rand::random::<u32>()))
            .expect("letters, digits and a hyphen");
        let operator = Self::connect_operator(&options(&url, &name)).await;
        Self {
            nats: Mutex::new(nats),
            url,
            name,
            account: SigningKey::generate(KeyKind::Account),
            files: tempfile::tempdir().expect("a temporary directory can be made"),
            written: AtomicU32::new(0),
            operator,
        }
    }

    async fn connect_operator(options: &LatticeOptions) -> Operator {
        let client = connect_control(options)
            .await
            .expect("a server that was just started can be reached");
        Operator::new(ControlClient::new(client, options.subjects()))
    }

    /// The same lattice, whose operator signs what it commands from now on.
    #[must_use]
    pub fn signing(mut self) -> Self {
        let client = self.operator.client().clone();
        self.operator = Operator::new(client.with_signer(Some(self.signer())));
        self
    }

    /// A hand that signs in the name of the lattice's account.
    ///
    /// # Panics
    /// Never: an account's key can sign.
    pub fn signer(&self) -> CommandSigner {
        let account = SigningKey::from_seed(&self.account.seed()).expect("a key's own seed is one");
        CommandSigner::new(Arc::new(account), None).expect("an account can sign")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How to reach it.
    pub fn options(&self) -> LatticeOptions {
        options(&self.url, &self.name)
    }

    /// The account that signs its actors and its hosts' certificates.
    pub fn account(&self) -> &SigningKey {
        &self.account
    }

    /// What its hosts trust: the account.
    ///
    /// # Panics
    /// Never: an account's key is a trust root.
    pub fn trust(&self) -> TrustRoots {
        let mut trust = TrustRoots::default();
        trust
            .insert(self.account.public().clone())
            .expect("an account can be trusted");
        trust
    }

    /// A directory for files of the test.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The operator.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Another operator, with a connection of its own.
    pub async fn another_operator(&self) -> Operator {
        Self::connect_operator(&self.options()).await
    }

    /// A client of the server that is neither host nor operator.
    ///
    /// # Panics
    /// Where it cannot connect.
    pub async fn stranger(&self) -> async_nats::Client {
        async_nats::connect(&self.url)
            .await
            .expect("anyone may connect to a test's server")
    }

    /// A host that will be called so.
    pub fn host(&self, name: &str) -> HostBuilder<'_> {
        HostBuilder::new(self, name)
    }

    /// The hosts of a setting, the provider's first. One that runs a provider's process is itself a process.
    pub async fn hosts(&self, setting: Setting) -> Vec<AnyHost> {
        let mut hosts = Vec::new();
        for (number, name) in ["a", "b"].iter().take(setting.hosts()).enumerate() {
            let host = self.host(name);
            hosts.push(match setting.door {
                Door::Process if number == 0 => AnyHost::Process(host.spawn().await),
                _ => AnyHost::Here(host.start().await),
            });
        }
        hosts
    }

    /// Stops the server.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop_nats(&self) {
        tokio::task::block_in_place(|| self.nats().stop());
    }

    /// Kills the server.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill_nats(&self) {
        tokio::task::block_in_place(|| self.nats().kill());
    }

    /// Has the server stand still where it is, for a time.
    ///
    /// # Panics
    /// Where it does not run.
    pub async fn freeze_nats(&self, time: Duration) {
        self.nats().stand_still();
        tokio::time::sleep(time).await;
        self.nats().go_on();
    }

    /// Starts the server again where it was.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_nats_again(&self) {
        tokio::task::block_in_place(|| self.nats().start_again());
    }

    fn nats(&self) -> std::sync::MutexGuard<'_, Nats> {
        self.nats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a component into a file of its own, and gives back its reference.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn file(&self, component: &[u8]) -> String {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = self.files.path().join(format!("{number}.wasm"));
        std::fs::write(&path, component).expect("a file can be written into a new directory");
        reference(&path)
    }

    /// An actor signed as it should be; gives back its reference.
    pub fn signed(&self, actor: &str) -> String {
        self.file(&Signature::of(actor, &self.account).component())
    }

    /// Runs an actor under its own name.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn run(&self, host: &(impl HostId + ?Sized), actor: &str) {
        self.run_with(host, actor, COUNT, &[]).await;
    }

    /// Runs an actor with so many permits and these configurations.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn run_with(
        &self,
        host: &(impl HostId + ?Sized),
        actor: &str,
        count: u32,
        config: &[&str],
    ) {
        self.run_as(host, actor, actor, count, config).await;
    }

    /// Runs an actor under another name than its own, with so many permits and these configurations.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn run_as(
        &self,
        host: &(impl HostId + ?Sized),
        actor: &str,
        id: &str,
        count: u32,
        config: &[&str],
    ) {
        let mut command = scale(host.id(), &self.signed(actor), id, count);
        command.config = config.iter().map(|name| (*name).to_owned()).collect();
        if let Err(failed) = self.operator.scale(&command).await {
            panic!("`{id}` does not start: {failed:?}");
        }
    }

    /// Tries to run what a reference leads to.
    ///
    /// # Errors
    /// [`Failed`], which most callers are after.
    pub async fn try_run(
        &self,
        host: &(impl HostId + ?Sized),
        reference: &str,
        actor: &str,
    ) -> Result<u32, Failed> {
        self.operator
            .scale(&scale(host.id(), reference, actor, COUNT))
            .await
    }

    /// Runs an HTTP server for one actor on a host, called `web-<actor>`, and waits until it listens. Gives back its URL.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn serve(&self, host: &(impl HostId + ?Sized), actor: &str) -> String {
        self.serve_with(host, actor, &[]).await
    }

    /// As [`Self::serve`], with further settings of the link.
    ///
    /// # Panics
    /// Where it does not listen.
    pub async fn serve_with(
        &self,
        host: &(impl HostId + ?Sized),
        actor: &str,
        settings: &[(&str, &str)],
    ) -> String {
        self.serve_by(Door::BuiltIn, host, actor, &[], settings)
            .await
    }

    /// As [`Self::serve_with`], by a server that runs as wished, with a configuration of its own.
    ///
    /// # Panics
    /// Where it does not listen.
    pub async fn serve_by(
        &self,
        door: Door,
        host: &(impl HostId + ?Sized),
        actor: &str,
        config: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> String {
        self.provide(door, host, "http-server", &web(actor), config)
            .await;
        let address = format!("127.0.0.1:{}", free_port());
        let mut settings = settings.to_vec();
        settings.push(("address", &address));
        self.operator
            .configure(&http_config(actor), &settings)
            .await;
        self.operator.link(&http_link(actor)).await;
        let url = format!("http://{address}");
        eventually("the http server listens", async || {
            http::Connection::open(&url).await.ok()
        })
        .await;
        url
    }

    /// Runs a key-value provider under the id `kv`.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn store(&self, host: &(impl HostId + ?Sized)) {
        self.provide(Door::BuiltIn, host, "keyvalue-nats", "kv", &[])
            .await;
    }

    /// Runs a provider under an id, with a configuration of its own, called as its id.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn provide(
        &self,
        door: Door,
        host: &(impl HostId + ?Sized),
        provider: &str,
        id: &str,
        config: &[(&str, &str)],
    ) {
        if let Err(failed) = self.try_provide(door, host, provider, id, config).await {
            panic!("{provider} does not start: {failed:?}");
        }
    }

    /// Tries to run a provider under an id, with a configuration of its own, called as its id.
    ///
    /// # Errors
    /// [`Failed`], where the provider says no.
    pub async fn try_provide(
        &self,
        door: Door,
        host: &(impl HostId + ?Sized),
        provider: &str,
        id: &str,
        config: &[(&str, &str)],
    ) -> Result<(), Failed> {
        let mut config = config.to_vec();
        // Only what is built in may use the host's own way to NATS.
        if door == Door::Process && provider.ends_with("-nats") {
            config.push(("cluster_uris", &self.url));
        }
        let names: &[&str] = if config.is_empty() { &[] } else { &[id] };
        if !config.is_empty() {
            self.operator.configure(id, &config).await;
        }
        self.operator
            .start_provider(host.id(), &door.reference(provider), id, names)
            .await
    }

    /// Links an actor to a provider, with a configuration for the link's target, called `<source>-<target>`.
    ///
    /// # Panics
    /// Where the link or the configuration is refused.
    pub async fn link_with(&self, mut link: Link, settings: &[(&str, &str)]) {
        link.target_config = self.settings_of(&link, settings).await;
        self.operator.link(&link).await;
    }

    /// Links a provider to an actor, with a configuration for the link's source, called `<source>-<target>`.
    ///
    /// # Panics
    /// Where the link or the configuration is refused.
    pub async fn link_from(&self, mut link: Link, settings: &[(&str, &str)]) -> Link {
        link.source_config = self.settings_of(&link, settings).await;
        self.operator.link(&link).await;
        link
    }

    async fn settings_of(&self, link: &Link, settings: &[(&str, &str)]) -> Vec<String> {
        if settings.is_empty() {
            return Vec::new();
        }
        let name = format!("{}-{}", link.source_id, link.target);
        self.operator.configure(&name, settings).await;
        vec![name]
    }
}

/// Shows what hosts in this process log, where `RUST_LOG` asks for it.
fn log_if_wanted() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("RUST_LOG").is_some() {
            trellis_host::logging::init(trellis_host::logging::LogFormat::Human);
        }
    });
}

/// The id of the HTTP server that [`Lattice::serve`] starts for an actor.
pub fn web(actor: &str) -> String {
    format!("web-{actor}")
}

/// The name of the configuration that [`Lattice::serve`] puts for an actor.
pub fn http_config(actor: &str) -> String {
    format!("http-{actor}")
}

/// The link that [`Lattice::serve`] puts for an actor.
pub fn http_link(actor: &str) -> Link {
    let mut link = link(&web(actor), actor, "wasi:http/incoming-handler");
    link.source_config = vec![http_config(actor)];
    link
}

fn options(url: &str, name: &LatticeName) -> LatticeOptions {
    LatticeOptions {
        urls: vec![url.parse().expect("a server's own url is one")],
        lattice: name.clone(),
        name: "trellis-lattice-tests".to_owned(),
        // The first tests of a run meet a disk that a linker has just filled.
        connect_timeout: Duration::from_secs(60),
        ..LatticeOptions::default()
    }
}
