//! What is pushed: looked at and measured first, then sent to a registry or to the lattice's store.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::Archive;
use crate::artifact::Upload;
use crate::attempts::Attempts;
use crate::component;
use crate::digest::Digest;
use crate::error::ContentError;
use crate::fetch::{Cause, Observer, Shared};
use crate::file;
use crate::intake::blocking;
use crate::kind::Kind;
use crate::media_type;
use crate::provider::{Packing, packing};
use crate::reference::{LatticeReference, OciReference, Reference};
use crate::registry::{Action, Manifest, Source};

/// Content on its way out.
pub(crate) struct Outgoing {
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Shared {
    /// What is to be pushed, looked at and measured.
    pub(crate) async fn source(
        &self,
        content: Upload<'_>,
        kind: Kind,
    ) -> Result<(Source, (u64, Digest)), Cause> {
        let max = match kind {
            Kind::Component => self.options.component_bytes_max,
            Kind::Provider => self.options.archive_bytes_max,
        };
        let (given, path) = match content {
            Upload::Bytes(bytes) => (Some(bytes.clone()), None),
            Upload::File(path) => (None, Some(path.to_owned())),
        };
        blocking(move || {
            let source = match (given, &path) {
                (Some(bytes), _) => Source::Bytes(bytes),
                // A component is small: what is checked is what is sent, whatever becomes of the file.
                (None, Some(path)) if kind == Kind::Component => {
                    Source::Bytes(file::read(path, max)?.into())
                }
                (None, Some(path)) => Source::File(Arc::new(file::open(path, max)?.0)),
                (None, None) => Source::Bytes(Bytes::new()),
            };
            let path = path.unwrap_or_default();
            let measured = source.measure(max).map_err(file::unreadable(&path))?;
            if measured.0 > max {
                return Err(ContentError::TooLarge {
                    bytes: measured.0,
                    max,
                }
                .into());
            }
            check(&source, kind, max).map_err(|cause| match cause {
                Unfit::Content(error) => Cause::from(error),
                Unfit::Io(error) => file::unreadable(&path)(error).into(),
            })?;
            Ok((source, measured))
        })
        .await
    }

    pub(crate) async fn push_to_registry(
        &self,
        oci: &OciReference,
        upload: &Outgoing,
        progress: Observer<'_>,
    ) -> Result<Reference, Cause> {
        let repository = self.registries.repository(oci, Action::Push)?;
        let manifest = Manifest::of(
            upload.kind,
            upload.digest,
            upload.bytes,
            &upload.annotations,
        );
        let configuration = Source::Bytes(manifest.configuration.clone());
        let configuration_bytes = manifest.configuration.len() as u64;
        let mut attempts = Attempts::new(self.options.timeouts.backoff);
        loop {
            let tried = async {
                repository
                    .upload(&upload.source, upload.digest, upload.bytes, progress)
                    .await?;
                let digest = Digest::of(&manifest.configuration);
                repository
                    .upload(&configuration, digest, configuration_bytes, &|_| {})
                    .await?;
                repository
                    .put_manifest(&oci.manifest(), &manifest.body)
                    .await
            };
            let cause = match tried.await {
                Ok(()) => return Ok(Reference::Oci(oci.pinned(Digest::of(&manifest.body)))),
                Err(error) => Cause::from(error),
            };
            let outcome = cause.outcome();
            if !attempts.again(outcome, || cause.reason(), progress).await {
                return Err(cause);
            }
        }
    }

    pub(crate) async fn push_to_store(
        &self,
        lattice: &LatticeReference,
        upload: &Outgoing,
        progress: Observer<'_>,
    ) -> Result<Reference, Cause> {
        let store = self.store()?;
        let media_type = media_type::accepted(upload.kind)[0];
        let mut attempts = Attempts::new(self.options.timeouts.backoff);
        loop {
            let tried = store.put(
                lattice,
                media_type,
                &upload.source,
                (upload.bytes, upload.digest),
                &upload.annotations,
                progress,
            );
            let cause = match tried.await {
                Ok(()) => return Ok(Reference::Lattice(lattice.pinned(upload.digest))),
                Err(error) => Cause::from(error),
            };
            let outcome = cause.outcome();
            if !attempts.again(outcome, || cause.reason(), progress).await {
                return Err(cause);
            }
        }
    }
}

enum Unfit {
    Content(ContentError),
    Io(io::Error),
}

/// Whether what is pushed is what it is to be.
fn check(source: &Source, kind: Kind, max: u64) -> Result<(), Unfit> {
    match (kind, source) {
        (Kind::Component, Source::Bytes(bytes)) => {
            component::check(bytes, max).map_err(Unfit::Content)
        }
        (Kind::Component, Source::File(_)) => Ok(()),
        (Kind::Provider, Source::Bytes(bytes)) => archive(io::Cursor::new(bytes)),
        (Kind::Provider, Source::File(file)) => archive(file.try_clone().map_err(Unfit::Io)?),
    }
}

fn archive(mut content: impl io::Read + io::Seek) -> Result<(), Unfit> {
    match packing(&mut content).map_err(Unfit::Io)? {
        Ok(Packing::Archive) => Archive::open(content)
            .map(drop)
            .map_err(|error| Unfit::Content(error.into())),
        Ok(Packing::Executable) => Err(Unfit::Content(ContentError::NotAProvider {
            found: "a bare executable",
        })),
        Err(error) => Err(Unfit::Content(error)),
    }
}
