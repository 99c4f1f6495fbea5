//! From a name to addresses.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::config::LOOK_UPS_MAX;

/// Looks names up. Whatever it answers is checked before it is connected to.
#[async_trait]
pub(crate) trait Resolver: Send + Sync + 'static {
    /// The addresses of a name, the preferred one first.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver, with whatever it is configured to look into.
pub(crate) struct SystemResolver {
    /// Held by the look-up itself, which nobody can end.
    look_ups: Arc<Semaphore>,
}

impl SystemResolver {
    pub(crate) fn new() -> Self {
        Self {
            look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)),
        }
    }
}

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.look_ups)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let name = name.to_owned();
        let look_up = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let addresses = (name.as_str(), 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        });
        look_up.await.map_err(io::Error::other)?
    }
}
