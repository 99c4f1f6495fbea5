//! A provider whose health and whose links are as a test wishes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use trellis_host_core::HostOptions;
use trellis_protocol::link::LinkKey;
use trellis_provider_sdk::{
    Health, Link, LinkEnd, LinkError, Provider, ProviderFactory, ProviderSetup, StartError,
};

/// What it is started by.
pub(super) const NAME: &str = "moody";

/// The key of its configuration that names a file: while that is there, it is failing.
pub(super) const ILL_FILE: &str = "ill_file";

/// The key of a link's configuration that names a file: it takes the link once that is there.
pub(super) const WAIT_FOR: &str = "wait_for";

/// The key of a link's configuration by which it refuses the link, with this reason.
pub(super) const REFUSE: &str = "refuse";

/// How often it looks whether a file is there.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Gives a host such providers.
pub(super) fn with_moody(options: &mut HostOptions) {
    options.provider_factories.push(Arc::new(Moody));
}

struct Moody;

#[async_trait]
impl ProviderFactory for Moody {
    fn name(&self) -> &'static str {
        NAME
    }

    fn serves(&self) -> &'static [&'static str] {
        &[]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        let ill_file = setup.config.get(ILL_FILE).cloned();
        Ok(Arc::new(Mood { ill_file }))
    }
}

struct Mood {
    ill_file: Option<String>,
}

#[async_trait]
impl Provider for Mood {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        if let Some(reason) = link.config.get(REFUSE) {
            return Err(LinkError::Config {
                key: REFUSE.to_owned(),
                reason: reason.clone(),
            });
        }
        if let Some(file) = link.config.get(WAIT_FOR) {
            while !Path::new(file).exists() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

    async fn health(&self) -> Health {
        match &self.ill_file {
            Some(file) if Path::new(file).exists() => Health::Failing("it is ill".to_owned()),
            _ => Health::Healthy,
        }
    }

    async fn shutdown(&self, _: Duration) {}
}
