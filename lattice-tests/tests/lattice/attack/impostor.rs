//! A host that is not what it says: it speaks the protocol flawlessly, with the wrong key or for the wrong actors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio_util::sync::CancellationToken;
use trellis_claims::{HostCertificate, NewHostCertificate, SigningKey, UnixTime, Validity};
use trellis_lattice::peer::{PeerBody, PeerHandler, PeerHost, PeerLimits, PeerOptions, Peers};
use trellis_lattice::presence::{Presence, PresenceOptions};
use trellis_lattice_tests::actor::VALID_FOR;
use trellis_lattice_tests::deploy::id;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually};
use trellis_protocol::presence::RosterActor;
use trellis_protocol::{
    InvocationHead, InvocationId, Lease, LinkName, Operation, Refusal, RefusalCode,
};

/// How long it waits for an answer that should not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// A certificate by an authority of the test's choice.
pub(super) fn certificate(
    lattice: &Lattice,
    authority: &SigningKey,
    host: &SigningKey,
    may_run: &[&str],
) -> String {
    let now = UnixTime::now();
    let new = NewHostCertificate {
        subject: host.public().clone(),
        lattice: lattice.name().to_owned(),
        may_run: may_run.iter().map(|id| (*id).to_owned()).collect(),
        validity: Validity::starting(now, VALID_FOR),
    };
    HostCertificate::issue(&new, authority, now).expect("a certificate can be issued")
}

/// The impostor.
pub(super) struct Impostor {
    key: Arc<SigningKey>,
    presence: Presence,
    peers: Peers,
}

/// It answers nobody.
struct Nobody;

#[async_trait]
impl PeerHandler for Nobody {
    async fn invoke(
        &self,
        _: &PeerHost,
        _: InvocationHead,
        _: Bytes,
        _: Instant,
        _: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new(RefusalCode::NotHere, "an impostor"))
    }

    async fn http(
        &self,
        _: &PeerHost,
        _: InvocationHead,
        _: Instant,
        _: CancellationToken,
        _: http::Request<PeerBody>,
    ) -> Result<http::Response<PeerBody>, Refusal> {
        Err(Refusal::new(RefusalCode::NotHere, "an impostor"))
    }

    async fn release(&self, _: &PeerHost, _: Lease) {}
}

impl Impostor {
    pub(super) async fn join(
        lattice: &Lattice,
        key: SigningKey,
        certificate: Option<String>,
    ) -> Self {
        let (key, subjects) = (Arc::new(key), lattice.options().subjects());
        let incarnation = UnixTime::now().as_secs() * 1_000;
        let presence = Presence::start(PresenceOptions {
            client: lattice.stranger().await,
            subjects: subjects.clone(),
            key: Arc::clone(&key),
            certificate,
            trust: Arc::new(lattice.trust()),
            incarnation,
            name: "impostor".to_owned(),
            labels: BTreeMap::new(),
        })
        .await
        .expect("anyone may beat");
        let peers = PeerOptions {
            client: lattice.stranger().await,
            subjects,
            key: Arc::clone(&key),
            incarnation,
            routes: presence.routes(),
            limits: PeerLimits::default(),
        };
        let peers = Peers::start(peers, Arc::new(Nobody)).await;
        Self {
            key,
            presence,
            peers: peers.expect("anyone may subscribe"),
        }
    }

    /// Waits until it knows a host.
    pub(super) async fn knows(&self, host: &HostFixture) {
        eventually("the impostor knows the host", async || {
            self.presence.routes().host(host.id()).map(drop)
        })
        .await;
    }

    /// Waits until a host knows it.
    pub(super) async fn is_known_to(&self, host: &HostFixture) {
        eventually("the host knows the impostor", async || {
            host.host()
                .routes()
                .host(self.key.public().as_str())
                .map(drop)
        })
        .await;
    }

    /// Tells everybody that it runs an actor.
    pub(super) fn claims_to_run(&self, actor: &str) {
        let entry = RosterActor {
            id: id(actor),
            subject: SigningKey::generate(trellis_claims::KeyKind::Module)
                .public()
                .clone(),
            content_hash: trellis_claims::content_hash(&trellis_lattice_tests::binary::component(
                "hello",
            ))
            .expect("an actor is a component"),
            count: 1,
        };
        let told = self.presence.set_roster(vec![entry], Vec::new());
        told.expect("the roster is within its limits");
    }

    /// Asks an actor of a host for `/`, in the name of `source`.
    pub(super) async fn ask(
        &self,
        host: &HostFixture,
        source: &str,
        target: &str,
    ) -> Result<http::StatusCode, Refusal> {
        let head = InvocationHead {
            id: InvocationId::random(),
            source: id(source),
            target: id(target),
            operation: Operation::new("wasi:http/incoming-handler", "handle"),
            link: LinkName::default(),
            deadline_ms: 0,
            depth: 0,
            type_hash: 0,
            idempotent: true,
            lease: Lease {
                host: Arc::from(self.key.public().as_str()),
                instance: 1,
            },
            chain: Vec::new(),
            traceparent: None,
            state_sequence: 0,
        };
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::get("http://impostor.example/").body(body);
        let request = request.expect("a plain request");
        let (deadline, cancel) = (Instant::now() + PATIENCE, CancellationToken::new());
        let answered = self.peers.http(host.id(), head, deadline, &cancel, request);
        Ok(answered.await?.status())
    }
}
