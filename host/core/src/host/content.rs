//! Whether the file that an actor was started from still holds what runs.
//!
//! A reference names a place, not content: after a build the same `file://` reference leads to another component. Who
//! starts or scales an actor must not be told that it runs what the file holds where it does not.

use trellis_claims::{ContentHash, content_hash, extract};

use super::actors::{ActorError, OtherReference, PREPARE_MAX, with_causes};
use super::shared::Shared;
use crate::actor::Actor;
use crate::artifact::{component_file, read_component};

/// What a file holds, as far as it can be told without believing it.
struct Found {
    /// `None` where it is no component.
    content: Option<ContentHash>,
    token: Option<String>,
}

impl Shared {
    /// Whether a running actor is to be replaced by what a reference leads to now.
    ///
    /// # Errors
    /// [`ActorError::OtherContent`] where it would have to be and may not, and what keeps a file that may replace it from
    /// being read.
    pub(super) async fn is_to_be_replaced(
        &self,
        running: &Actor,
        reference: &str,
        other: OtherReference,
    ) -> Result<bool, ActorError> {
        let may_replace = other == OtherReference::Replaces;
        if running.reference != reference {
            return Ok(may_replace);
        }
        let found = match self.look_into(reference).await {
            Ok(found) => found,
            Err(error) if may_replace => return Err(error),
            // What runs needs its file no longer, so the file's loss must not be in the way of other settings.
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(actor_id = %running.id, reference, error, "the file of a running actor cannot be read");
                return Ok(false);
            }
        };
        if found.content != Some(running.claims().content_hash) {
            return if may_replace {
                Ok(true)
            } else {
                Err(ActorError::OtherContent {
                    id: running.id.clone(),
                })
            };
        }
        // The same code under other claims: they may grant something else.
        Ok(may_replace && found.token.as_deref() != Some(running.token()))
    }

    /// Reads and hashes a file, on a thread where that may block, and in turn with what is compiled.
    async fn look_into(&self, reference: &str) -> Result<Found, ActorError> {
        let path = component_file(reference, self.allow_file)?;
        let _turn = self
            .preparing
            .acquire()
            .await
            .map_err(|_| ActorError::Interrupted)?;
        let looking = tokio::task::spawn_blocking(move || {
            let bytes = read_component(&path)?;
            Ok::<_, ActorError>(Found {
                content: content_hash(&bytes).ok(),
                token: extract(&bytes).ok().flatten().map(str::to_owned),
            })
        });
        tokio::time::timeout(PREPARE_MAX, looking)
            .await
            .map_err(|_| ActorError::TooSlow)?
            .map_err(|_| ActorError::Interrupted)?
    }
}
