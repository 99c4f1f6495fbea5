//! A lattice of hosts in one process.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use trellis_claims::{
    HostCertificate, KeyKind, NewHostCertificate, SigningKey, TrustRoots, UnixTime, Validity,
};
use trellis_protocol::subject::Subjects;
use trellis_protocol::{
    EntityId, InvocationHead, InvocationId, Lease, LinkName, Operation, Refusal,
};

use super::handler::Handler;
use crate::connection::connect_control;
use crate::connection::fixture::{Nats, eventually};
use crate::peer::{PeerLimits, PeerOptions, Peers};
use crate::presence::{Presence, PresenceOptions};

pub(super) struct Lattice {
    nats: Nats,
    authority: SigningKey,
    trust: Arc<TrustRoots>,
}

pub(super) struct Host {
    pub(super) key: Arc<SigningKey>,
    pub(super) incarnation: u64,
    pub(super) presence: Presence,
    pub(super) peers: Peers,
    pub(super) handler: Arc<Handler>,
    pub(super) subjects: Subjects,
}

impl Lattice {
    pub(super) fn start() -> Self {
        let authority = SigningKey::generate(KeyKind::Account);
        let mut trust = TrustRoots::default();
        trust.insert(authority.public().clone()).unwrap();
        Self {
            nats: Nats::start_with(trellis_nats_server::Launch::without_jetstream),
            authority,
            trust: Arc::new(trust),
        }
    }

    pub(super) fn subjects(&self) -> Subjects {
        self.nats.options().subjects()
    }

    pub(super) async fn client(&self) -> Client {
        connect_control(&self.nats.options()).await.unwrap()
    }

    pub(super) fn certificate(&self, key: &SigningKey, may_run: &[&str]) -> String {
        certificate(&self.authority, key, may_run)
    }

    /// Presence alone, as a host has it whose calls a test makes by hand.
    pub(super) async fn presence(
        &self,
        key: &Arc<SigningKey>,
        incarnation: u64,
        certificate: Option<String>,
    ) -> Presence {
        let options = PresenceOptions {
            client: self.client().await,
            subjects: self.subjects(),
            key: Arc::clone(key),
            certificate,
            trust: Arc::clone(&self.trust),
            incarnation,
            name: "test".to_owned(),
            labels: BTreeMap::new(),
        };
        Presence::start(options).await.unwrap()
    }

    pub(super) async fn host(&self, may_run: &[&str]) -> Host {
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        self.host_with(key, 1, may_run, PeerLimits::default()).await
    }

    pub(super) async fn host_with(
        &self,
        key: Arc<SigningKey>,
        incarnation: u64,
        may_run: &[&str],
        limits: PeerLimits,
    ) -> Host {
        let certificate = Some(self.certificate(&key, may_run));
        let presence = self.presence(&key, incarnation, certificate).await;
        let handler = Arc::new(Handler::default());
        let client = self.client().await;
        let options = PeerOptions {
            client: client.clone(),
            subjects: self.subjects(),
            key: Arc::clone(&key),
            incarnation,
            routes: presence.routes(),
            limits,
        };
        let peers = Peers::start(options, Arc::clone(&handler) as _)
            .await
            .unwrap();
        subscribed(&client).await;
        let subjects = self.subjects();
        Host {
            key,
            incarnation,
            presence,
            peers,
            handler,
            subjects,
        }
    }

    /// Two hosts that know each other: the first may speak for `a`, the second for `b`.
    pub(super) async fn pair(&self) -> (Host, Host) {
        let (one, other) = (self.host(&["a"]).await, self.host(&["b"]).await);
        one.meets(&other).await;
        other.meets(&one).await;
        (one, other)
    }
}

pub(super) fn certificate(authority: &SigningKey, key: &SigningKey, may_run: &[&str]) -> String {
    let now = UnixTime::now();
    let new = NewHostCertificate {
        subject: key.public().clone(),
        lattice: "test".to_owned(),
        may_run: may_run.iter().map(ToString::to_string).collect(),
        validity: Validity::starting(now, Duration::from_secs(3600)),
    };
    HostCertificate::issue(&new, authority, now).unwrap()
}

impl Host {
    pub(super) fn id(&self) -> &str {
        self.key.public().as_str()
    }

    pub(super) async fn meets(&self, other: &Host) {
        self.meets_run(other.id(), other.incarnation).await;
    }

    pub(super) async fn meets_run(&self, other: &str, incarnation: u64) {
        let routes = self.presence.routes();
        let known = || {
            routes
                .host(other)
                .is_some_and(|peer| peer.incarnation == incarnation)
        };
        eventually("a host knows another", known).await;
    }

    /// A call's head, from an actor that this host may run.
    pub(super) fn head(&self, source: &str, function: &str) -> InvocationHead {
        InvocationHead {
            id: InvocationId::random(),
            source: EntityId::new(source).unwrap(),
            target: EntityId::new("b").unwrap(),
            operation: Operation::new("test:it/works", function),
            link: LinkName::default(),
            deadline_ms: 0,
            depth: 0,
            type_hash: 0,
            idempotent: false,
            lease: Lease {
                host: Arc::from(self.id()),
                instance: 1,
            },
            chain: vec![],
            traceparent: None,
            state_sequence: 0,
        }
    }

    pub(super) async fn call(
        &self,
        to: &Host,
        function: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Bytes, Refusal> {
        let (deadline, cancel) = (soon(), CancellationToken::new());
        let head = self.head("a", function);
        self.peers
            .invoke(to.id(), head, payload.into(), deadline, &cancel)
            .await
    }

    pub(super) fn rejected(&self, reason: &str) -> u64 {
        count(&self.peers.rejected(), reason)
    }
}

/// Waits until the server has every subscription that was made on this connection: it takes what comes in turn.
pub(super) async fn subscribed(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    back.next().await.unwrap();
}

pub(super) fn count(counts: &[(&'static str, u64)], reason: &str) -> u64 {
    counts.iter().find(|(name, _)| *name == reason).unwrap().1
}

/// A deadline that no test reaches unless it means to.
pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
