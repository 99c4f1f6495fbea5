//! Keeps the providers of this host told of their links: whenever the lattice's state changes, each provider's links are
//! compared with what it was told, and the difference is delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trellis_lattice::state::StateView;
use trellis_protocol::EntityId;
use trellis_protocol::link::Link as StateLink;
use trellis_provider_sdk::{Link, LinkError};

use super::running::{End, LinkPlace, WantedLink};
use crate::router::Router;

/// After so much time a link that a provider refused is offered again: its backend may have come up.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until cancelled. `providers_changed` is notified whenever a provider has started.
pub(crate) async fn keep_linked(
    router: Arc<Router>,
    providers_changed: Arc<tokio::sync::Notify>,
    cancel: CancellationToken,
) {
    let mut changed = router.state().changed();
    loop {
        changed.mark_unchanged();
        deliver(&router).await;
        tokio::select! {
            () = cancel.cancelled() => return,
            alive = changed.changed() => if alive.is_err() { return },
            () = providers_changed.notified() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn deliver(router: &Router) {
    let view = router.state().view();
    // Each provider by itself, at once: one that is slow with a link delays no other's.
    let deliveries = router.providers().into_iter().map(|provider| {
        let wanted = wanted(&view, &provider.id);
        async move {
            for (key, outcome) in provider.apply(wanted).await {
                match outcome {
                    Ok(()) => {
                        tracing::info!(provider_id = %provider.id, source_id = %key.source_id, link = %key.name, "link applied");
                    }
                    Err(error) => {
                        tracing::warn!(provider_id = %provider.id, source_id = %key.source_id, link = %key.name, %error, "the provider did not take a link");
                    }
                }
            }
        }
    });
    futures::future::join_all(deliveries).await;
}

/// The links of a provider as the state has them, with configuration resolved.
fn wanted(view: &StateView, id: &EntityId) -> HashMap<LinkPlace, WantedLink> {
    let as_source = view.links_from(id).iter().map(|link| (link, End::Source));
    let as_target = view.links_to(id).iter().map(|link| (link, End::Target));
    as_source
        .chain(as_target)
        .map(|(link, end)| {
            let place = LinkPlace {
                key: link.key(),
                end,
                target: link.target.clone(),
            };
            (place, resolve(view, link, end))
        })
        .collect()
}

fn resolve(view: &StateView, link: &StateLink, end: End) -> WantedLink {
    let names = match end {
        End::Source => &link.source_config,
        End::Target => &link.target_config,
    };
    let (config, usable) = match view.merged_config(names) {
        Ok(config) => (config, Ok(())),
        Err(missing) => {
            let error = LinkError::Config {
                key: missing.name,
                reason: "this named configuration does not exist".into(),
            };
            (BTreeMap::default(), Err(error))
        }
    };
    let link = Link {
        key: link.key(),
        target: link.target.clone(),
        interfaces: link.interface_names().collect(),
        end: end.into(),
        config,
        generation: 1,
    };
    WantedLink { link, usable }
}
