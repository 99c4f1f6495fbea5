//! A host whose messages a test makes by hand.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use trellis_claims::{KeyKind, SigningKey};
use trellis_protocol::envelope::{Address, open, seal};
use trellis_protocol::frame::Frame;
use trellis_protocol::{InvocationHead, Refusal};

use super::fixture::{Host, Lattice, subscribed};
use crate::connection::fixture::eventually;
use crate::presence::Presence;

/// A certified host whose messages a test makes by hand, and one that it attacks.
pub(super) struct Attack {
    pub(super) lattice: Lattice,
    pub(super) victim: Host,
    pub(super) key: Arc<SigningKey>,
    pub(super) client: Client,
    _presence: Option<Presence>,
    pub(super) incarnation: u64,
    sequence: u64,
}

impl Attack {
    pub(super) async fn prepare() -> Self {
        let lattice = Lattice::start();
        let victim = lattice.host(&["b"]).await;
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        let certificate = Some(lattice.certificate(&key, &["a"]));
        let presence = lattice.presence(&key, 5, certificate).await;
        victim.meets_run(key.public().as_str(), 5).await;
        let client = lattice.client().await;
        Self {
            lattice,
            victim,
            key,
            client,
            _presence: Some(presence),
            incarnation: 5,
            sequence: 0,
        }
    }

    /// The same for a host that nobody has heard, whether or not it is certified.
    pub(super) async fn unheard() -> Self {
        let lattice = Lattice::start();
        let victim = lattice.host(&["b"]).await;
        let client = lattice.client().await;
        Self {
            lattice,
            victim,
            key: Arc::new(SigningKey::generate(KeyKind::Host)),
            client,
            _presence: None,
            incarnation: 5,
            sequence: 0,
        }
    }

    pub(super) fn head(&self) -> InvocationHead {
        let mut head = self.victim.head("a", "echo");
        head.lease.host = Arc::from(self.key.public().as_str());
        head.deadline_ms = 5000;
        head
    }

    pub(super) fn invoke(&self) -> Frame {
        let head = Box::new(self.head());
        Frame::Invoke {
            call: 1,
            head,
            payload: Bytes::from_static(b"x"),
            rest: 0,
        }
    }

    pub(super) fn address(&mut self) -> Address<'_> {
        self.sequence += 1;
        Address {
            recipient: self.victim.id(),
            recipient_incarnation: 1,
            sender_incarnation: self.incarnation,
            sequence: self.sequence,
            sent_ms: 1000,
        }
    }

    pub(super) fn seal(&mut self, frame: &Frame) -> Vec<u8> {
        let (key, frame) = (Arc::clone(&self.key), frame.encode().unwrap());
        seal(&key, &self.address(), &frame).unwrap()
    }

    /// Publishes bytes that may be no frame, in an envelope that is authentic.
    pub(super) async fn publish_frame(&mut self, frame: &[u8]) {
        let key = Arc::clone(&self.key);
        let sealed = seal(&key, &self.address(), frame).unwrap();
        self.publish(sealed).await;
    }

    pub(super) async fn say(&mut self, frame: &Frame) {
        let sealed = self.seal(frame);
        self.publish(sealed).await;
    }

    /// Whatever was to come has come.
    pub(super) async fn answers_nothing(
        &self,
        answers: &mut (impl StreamExt<Item = Frame> + Unpin),
    ) {
        let more = tokio::time::timeout(Duration::from_millis(200), answers.next());
        if let Ok(more) = more.await {
            panic!("answered: {more:?}");
        }
    }

    /// Publishes under the name of the host.
    pub(super) async fn publish(&self, bytes: Vec<u8>) {
        self.publish_as(self.key.public().as_str(), bytes).await;
    }

    pub(super) async fn publish_as(&self, sender: &str, bytes: Vec<u8>) {
        let subject = self.victim.subjects.rpc(self.victim.id(), sender);
        self.client.publish(subject, bytes.into()).await.unwrap();
    }

    pub(super) async fn expect(&self, reason: &str, times: u64) {
        eventually(reason, || self.victim.rejected(reason) == times).await;
    }

    pub(super) fn nothing_ran(&self) {
        assert_eq!(self.victim.handler.begun.load(Ordering::SeqCst), 0);
    }

    /// Listens to what the victim answers.
    pub(super) async fn answers(&self) -> impl StreamExt<Item = Frame> + Unpin + use<> {
        let subject = self.victim.subjects.rpc_of_host(self.key.public().as_str());
        let answers = self.client.subscribe(subject).await.unwrap();
        subscribed(&self.client).await;
        answers.map(|message| Frame::decode(&open(&message.payload).unwrap().frame).unwrap())
    }

    pub(super) async fn refusal(
        &self,
        answers: &mut (impl StreamExt<Item = Frame> + Unpin),
    ) -> Refusal {
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.next());
        match answer.await.unwrap().unwrap() {
            Frame::Refuse { refusal, .. } => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}
