//! A server of its own for each test, the provider, and actors that record what reaches them.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trellis_messaging_nats::Factory;
use trellis_messaging_nats::wit::consumer;
use trellis_messaging_nats::wit::handler;
use trellis_messaging_nats::wit::types::BrokerMessage;
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};
use trellis_protocol::value::{self, ByteList};
use trellis_provider_sdk::harness::{Harness, ProviderCaller};
use trellis_provider_sdk::{Health, Link, LinkError, Provider, Refusal};

pub(crate) const PACKAGE: &str = "wasmcloud:messaging";

/// The longest that a test waits for anything.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// A server, in a directory of its own, that can come back on its port.
pub(crate) struct Nats {
    running: Option<Running>,
    url: String,
    config: String,
    store: TempDir,
}

fn executable() -> &'static std::path::Path {
    // Found, and perhaps fetched, once for all tests of this binary.
    static EXECUTABLE: OnceLock<std::path::PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let explicit = explicit_path();
        locate(explicit.as_deref(), &cache_dir().unwrap())
            .unwrap()
            .path
    })
}

impl Nats {
    pub(crate) fn start() -> Self {
        Self::with_config("")
    }

    pub(crate) fn with_config(config: &str) -> Self {
        let store = TempDir::new().unwrap();
        let running = Launch::new(executable(), store.path())
            .extra_config(config)
            .start()
            .unwrap();
        Self {
            url: running.url().to_owned(),
            running: Some(running),
            config: config.to_owned(),
            store,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.running = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.running.as_ref().unwrap().pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// The same server again, with what it had stored.
    pub(crate) fn restart(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        let running = Launch::new(executable(), self.store.path())
            .extra_config(&self.config)
            .port(Some(port))
            .start()
            .unwrap();
        self.running = Some(running);
    }
}

/// The provider.
pub(crate) struct Fixture {
    pub(crate) nats: Nats,
    pub(crate) harness: Harness,
    pub(crate) provider: Arc<dyn Provider>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::on(Nats::start()).await
    }

    pub(crate) async fn on(nats: Nats) -> Self {
        let harness = Harness::new("messaging").with_config("cluster_uris", nats.url());
        let provider = harness.start(&Factory).await.unwrap();
        Self {
            nats,
            harness,
            provider,
        }
    }

    /// A link by which an actor sends.
    pub(crate) async fn sender<'a>(
        &self,
        actor: &str,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> consumer::Client<ProviderCaller> {
        let link = self
            .harness
            .link_from(actor, PACKAGE, &["consumer"], config);
        self.provider.link_put(link).await.unwrap();
        consumer::Client(self.harness.caller(&self.provider, actor))
    }

    /// A link by which an actor receives.
    pub(crate) fn link_to<'a>(
        &self,
        actor: &str,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) -> Link {
        let mut link = self.harness.link_to(actor, PACKAGE, &["handler"], config);
        link.generation = generation;
        link
    }

    pub(crate) async fn receiver<'a>(
        &self,
        actor: &str,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) -> Result<(), LinkError> {
        let link = self.link_to(actor, config, generation);
        self.provider.link_put(link).await
    }

    /// Waits until the provider is as it should be.
    pub(crate) async fn health_becomes(&self, wanted: impl Fn(&Health) -> bool) {
        let deadline = Instant::now() + WITHIN;
        loop {
            let health = self.provider.health().await;
            if wanted(&health) {
                return;
            }
            assert!(Instant::now() < deadline, "{health:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An actor that keeps what it gets and answers `ok`, after a while.
    pub(crate) fn recording(&self, actor: &str, pause: Duration) -> Record {
        let record = Record::default();
        let kept = record.clone();
        self.harness.actor(actor, move |call| {
            let kept = kept.clone();
            async move {
                assert_eq!(call.operation.interface.as_ref(), handler::INTERFACE);
                assert_eq!(call.type_hash, handler::type_hash::HANDLE_MESSAGE);
                kept.begin();
                tokio::time::sleep(pause).await;
                kept.keep(message_of(&call.payload));
                handled(Ok(()))
            }
        });
        record
    }
}

/// What an actor got.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    messages: Vec<BrokerMessage>,
    running: usize,
    most_running: usize,
}

impl Record {
    pub(crate) fn begin(&self) {
        let mut recorded = self.0.lock().unwrap();
        recorded.running += 1;
        recorded.most_running = recorded.most_running.max(recorded.running);
    }

    pub(crate) fn keep(&self, message: BrokerMessage) {
        let mut recorded = self.0.lock().unwrap();
        recorded.running -= 1;
        recorded.messages.push(message);
    }

    pub(crate) fn most_running(&self) -> usize {
        self.0.lock().unwrap().most_running
    }

    pub(crate) fn running(&self) -> usize {
        self.0.lock().unwrap().running
    }

    pub(crate) fn messages(&self) -> Vec<BrokerMessage> {
        self.0.lock().unwrap().messages.clone()
    }

    /// Bodies, sorted.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let mut bodies: Vec<_> = self.messages().iter().map(text_of).collect();
        bodies.sort();
        bodies
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().messages.len()
    }
}

pub(crate) fn message_of(payload: &Bytes) -> BrokerMessage {
    let (message,) = value::decode::<(BrokerMessage,)>(payload).unwrap();
    message
}

pub(crate) fn text_of(message: &BrokerMessage) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

pub(crate) fn handled(answer: Result<(), String>) -> Result<Bytes, Refusal> {
    Ok(value::encode(&answer).unwrap().into())
}

pub(crate) fn message(subject: &str, body: &str) -> BrokerMessage {
    BrokerMessage {
        subject: subject.to_owned(),
        body: ByteList(body.as_bytes().to_vec()),
        reply_to: None,
    }
}

/// Waits until the server has read what a client sent: another connection's messages then meet its subscriptions.
pub(crate) async fn settle(client: &async_nats::Client) {
    let asked = client.request("nobody.is.here", Bytes::new()).await;
    assert!(asked.is_err());
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
