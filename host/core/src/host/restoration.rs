//! Running again what ran before the host was stopped.

use std::sync::Arc;

use super::actors::{OtherReference, Wanted, Was};
use super::providers::WantedProvider;
use super::shared::Shared;
use crate::actor::ActorSettings;
use crate::restore::Running;

/// Queues the start of everything that ran, as commands of their own: later ones for the same ids wait for them. What
/// does not start is told by an event, and keeps its place in the file for the next time.
pub(super) fn restore(shared: &Arc<Shared>, former: Running) {
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
        };
        let host = Arc::clone(shared);
        // The queue of an id is empty at this point, so it takes the command.
        let _ = shared
            .commands
            .enqueue(&id, async move { host.start_provider(wanted).await });
    }
    for (id, actor) in former.actors {
        let wanted = Wanted {
            id: id.clone(),
            reference: actor.reference,
            settings: ActorSettings {
                count: actor.count,
                config: actor.config,
                annotations: actor.annotations,
                memory_bytes_max: actor.memory_bytes_max,
            },
            was: Some(Was {
                content_hash: actor.content_hash,
                subject: actor.subject,
            }),
        };
        let host = Arc::clone(shared);
        let _ = shared.commands.enqueue(&id, async move {
            host.scale(wanted, OtherReference::IsIgnored).await;
        });
    }
}
