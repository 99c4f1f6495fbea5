//! Running again what ran before the host was stopped.

use std::sync::Arc;
use std::time::Instant;

use super::actors::{OtherReference, Wanted, Was};
use super::inner::HostInner;
use super::providers::{WantedProvider, WasProvider};
use crate::restore::Running;

/// Queues the start of everything that ran, as commands of their own: later ones for the same ids wait for them. What
/// does not start is told by an event, and keeps its place in the file for the next time.
pub(super) fn restore(shared: &Arc<HostInner>, former: Running) {
    let (actors, providers) = (former.actors.len(), former.providers.len());
    if actors + providers > 0 {
        tracing::info!(actors, providers, "restoring what ran here");
    }
    for (id, provider) in former.providers {
        let wanted = WantedProvider {
            id: id.clone(),
            reference: provider.reference,
            config: provider.config,
            annotations: provider.annotations,
            was: Some(WasProvider {
                resolved: provider.resolved,
            }),
        };
        let (host, purpose) = (Arc::clone(shared), wanted.purpose());
        // The queue of an id is empty at this point, so it takes the command.
        let _ = shared
            .commands
            .enqueue_anyhow(&id, purpose, |moot| async move {
                host.start_provider(wanted, moot).await;
            });
    }
    for (id, actor) in former.actors {
        let wanted = Wanted {
            id: id.clone(),
            reference: actor.reference,
            count: actor.count,
            config: actor.config,
            annotations: actor.annotations,
            limits: Some(actor.limits),
            was: Some(Was {
                content_hash: actor.content_hash,
                subject: actor.subject,
                resolved: actor.resolved,
            }),
        };
        let host = Arc::clone(shared);
        let purpose = wanted.purpose(OtherReference::IsIgnored);
        let _ = shared
            .commands
            .enqueue_anyhow(&id, purpose, |moot| async move {
                host.scale(wanted, OtherReference::IsIgnored, Instant::now(), moot)
                    .await;
            });
    }
}
