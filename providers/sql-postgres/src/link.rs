//! What serves a link: its configuration, its pool, and the statements that were prepared over it.

use std::sync::Arc;

use trellis_provider_sdk::{Link, LinkError};

use crate::config::{Defaults, LinkConfig};
use crate::pool::{Pool, Pools};
use crate::token::Tokens;

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: LinkConfig,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tokens: Tokens,
}

impl Served {
    /// Reads what a link leads to. What actors hold stays good where nothing has changed for them.
    pub(crate) fn read(
        link: &Link,
        defaults: &Defaults,
        pools: &Pools,
        former: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, LinkError> {
        let config = LinkConfig::read(&link.config, defaults)?;
        Ok(match former {
            Some(former) if former.config == config => Arc::clone(former),
            _ => Arc::new(Self {
                pool: pools.of(&config.pool),
                config,
                tokens: Tokens::default(),
            }),
        })
    }
}
