//! Whether the reference that an actor was started from still leads to what runs.
//!
//! A reference names a place, not content: after a build the same `file://` reference leads to another component, and a
//! tag may have been moved. Who starts or scales an actor from a file must not be told that it runs what the file holds
//! where it does not. A registry is asked only by who wants a replacement: a scaling must not wait for it.

use trellis_claims::{ContentHash, content_hash, extract};

use super::actor_error::{ActorError, with_causes};
use super::actors::OtherReference;
use super::inner::HostInner;
use super::starting::PREPARE_MAX;
use crate::actor::Actor;

/// What a reference leads to, as far as it can be told without believing it.
struct Found {
    /// `None` where it is no component.
    content: Option<ContentHash>,
    token: Option<String>,
}

impl HostInner {
    /// Whether a running actor is to be replaced by what a reference leads to now.
    ///
    /// # Errors
    /// [`ActorError::OtherContent`] where it would have to be and may not, and what keeps an artifact that is to replace
    /// it from being read.
    pub(super) async fn is_to_be_replaced(
        &self,
        running: &Actor,
        reference: &str,
        other: OtherReference,
    ) -> Result<bool, ActorError> {
        let may_replace = other != OtherReference::IsIgnored;
        if running.reference != reference {
            return Ok(may_replace);
        }
        if !may_replace && !self.reference(reference)?.is_file() {
            return Ok(false);
        }
        let found = match self.look_into(reference).await {
            Ok(found) => found,
            Err(error) if other == OtherReference::Replaces => return Err(error),
            // What runs needs its source no longer, so the source's loss must not be in the way of other settings.
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(actor_id = %running.id, reference, error, "what a running actor was started from cannot be read");
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

    /// Fetches and hashes, the latter on a thread where that may block, and in turn with what is compiled.
    async fn look_into(&self, reference: &str) -> Result<Found, ActorError> {
        let component = self.fetch_component(reference, None, None).await?;
        let turn = std::sync::Arc::clone(&self.preparing)
            .acquire_owned()
            .await
            .map_err(|_| ActorError::Interrupted)?;
        let looking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            Found {
                content: content_hash(&component.bytes).ok(),
                token: extract(&component.bytes).ok().flatten().map(str::to_owned),
            }
        });
        tokio::time::timeout(PREPARE_MAX, looking)
            .await
            .map_err(|_| ActorError::TooSlow)?
            .map_err(|_| ActorError::Interrupted)
    }
}
