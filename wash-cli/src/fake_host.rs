//! temp
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trellis_claims::*;
use trellis_lattice::connection::LatticeOptions;
pub struct HostOptions {
    pub nats: LatticeOptions,
    pub state_dir: PathBuf,
    pub friendly_name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub trust: TrustRoots,
    pub host_key: Arc<SigningKey>,
    pub certificate: Option<String>,
    pub allow_file: bool,
    pub provider_factories: Vec<u8>,
    pub restore: bool,
    pub shutdown_timeout: Duration,
}
impl HostOptions {
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
            host_key,
            certificate: None,
            allow_file: false,
            provider_factories: vec![],
            restore: true,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}
pub struct Host(String);
impl Host {
    pub fn friendly_name(&self) -> &str {
        &self.0
    }
}
pub struct Shutdown;
impl Shutdown {
    pub fn on_signals() -> Self {
        Self
    }
}
pub enum Drained {
    InTime,
    Late,
}
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Connect(#[from] trellis_lattice::connection::ConnectError),
    #[error("x")]
    Other,
}
pub fn load_or_create_host_key(_: &Path) -> Result<Arc<SigningKey>, std::io::Error> {
    Ok(Arc::new(SigningKey::generate(KeyKind::Host)))
}
pub fn built_in(_: &LatticeOptions) -> Vec<u8> {
    vec![]
}
pub fn install_crypto() {}
pub mod runtime {
    pub fn build() -> std::io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    }
}
pub async fn serve(
    o: HostOptions,
    _s: Shutdown,
    ready: impl FnOnce(&Host),
) -> Result<Drained, HostError> {
    let c = trellis_lattice::connection::connect_control(&o.nats).await?;
    let s = o.nats.subjects();
    let id = o.host_key.public().to_string();
    let mut get = c
        .subscribe(s.control_with("host", "get", &id))
        .await
        .unwrap();
    let mut stop = c
        .subscribe(s.control_with("host", "stop", &id))
        .await
        .unwrap();
    let inv = trellis_protocol::control::HostInventory {
        host_id: id.clone(),
        friendly_name: o.friendly_name.unwrap_or_default(),
        ..Default::default()
    };
    ready(&Host(inv.friendly_name.clone()));
    loop {
        tokio::select! {
            m = get.next() => { let m = m.unwrap(); c.publish(m.reply.unwrap(), trellis_protocol::control::Envelope::answer(inv.clone()).to_bytes().into()).await.unwrap(); }
            m = stop.next() => { let m = m.unwrap(); c.publish(m.reply.unwrap(), trellis_protocol::control::Ack::accepted("").to_bytes().into()).await.unwrap();
                let e = trellis_protocol::event::encode(&trellis_protocol::event::EventData::HostStopped(Default::default()), &id, std::time::SystemTime::now(), uuid::Uuid::nil());
                c.publish(s.event("host_stopped"), e.into()).await.unwrap(); c.flush().await.unwrap(); return Ok(Drained::InTime); }
            _ = tokio::signal::ctrl_c() => return Ok(Drained::InTime),
        }
    }
}
