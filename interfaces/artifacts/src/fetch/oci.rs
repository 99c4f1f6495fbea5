//! From a registry: the manifest, then the layer that it names.

use bytes::Bytes;
use trellis_claims::provider::Platform;

use super::{Accepted, Announced, Bounded, Cause, Observer, Obtained, Shared};
use crate::attempts::Attempts;
use crate::cache::Shelf;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::intake::{Intake, blocking};
use crate::kind::Kind;
use crate::progress::Progress;
use crate::reference::{OciReference, Reference};
use crate::registry::{Action, Layer, MANIFEST_BYTES_MAX, Repository};

impl Shared {
    /// Content of a registry, in the cache. A pinned reference whose manifest and content are cached asks nobody.
    pub(crate) async fn obtain_from_registry(
        &self,
        oci: &OciReference,
        kind: Option<Kind>,
        progress: Observer<'_>,
    ) -> Result<Obtained, Cause> {
        let repository = self.registries.repository(oci, Action::Pull)?;
        let mut attempts = Attempts::new(self.options.timeouts.backoff);
        let (layer, manifest) = loop {
            match self.resolve(&repository, oci, kind, progress).await {
                Ok(resolved) => break resolved,
                Err(cause) => {
                    let outcome = cause.outcome();
                    if !attempts.again(outcome, || cause.reason(), progress).await {
                        return Err(cause);
                    }
                }
            }
        };
        let _turn = self.flight(layer.digest).await;
        let (kept, component) = match self.cached(layer.digest, kind).await? {
            Some(found) => {
                progress(Progress::Verifying);
                found
            }
            None => self.download(&repository, &layer, kind, progress).await?,
        };
        progress(Progress::Cached);
        Ok(Obtained {
            kept,
            digest: layer.digest,
            media_type: layer.media_type,
            annotations: layer.annotations,
            resolved: Reference::Oci(oci.pinned(manifest)),
            component,
        })
    }

    /// The layer to fetch, and the digest of the manifest that the reference stands for.
    async fn resolve(
        &self,
        repository: &Repository<'_>,
        oci: &OciReference,
        kind: Option<Kind>,
        progress: Observer<'_>,
    ) -> Result<(Layer, Digest), Cause> {
        let known = match oci.digest() {
            Some(digest) => self
                .cached_manifest(digest)
                .await?
                .map(|body| (body, digest)),
            None => None,
        };
        // Kept once they have turned out to be manifests that lead somewhere.
        let mut fetched = Vec::new();
        let (mut body, digest) = match known {
            Some(known) => known,
            None => {
                progress(Progress::Resolving);
                let (body, digest) = repository.manifest(&oci.manifest()).await?;
                fetched.push(body.clone());
                (body, digest)
            }
        };
        if let Some(chosen) = repository.chosen(&body, kind, &Platform::here())? {
            body = match self.cached_manifest(chosen).await? {
                Some(body) => body,
                None => {
                    let (body, _) = repository.manifest(&chosen.to_string()).await?;
                    fetched.push(body.clone());
                    body
                }
            };
        }
        let max = |media_type: &str| self.bytes_max(kind, media_type);
        let layer = repository.layer(&body, kind, max)?;
        for body in &fetched {
            self.keep_manifest(body).await?;
        }
        Ok((layer, digest))
    }

    async fn cached_manifest(&self, digest: Digest) -> Result<Option<Bytes>, Cause> {
        let cache = self.cache.clone();
        blocking(move || {
            let mut body = Bounded::new(MANIFEST_BYTES_MAX as u64);
            let Some(kept) = cache.find(Shelf::Blobs, &digest, &mut body)? else {
                return Ok(None);
            };
            Ok(body.whole(kept.bytes).ok().map(Bytes::from))
        })
        .await
    }

    async fn keep_manifest(&self, body: &Bytes) -> Result<(), Cause> {
        let (cache, body) = (self.cache.clone(), body.clone());
        blocking(move || {
            let mut draft = cache.draft(Some(body.len() as u64))?;
            draft.add(&body)?;
            draft.keep(Shelf::Blobs)?;
            Ok(())
        })
        .await
    }

    async fn download(
        &self,
        repository: &Repository<'_>,
        layer: &Layer,
        kind: Option<Kind>,
        progress: Observer<'_>,
    ) -> Result<(crate::cache::Kept, Option<Bytes>), Cause> {
        let announced = Announced {
            digest: layer.digest,
            bytes: layer.bytes,
            kind,
            component_bytes_max: self.options.component_bytes_max,
        };
        let mut attempts = Attempts::new(self.options.timeouts.backoff);
        let mut intake = None;
        loop {
            let mut receiving = match intake.take() {
                Some(intake) => intake,
                None => Intake::begin(&self.cache, Some(layer.bytes)).await?,
            };
            let before = receiving.received_bytes();
            let cause = match receive(repository, layer, &mut receiving, progress).await {
                Ok(()) => {
                    progress(Progress::Verifying);
                    match self.accept(receiving, &announced).await? {
                        Accepted::Kept(kept, component) => return Ok((kept, component)),
                        Accepted::Mismatch(actual) => {
                            Cause::from(repository.mismatch(layer.digest, actual))
                        }
                    }
                }
                Err(cause) => {
                    if receiving.received_bytes() > before {
                        attempts.advanced();
                    }
                    // What came goes on where it broke off, unless it was wrong.
                    let is_wrong =
                        matches!(cause, Cause::Registry(RegistryError::LengthMismatch { .. }));
                    if !is_wrong {
                        intake = Some(receiving);
                    }
                    cause
                }
            };
            let outcome = cause.outcome();
            if !attempts.again(outcome, || cause.reason(), progress).await {
                return Err(cause);
            }
        }
    }
}

/// Receives content from where the last attempt broke off, until all of it is there.
async fn receive(
    repository: &Repository<'_>,
    layer: &Layer,
    intake: &mut Intake,
    progress: Observer<'_>,
) -> Result<(), Cause> {
    let mut body = repository.content(layer, intake.received_bytes()).await?;
    if body.offset != intake.received_bytes() {
        intake.restart().await?;
    }
    let fetching = |received_bytes| Progress::Fetching {
        received_bytes,
        total_bytes: Some(layer.bytes),
    };
    progress(fetching(intake.received_bytes()));
    while let Some(piece) = repository.next(&mut body).await? {
        let received = intake.received_bytes() + piece.len() as u64;
        if received > layer.bytes {
            return Err(repository.length_mismatch(layer.bytes, received).into());
        }
        intake.add(piece).await?;
        progress(fetching(received));
    }
    match intake.received_bytes() {
        received if received == layer.bytes => Ok(()),
        received => Err(repository.length_mismatch(layer.bytes, received).into()),
    }
}
