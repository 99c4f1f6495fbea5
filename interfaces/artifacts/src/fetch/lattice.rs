//! From the lattice's store.

use std::collections::BTreeMap;

use super::{Accepted, Announced, Cause, Observer, Obtained, Shared};
use crate::attempts::Attempts;
use crate::error::{ContentError, StoreError};
use crate::intake::Intake;
use crate::kind::Kind;
use crate::media_type;
use crate::progress::Progress;
use crate::reference::{LatticeReference, Reference};
use crate::store::{Object, Store};

/// What came of an object so far, and which one it is.
struct Partial {
    object: Object,
    intake: Intake,
    /// Of the last chunk.
    sequence: u64,
}

impl Shared {
    pub(crate) fn store(&self) -> Result<&Store, StoreError> {
        self.store.as_ref().ok_or(StoreError::NoLattice)
    }

    /// Content of the lattice's store, in the cache.
    pub(crate) async fn obtain_from_store(
        &self,
        reference: &LatticeReference,
        kind: Option<Kind>,
        progress: Observer<'_>,
    ) -> Result<Obtained, Cause> {
        // Pinned content that is cached is had without asking anybody, as from a registry.
        if let (Some(digest), Some(wanted)) = (reference.digest(), kind)
            && let Some((kept, component)) = self.cached(digest, kind).await?
        {
            progress(Progress::Verifying);
            progress(Progress::Cached);
            return Ok(Obtained {
                kept,
                digest,
                media_type: media_type::accepted(wanted)[0].to_owned(),
                annotations: BTreeMap::new(),
                resolved: Reference::Lattice(reference.clone()),
                component,
            });
        }
        let store = self.store()?;
        let mut attempts = Attempts::new(self.options.timeouts.backoff);
        let mut partial: Option<Partial> = None;
        loop {
            let before = partial.as_ref().map_or(0, |p| p.intake.received_bytes());
            let tried = self
                .attempt(store, reference, kind, &mut partial, progress)
                .await;
            let cause = match tried {
                Ok(obtained) => return Ok(obtained),
                Err(cause) => cause,
            };
            if partial.as_ref().map_or(0, |p| p.intake.received_bytes()) > before {
                attempts.advanced();
            }
            let outcome = match &cause {
                // It will not become what the reference pins.
                Cause::Store(StoreError::DigestMismatch { .. }) if reference.digest().is_some() => {
                    crate::attempts::Outcome::Final
                }
                cause => cause.outcome(),
            };
            if !attempts.again(outcome, || cause.reason(), progress).await {
                return Err(cause);
            }
        }
    }

    async fn attempt(
        &self,
        store: &Store,
        reference: &LatticeReference,
        kind: Option<Kind>,
        partial: &mut Option<Partial>,
        progress: Observer<'_>,
    ) -> Result<Obtained, Cause> {
        progress(Progress::Resolving);
        let object = store.find(reference).await?;
        let stored = &object.stored;
        if let Some(wanted) = kind
            && !media_type::accepted(wanted).contains(&stored.media_type.as_str())
        {
            return Err(StoreError::MediaType {
                found: stored.media_type.chars().take(80).collect(),
                wanted,
            }
            .into());
        }
        let max = self.bytes_max(kind, &stored.media_type);
        if stored.bytes > max {
            let bytes = stored.bytes;
            return Err(StoreError::TooLarge { bytes, max }.into());
        }
        let _turn = self.flight(stored.digest).await;
        let found = match self.cached(stored.digest, kind).await? {
            Some(found) => {
                progress(Progress::Verifying);
                found
            }
            None => {
                self.receive(store, &object, partial, progress).await?;
                let Some(Partial { intake, .. }) = partial.take() else {
                    return Err(ContentError::Empty.into());
                };
                progress(Progress::Verifying);
                let announced = Announced {
                    digest: stored.digest,
                    bytes: stored.bytes,
                    kind,
                    component_bytes_max: self.options.component_bytes_max,
                };
                match self.accept(intake, &announced).await? {
                    Accepted::Kept(kept, component) => (kept, component),
                    Accepted::Mismatch(actual) => {
                        let expected = stored.digest;
                        return Err(StoreError::DigestMismatch { expected, actual }.into());
                    }
                }
            }
        };
        progress(Progress::Cached);
        let (kept, component) = found;
        Ok(Obtained {
            kept,
            digest: stored.digest,
            media_type: stored.media_type.clone(),
            annotations: stored.annotations.clone(),
            resolved: Reference::Lattice(reference.pinned(stored.digest)),
            component,
        })
    }

    /// Receives an object from where the last attempt broke off, if it still is the same.
    async fn receive(
        &self,
        store: &Store,
        object: &Object,
        partial: &mut Option<Partial>,
        progress: Observer<'_>,
    ) -> Result<(), Cause> {
        let total = object.stored.bytes;
        if partial
            .as_ref()
            .is_none_or(|partial| partial.object != *object)
        {
            *partial = Some(Partial {
                object: object.clone(),
                intake: Intake::begin(&self.cache, Some(total)).await?,
                sequence: 0,
            });
        }
        let Some(Partial {
            intake, sequence, ..
        }) = partial
        else {
            return Ok(());
        };
        let fetching = |received_bytes| Progress::Fetching {
            received_bytes,
            total_bytes: Some(total),
        };
        progress(fetching(intake.received_bytes()));
        if total == 0 {
            return Err(ContentError::Empty.into());
        }
        let mut chunks = store.chunks(object, *sequence).await?;
        while intake.received_bytes() < total {
            let piece = chunks.next().await?;
            let received = intake.received_bytes() + piece.len() as u64;
            if received > total {
                *partial = None;
                return Err(StoreError::LengthMismatch {
                    expected: total,
                    actual: received,
                }
                .into());
            }
            intake.add(piece).await?;
            *sequence = chunks.sequence;
            progress(fetching(received));
        }
        Ok(())
    }
}
