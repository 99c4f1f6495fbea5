//! Fetching what commands name.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use trellis_artifacts::{Artifact, Content, Kind, Program, Reference};
use trellis_protocol::control::RegistryCredentials;

use super::inner::HostInner;
use super::progress::Progress;
use crate::artifact::ArtifactError;

/// A component, as it was fetched.
pub(super) struct Component {
    pub(super) bytes: Bytes,
    /// The reference by which the same content is had again, whatever a tag stands for by then.
    pub(super) resolved: String,
    /// Its place among what is fetched. Held for as long as the bytes are.
    pub(super) room: OwnedSemaphorePermit,
}

impl HostInner {
    /// What a command's reference names, if this host may fetch it. Looks at the text alone.
    ///
    /// # Errors
    /// [`ArtifactError`] for what is no reference, and for what the operator did not allow.
    pub(crate) fn reference(&self, text: &str) -> Result<Reference, ArtifactError> {
        self.allowed.reference(text)
    }

    /// Takes credentials for registries over.
    pub(crate) fn put_registries(&self, credentials: &RegistryCredentials) {
        self.artifacts.set_registries(credentials);
    }

    /// Fetches a component. Cancel-safe.
    ///
    /// `resolved` is what the reference led to when the host ran it before: that is taken from the cache without asking
    /// anybody, and only what the cache has lost is fetched anew.
    ///
    /// # Errors
    /// [`ArtifactError`], by cause.
    pub(super) async fn fetch_component(
        &self,
        text: &str,
        resolved: Option<&str>,
        progress: Option<&Progress>,
    ) -> Result<Component, ArtifactError> {
        // What may not be named may not be had from the cache either.
        let named = self.reference(text)?;
        let reference = resolved
            .and_then(|resolved| self.reference(resolved).ok())
            .unwrap_or(named);
        let (artifact, room) = self.fetch(&reference, Kind::Component, progress).await?;
        let resolved = artifact.resolved.to_string();
        match artifact.content {
            Content::Component(bytes) => Ok(Component {
                bytes,
                resolved,
                room,
            }),
            Content::Program(_) => Err(ArtifactError::OtherKind {
                reference: text.to_owned(),
                found: "a provider",
                wanted: "a component",
            }),
        }
    }

    /// Fetches a provider's program, as [`Self::fetch_component`] does. Gives back the resolved reference beside it.
    ///
    /// # Errors
    /// [`ArtifactError`], by cause.
    pub(super) async fn fetch_program(
        &self,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<(Program, String), ArtifactError> {
        let (artifact, _) = self
            .fetch(reference, Kind::Provider, Some(progress))
            .await?;
        let resolved = artifact.resolved.to_string();
        match artifact.content {
            Content::Program(program) => Ok((program, resolved)),
            Content::Component(_) => Err(ArtifactError::OtherKind {
                reference: reference.to_string(),
                found: "a component",
                wanted: "a provider",
            }),
        }
    }

    async fn fetch(
        &self,
        reference: &Reference,
        kind: Kind,
        progress: Option<&Progress>,
    ) -> Result<(Artifact, OwnedSemaphorePermit), ArtifactError> {
        if let Some(progress) = progress {
            progress.fetching();
        }
        let room = Arc::clone(&self.fetching).acquire_owned();
        let room = room.await.expect("the semaphore is never closed");
        let fetching = self.artifacts.fetch(reference, kind, |step| {
            if let Some(progress) = progress {
                progress.fetched(step);
            }
        });
        let fetched = fetching.await;
        self.router.observe().artifact_fetched(match &fetched {
            Ok(_) => "ok",
            Err(error) => error.code(),
        });
        let fetched = fetched?;
        tracing::debug!(%reference, digest = %fetched.digest, "artifact fetched");
        Ok((fetched, room))
    }
}
