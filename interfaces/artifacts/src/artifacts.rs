//! [`Artifacts`], the front door: fetch, download, push, list, remove.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use async_nats::jetstream;
use sha2::{Digest as _, Sha256};
use trellis_claims::provider::Platform;
use trellis_protocol::control::RegistryCredentials;

use crate::artifact::{Artifact, Content, Download, Program, Pushed, Stored, Upload};
use crate::cache::{Cache, Kept};
use crate::component;
use crate::digest::Digest;
use crate::error::{
    CacheError, ContentError, FetchError, FileError, OpenError, PushError, StoreError,
};
use crate::fetch::{Cause, Observer, Obtained, Shared};
use crate::intake::blocking;
use crate::kind::Kind;
use crate::limits::TRANSFER_WITHIN;
use crate::looks::Looks;
use crate::options::ArtifactOptions;
use crate::progress::Progress;
use crate::provider::{Packing, packing, program};
use crate::push::Outgoing;
use crate::reference::{LatticeReference, Reference};
use crate::registry::Registries;
use crate::store::Store;
use crate::{executable, file, media_type};

/// How much of some content is looked at to say what it is, in bytes.
const HEAD_BYTES: u64 = 512;

/// The lattice's own store: a JetStream context, and which lattice.
#[derive(Debug, Clone)]
pub struct LatticeStore {
    /// How JetStream is reached, in the lattice's domain.
    pub context: jetstream::Context,
    /// The lattice's name.
    pub lattice: String,
}

/// Fetches and pushes artifacts. Cheap to clone; all clones share one cache, credentials and connections.
///
/// Every future can be dropped at any time: that ends the transfer, and leaves nothing half, neither in the cache nor
/// where it was going.
#[derive(Debug, Clone)]
pub struct Artifacts(Arc<Shared>);

impl Artifacts {
    /// Prepares the cache and the client for registries. Blocks for a moment. The process's default provider of rustls
    /// must have been installed.
    ///
    /// # Errors
    /// [`OpenError`] where the cache's directory or a file of certificates cannot be used.
    pub fn open(options: ArtifactOptions, store: Option<LatticeStore>) -> Result<Self, OpenError> {
        let cache = Cache::open(options.cache_dir.as_deref(), options.cache_bytes_max)?;
        let registries = Registries::new(&options)?;
        let store = store.map(|store| Store::new(store, options.timeouts));
        let cache = Arc::new(cache);
        Ok(Self(Arc::new(Shared::new(
            options, cache, registries, store,
        ))))
    }

    /// Credentials of registries, by their names as they stand in references. Those of other registries stay.
    pub fn set_registries(&self, credentials: &RegistryCredentials) {
        self.0.registries.set_credentials(credentials);
    }

    /// Fetches an artifact that is to run here: a component's bytes, or a provider's program for this machine, out of an
    /// archive that is believed by `options.trust`. What is in the cache is verified and not fetched again.
    ///
    /// A tag is looked up each time. A pinned reference, and a tag's content, come from the cache where they are there.
    ///
    /// # Errors
    /// [`FetchError`], by cause; see [`error`](crate::error).
    pub async fn fetch(
        &self,
        reference: &Reference,
        kind: Kind,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Artifact, FetchError> {
        let options = &self.0.options;
        let not_allowed = || reference.to_string();
        match reference {
            Reference::File(_) if !options.allow_file => {
                return Err(FetchError::FilesNotAllowed {
                    reference: not_allowed(),
                });
            }
            Reference::Oci(oci) if oci.is_latest() && !options.allow_latest => {
                return Err(FetchError::LatestNotAllowed {
                    reference: not_allowed(),
                });
            }
            _ => {}
        }
        let fetched = async {
            match reference {
                Reference::File(path) => self.take_file(path, kind, &progress).await,
                _ => {
                    let obtained = self.obtain(reference, Some(kind), &progress).await?;
                    self.unpack(obtained, kind).await
                }
            }
        };
        in_time(Box::pin(fetched), reference).await
    }

    /// Fetches an artifact as it was published, whatever it is, to be looked at or kept elsewhere. Nothing of it is believed
    /// but its digest. What the options allow is a host's business and not asked for here.
    ///
    /// # Errors
    /// [`FetchError`], by cause.
    pub async fn download(
        &self,
        reference: &Reference,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Download, FetchError> {
        let fetched = async {
            match reference {
                Reference::File(path) => self.look_at_file(path).await,
                _ => {
                    let obtained = self.obtain(reference, None, &progress).await?;
                    blocking(move || described(obtained)).await
                }
            }
        };
        in_time(Box::pin(fetched), reference).await
    }

    /// Pushes an artifact to a registry or to the lattice's store, under the reference's tag. It is checked before: a
    /// component must be one and an archive must be whole. Until all of it is there, nothing of it can be seen.
    ///
    /// # Errors
    /// [`PushError`], by cause.
    pub async fn push(
        &self,
        reference: &Reference,
        kind: Kind,
        content: Upload<'_>,
        annotations: BTreeMap<String, String>,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Pushed, PushError> {
        if reference.digest().is_some() {
            return Err(PushError::Pinned {
                reference: reference.to_string(),
            });
        }
        let pushed = async {
            let (source, (bytes, digest)) = self.0.source(content, kind).await?;
            let upload = Outgoing {
                kind,
                source,
                bytes,
                digest,
                annotations,
            };
            let resolved = match reference {
                Reference::File(_) => return Ok(None),
                Reference::Oci(oci) => self.0.push_to_registry(oci, &upload, &progress).await?,
                Reference::Lattice(lattice) => {
                    self.0.push_to_store(lattice, &upload, &progress).await?
                }
            };
            Ok::<_, Cause>(Some(Pushed {
                digest,
                bytes,
                resolved,
            }))
        };
        match tokio::time::timeout(TRANSFER_WITHIN, Box::pin(pushed)).await {
            Ok(Ok(Some(pushed))) => Ok(pushed),
            Ok(Ok(None)) => Err(PushError::Unsupported {
                reference: reference.to_string(),
            }),
            Ok(Err(cause)) => Err(cause.pushing(reference)),
            Err(_) => Err(PushError::TooSlow {
                reference: reference.to_string(),
                within: TRANSFER_WITHIN,
            }),
        }
    }

    /// What the lattice's store has, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self) -> Result<Vec<Stored>, StoreError> {
        self.0.store()?.list().await
    }

    /// Removes an artifact from the lattice's store; one whose digest is pinned only if that is what the name stands for.
    /// What runs keeps running, and caches keep what they have.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove(&self, reference: &LatticeReference) -> Result<(), StoreError> {
        self.0.store()?.remove(reference).await
    }

    async fn obtain(
        &self,
        reference: &Reference,
        kind: Option<Kind>,
        progress: Observer<'_>,
    ) -> Result<Obtained, Cause> {
        match reference {
            Reference::Oci(oci) => self.0.obtain_from_registry(oci, kind, progress).await,
            Reference::Lattice(lattice) => self.0.obtain_from_store(lattice, kind, progress).await,
            Reference::File(path) => Err(FileError::NotAFile { path: path.clone() }.into()),
        }
    }

    /// A component's bytes, or the program out of an archive.
    async fn unpack(&self, obtained: Obtained, kind: Kind) -> Result<Artifact, Cause> {
        let content = match (kind, obtained.component) {
            (Kind::Component, Some(bytes)) => Content::Component(bytes),
            (Kind::Component, None) => return Err(ContentError::Empty.into()),
            (Kind::Provider, _) => {
                let (shared, kept) = (self.0.clone(), obtained.kept.clone());
                let unpacking = move || {
                    let mut archive = rewound(&kept)?;
                    match packing(&mut archive).map_err(file::unreadable(&kept.path))?? {
                        Packing::Archive => program(archive, &shared.options.trust, &shared.cache),
                        // Nobody signed it.
                        Packing::Executable => Err(ContentError::NotAProvider {
                            found: "a bare executable",
                        }
                        .into()),
                    }
                };
                Content::Program(blocking(unpacking).await?)
            }
        };
        Ok(Artifact {
            content,
            digest: obtained.digest,
            media_type: obtained.media_type,
            resolved: obtained.resolved,
        })
    }

    async fn take_file(
        &self,
        path: &Path,
        kind: Kind,
        progress: Observer<'_>,
    ) -> Result<Artifact, Cause> {
        progress(Progress::Verifying);
        let (shared, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            let resolved = Reference::File(path.clone());
            if kind == Kind::Component {
                let max = shared.options.component_bytes_max;
                let bytes = file::read(&path, max)?;
                component::check(&bytes, max)?;
                return Ok(Artifact {
                    digest: Digest::of(&bytes),
                    content: Content::Component(bytes.into()),
                    media_type: media_type::WASM.to_owned(),
                    resolved,
                });
            }
            let (mut opened, _) = file::open(&path, shared.options.archive_bytes_max)?;
            let found = packing(&mut opened).map_err(file::unreadable(&path))??;
            let digest = digest_of(&opened).map_err(file::unreadable(&path))?;
            let (program, media_type) = match found {
                Packing::Archive => {
                    let program = program(opened, &shared.options.trust, &shared.cache)?;
                    (program, media_type::PROVIDER_ARCHIVE)
                }
                Packing::Executable => {
                    executable::check(&mut opened, &Platform::here())
                        .map_err(file::unreadable(&path))??;
                    let program = Program {
                        path: path.clone(),
                        claims: None,
                        _kept: None,
                    };
                    (program, media_type::EXECUTABLE)
                }
            };
            Ok(Artifact {
                content: Content::Program(program),
                digest,
                media_type: media_type.to_owned(),
                resolved,
            })
        })
        .await
    }

    async fn look_at_file(&self, path: &Path) -> Result<Download, Cause> {
        let max = self.0.options.archive_bytes_max;
        let path = path.to_owned();
        blocking(move || {
            let (file, bytes) = file::open(&path, max)?;
            let digest = digest_of(&file).map_err(file::unreadable(&path))?;
            let (kind, media_type) = kind_of(&file).map_err(file::unreadable(&path))?;
            Ok(Download {
                bytes,
                digest,
                media_type: media_type.to_owned(),
                kind,
                annotations: BTreeMap::new(),
                resolved: Reference::File(path.clone()),
                path,
                _kept: None,
            })
        })
        .await
    }
}

/// Boxed by the callers: it holds some 20 KiB, which is nothing to be moved about in a host's tasks.
async fn in_time<T>(
    fetched: impl Future<Output = Result<T, Cause>>,
    reference: &Reference,
) -> Result<T, FetchError> {
    match tokio::time::timeout(TRANSFER_WITHIN, fetched).await {
        Ok(fetched) => fetched.map_err(|cause| cause.fetching(reference)),
        Err(_) => Err(FetchError::TooSlow {
            reference: reference.to_string(),
            within: TRANSFER_WITHIN,
        }),
    }
}

fn described(obtained: Obtained) -> Result<Download, Cause> {
    let file = rewound(&obtained.kept)?;
    let (kind, _) = kind_of(&file).map_err(file::unreadable(&obtained.kept.path))?;
    Ok(Download {
        path: obtained.kept.path,
        bytes: obtained.kept.bytes,
        digest: obtained.digest,
        media_type: obtained.media_type,
        kind,
        annotations: obtained.annotations,
        resolved: obtained.resolved,
        _kept: Some(obtained.kept.file),
    })
}

/// What some content is for, by its first bytes, and the media type for that.
fn kind_of(mut file: &File) -> io::Result<(Option<Kind>, &'static str)> {
    let mut head = Vec::new();
    io::Seek::rewind(&mut file)?;
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    io::Seek::rewind(&mut file)?;
    Ok(match Looks::of(&head) {
        Looks::Component | Looks::Wasm => (Some(Kind::Component), media_type::WASM),
        Looks::Tar => (Some(Kind::Provider), media_type::PROVIDER_ARCHIVE),
        Looks::Elf | Looks::MacOs | Looks::Script => (Some(Kind::Provider), media_type::EXECUTABLE),
        _ => (None, "application/octet-stream"),
    })
}

/// Leaves the file at its beginning.
fn digest_of(mut file: &File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 128 * 1024];
    io::Seek::rewind(&mut file)?;
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    io::Seek::rewind(&mut file)?;
    Ok(Digest::from_bytes(hash.finalize().into()))
}

/// A reader of its own, at the beginning.
fn rewound(kept: &Kept) -> Result<File, CacheError> {
    kept.rewound()
        .and_then(File::try_clone)
        .map_err(|error| CacheError::io(&kept.path, error))
}
