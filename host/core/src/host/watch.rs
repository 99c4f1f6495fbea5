//! What a host does again and again: heartbeats, looking after its providers, following what it has applied of the
//! state, letting go of what lost hosts held and telling of their end, and noticing hosts of other software.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use trellis_lattice::connection::Connection;
use trellis_protocol::EntityId;
use trellis_protocol::event::EventData;

use super::inner::HostInner;
use super::{foreign, obituary};

/// Time between two heartbeat events. Other tools call a host dead after a minute without one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two questions to each provider how it is.
const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a provider that has just started is asked for the first time.
const HEALTH_FIRST: Duration = Duration::from_secs(1);

/// Starts all of it on the runtime at hand. It ends with the host's token.
pub(super) fn start(shared: &Arc<HostInner>, connection: Connection) {
    let owned = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let cancel = shared.cancel.clone();
        shared.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = work => {}
            }
        });
    };
    owned(Box::pin(heartbeat(Arc::clone(shared))));
    owned(Box::pin(health(Arc::clone(shared))));
    owned(Box::pin(follow_sequence(Arc::clone(shared))));
    owned(Box::pin(release_lost(Arc::clone(shared))));
    owned(Box::pin(obituary::announce(
        Arc::clone(shared),
        connection.clone(),
    )));
    owned(Box::pin(foreign::watch(Arc::clone(shared), connection)));
}

async fn heartbeat(shared: Arc<HostInner>) {
    let mut ticks = interval(HEARTBEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (inventory, _) = shared.inventory_to_send();
        shared.events.publish(&EventData::HostHeartbeat(inventory));
    }
}

async fn health(shared: Arc<HostInner>) {
    let mut known: HashMap<EntityId, bool> = HashMap::new();
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut soon = interval(HEALTH_FIRST);
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let everybody = tokio::select! {
            _ = ticks.tick() => true,
            _ = soon.tick() => false,
        };
        let providers = shared.router.providers();
        known.retain(|id, _| providers.iter().any(|provider| provider.id == *id));
        let checks = providers
            .into_iter()
            .filter(|provider| everybody || !known.contains_key(&provider.id))
            .map(|provider| {
                let (id, was_well) = (provider.id.clone(), known.get(&provider.id).copied());
                let shared = &shared;
                async move { (id, shared.check_health(provider, was_well).await) }
            });
        known.extend(futures::future::join_all(checks).await);
    }
}

/// Beats carry how far this host has followed the state.
async fn follow_sequence(shared: Arc<HostInner>) {
    let mut changed = shared.state.changed();
    loop {
        changed.mark_unchanged();
        let sequence = shared.state.view().sequence();
        if let Some(presence) = &*shared
            .presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            presence.set_state_sequence(sequence);
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// A host that is gone holds nothing any more.
async fn release_lost(shared: Arc<HostInner>) {
    let mut lost = shared.routes.lost();
    loop {
        match lost.recv().await {
            Ok(lost) => {
                tracing::warn!(host = %lost.host, reason = %lost.reason, "a host is lost");
                shared.router.release_host(&lost.host).await;
            }
            // What the missed ones held is released when their leases are used again or their provider ends.
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "more hosts were lost at once than could be followed"
                );
            }
            Err(RecvError::Closed) => return,
        }
    }
}
