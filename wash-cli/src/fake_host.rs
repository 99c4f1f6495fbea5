//! temp
#![allow(missing_docs, clippy::unwrap_used)]
use std::collections::BTreeMap; use std::path::PathBuf; use std::future::Future;
use trellis_claims::*; use trellis_lattice::connection::LatticeOptions; use trellis_protocol::LatticeName;
use futures::StreamExt as _;
pub struct HostOptions { pub lattice: LatticeName, pub nats: LatticeOptions, pub state_dir: PathBuf, pub friendly_name: Option<String>, pub labels: BTreeMap<String,String>, pub trust: TrustRoots, pub host_key: Option<SigningKey>, pub certificate: Option<String>, pub allow_file: bool }
impl HostOptions { pub fn host_key(&self) -> Result<SigningKey, std::io::Error> { Ok(SigningKey::generate(KeyKind::Host)) } }
pub mod runtime { pub fn block_on<T>(f: impl std::future::Future<Output=T>) -> T { tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(f) } }
pub async fn serve(o: HostOptions, shutdown: impl Future<Output=()>) -> Result<(), std::io::Error> {
    let c = trellis_lattice::connection::connect_control(&o.nats).await.map_err(std::io::Error::other)?;
    let s = o.nats.subjects(); let id = o.host_key.as_ref().unwrap().public().to_string();
    let mut get = c.subscribe(s.control_with("host","get",&id)).await.unwrap();
    let mut stop = c.subscribe(s.control_with("host","stop",&id)).await.unwrap();
    let inv = trellis_protocol::control::HostInventory { host_id: id.clone(), friendly_name: o.friendly_name.unwrap_or_default(), ..Default::default() };
    eprintln!("fake host serves {}", o.certificate.unwrap().len());
    tokio::pin!(shutdown);
    loop { tokio::select! {
        m = get.next() => { let m = m.unwrap(); c.publish(m.reply.unwrap(), trellis_protocol::control::Envelope::answer(inv.clone()).to_bytes().into()).await.unwrap(); }
        m = stop.next() => { let m = m.unwrap(); c.publish(m.reply.unwrap(), trellis_protocol::control::Ack::accepted("").to_bytes().into()).await.unwrap();
            let e = trellis_protocol::event::encode(&trellis_protocol::event::EventData::HostStopped(Default::default()), &id, std::time::SystemTime::now(), uuid::Uuid::nil());
            c.publish(s.event("host_stopped"), e.into()).await.unwrap(); c.flush().await.unwrap(); return Ok(()); }
        () = &mut shutdown => return Ok(()),
    } }
}
