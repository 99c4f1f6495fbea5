//! Getting content into the cache: from a registry or from the lattice's store, whole or not at all.

mod lattice;
mod oci;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use crate::attempts::Outcome;
use crate::cache::{Cache, Draft, Kept, Shelf};
use crate::component;
use crate::digest::Digest;
use crate::error::{
    CacheError, ContentError, FetchError, FileError, PushError, RegistryError, StoreError,
};
use crate::intake::{Intake, blocking};
use crate::kind::Kind;
use crate::media_type;
use crate::options::ArtifactOptions;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;
use crate::store::Store;

/// What every fetch and push works with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ArtifactOptions,
    pub(crate) cache: Arc<Cache>,
    pub(crate) registries: Registries,
    pub(crate) store: Option<Store>,
    /// Content that is being fetched: whoever wants the same waits, and finds it in the cache.
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// Content in the cache.
#[derive(Debug)]
pub(crate) struct Obtained {
    pub(crate) kept: Kept,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) resolved: Reference,
    /// The bytes themselves, of a component.
    pub(crate) component: Option<Bytes>,
}

/// What is to come, as it was announced.
#[derive(Debug, Clone)]
struct Announced {
    digest: Digest,
    bytes: u64,
    kind: Option<Kind>,
    component_bytes_max: u64,
}

/// Whoever is told about progress.
pub(crate) type Observer<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What went wrong, before it is said with which reference.
#[derive(Debug)]
pub(crate) enum Cause {
    File(FileError),
    Registry(RegistryError),
    Store(StoreError),
    Content(ContentError),
    Cache(CacheError),
}

impl Shared {
    pub(crate) fn new(
        options: ArtifactOptions,
        cache: Arc<Cache>,
        registries: Registries,
        store: Option<Store>,
    ) -> Self {
        Self {
            options,
            cache,
            registries,
            store,
            flights: Mutex::default(),
        }
    }

    /// The largest content that is taken, by what it is for.
    fn bytes_max(&self, kind: Option<Kind>, media_type: &str) -> u64 {
        let is_component = match kind {
            Some(kind) => kind == Kind::Component,
            None => matches!(
                media_type,
                media_type::WASM | media_type::WASM_CONTENT_LAYER
            ),
        };
        match is_component {
            true => self.options.component_bytes_max,
            false => self.options.archive_bytes_max,
        }
    }

    /// One at a time for some content.
    async fn flight(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, turn| turn.strong_count() > 0);
            let known = flights.get(&digest).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                flights.insert(digest, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Content out of the cache, and its bytes where they are a component's.
    async fn cached(
        &self,
        digest: Digest,
        kind: Option<Kind>,
    ) -> Result<Option<(Kept, Option<Bytes>)>, Cause> {
        let cache = self.cache.clone();
        let max = self.options.component_bytes_max;
        blocking(move || {
            if kind != Some(Kind::Component) {
                let found = cache.find(Shelf::Blobs, &digest, &mut io::sink())?;
                return Ok(found.map(|kept| (kept, None)));
            }
            let mut content = Bounded::new(max);
            let Some(kept) = cache.find(Shelf::Blobs, &digest, &mut content)? else {
                return Ok(None);
            };
            let content = content.whole(kept.bytes)?;
            component::check(&content, max)?;
            Ok(Some((kept, Some(content.into()))))
        })
        .await
    }

    /// Judges what came, and keeps it.
    async fn accept(&self, intake: Intake, announced: &Announced) -> Result<Accepted, Cause> {
        let draft = intake.finish().await?;
        let announced = announced.clone();
        blocking(move || accept(draft, &announced)).await
    }
}

/// What came of content that was all here.
enum Accepted {
    Kept(Kept, Option<Bytes>),
    /// It was other content.
    Mismatch(Digest),
}

fn accept(draft: Draft, announced: &Announced) -> Result<Accepted, Cause> {
    let actual = draft.digest();
    if actual != announced.digest || draft.bytes() != announced.bytes {
        return Ok(Accepted::Mismatch(actual));
    }
    let component = match announced.kind {
        Some(Kind::Component) => {
            let read = || {
                let mut content = Vec::new();
                let file = std::fs::File::open(draft.path())?;
                file.take(announced.bytes).read_to_end(&mut content)?;
                Ok(content)
            };
            let content = read().map_err(|error| CacheError::io(draft.path(), error))?;
            component::check(&content, announced.component_bytes_max)?;
            Some(content.into())
        }
        _ => None,
    };
    Ok(Accepted::Kept(draft.keep(Shelf::Blobs)?, component))
}

/// Takes so many bytes, and then only counts.
pub(crate) struct Bounded {
    content: Vec<u8>,
    max: u64,
}

impl Bounded {
    pub(crate) const fn new(max: u64) -> Self {
        Self {
            content: Vec::new(),
            max,
        }
    }

    /// The content, if it was no longer than the limit.
    pub(crate) fn whole(self, bytes: u64) -> Result<Vec<u8>, ContentError> {
        match bytes == self.content.len() as u64 {
            true => Ok(self.content),
            false => Err(ContentError::TooLarge {
                bytes,
                max: self.max,
            }),
        }
    }
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if (self.content.len() + piece.len()) as u64 <= self.max {
            self.content.extend_from_slice(piece);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Cause {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Registry(
                RegistryError::DigestMismatch { .. } | RegistryError::LengthMismatch { .. },
            )
            | Self::Store(StoreError::DigestMismatch { .. } | StoreError::LengthMismatch { .. }) => {
                Outcome::Mismatch
            }
            Self::Registry(error) if error.is_retryable() => Outcome::Failed,
            Self::Store(error) if error.is_retryable() => Outcome::Failed,
            _ => Outcome::Final,
        }
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            Self::File(error) => error.to_string(),
            Self::Registry(error) => error.to_string(),
            Self::Store(error) => error.to_string(),
            Self::Content(error) => error.to_string(),
            Self::Cache(error) => error.to_string(),
        }
    }

    pub(crate) fn fetching(self, reference: &Reference) -> FetchError {
        let reference = reference.to_string();
        match self {
            Self::File(cause) => FetchError::File { reference, cause },
            Self::Registry(cause) => FetchError::Registry { reference, cause },
            Self::Store(cause) => FetchError::Store { reference, cause },
            Self::Content(cause) => FetchError::Content { reference, cause },
            Self::Cache(cause) => FetchError::Cache { reference, cause },
        }
    }

    pub(crate) fn pushing(self, reference: &Reference) -> PushError {
        let reference = reference.to_string();
        match self {
            Self::File(cause) => PushError::File { reference, cause },
            Self::Registry(cause) => PushError::Registry { reference, cause },
            Self::Store(cause) => PushError::Store { reference, cause },
            Self::Content(cause) => PushError::Content { reference, cause },
            // Pushing writes nothing into the cache, but a runtime that shuts down says so in its words.
            Self::Cache(cause) => PushError::Store {
                reference,
                cause: StoreError::Unavailable {
                    reason: cause.to_string(),
                },
            },
        }
    }
}

macro_rules! causes {
    ($($variant:ident($error:ty)),*) => {$(
        impl From<$error> for Cause {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}

causes!(
    File(FileError),
    Registry(RegistryError),
    Store(StoreError),
    Content(ContentError),
    Cache(CacheError)
);
