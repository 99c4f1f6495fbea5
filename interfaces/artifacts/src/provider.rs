//! A provider's program out of an archive: believed, extracted for this machine, kept. Everything blocks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use trellis_claims::provider::Platform;
use trellis_claims::{TrustRoots, UnixTime};

use crate::archive::{Archive, ArchiveError};
use crate::artifact::Program;
use crate::cache::{Cache, Shelf};
use crate::digest::Digest;
use crate::error::{CacheError, ContentError};
use crate::executable;
use crate::fetch::Cause;
use crate::looks::Looks;

/// What a file is that is to be a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// An archive, of ours or another's.
    Archive,
    /// Something to be executed as it stands.
    Executable,
}

/// Tells by its first bytes what a file is.
pub(crate) fn packing(file: &mut (impl Read + Seek)) -> io::Result<Result<Packing, ContentError>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(512).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match Looks::of(&head) {
        Looks::Empty => Err(ContentError::Empty),
        Looks::Tar | Looks::Gzip => Ok(Packing::Archive),
        Looks::Elf | Looks::Script | Looks::MacOs | Looks::Windows => Ok(Packing::Executable),
        found => Err(ContentError::NotAProvider {
            found: found.words(),
        }),
    })
}

/// The program for this machine out of an archive.
pub(crate) fn program(
    archive: impl Read + Seek,
    trust: &TrustRoots,
    cache: &Arc<Cache>,
) -> Result<Program, Cause> {
    let here = Platform::here();
    let mut archive = Archive::open(archive).map_err(unwrapped)?;
    let claims = archive
        .verify(trust, UnixTime::now())
        .map_err(ContentError::from)?;
    let Some(target) = claims.targets.get(&here) else {
        return Err(ContentError::from(archive.platform_missing(&here)).into());
    };
    let digest = Digest::from_bytes(*target.hash.as_bytes());
    let kept = match cache.find(Shelf::Programs, &digest, &mut io::sink())? {
        Some(kept) => kept,
        None => {
            let mut draft = cache.draft(Some(target.bytes))?;
            archive.extract(&here, &mut draft).map_err(unwrapped)?;
            let mut written =
                File::open(draft.path()).map_err(|error| CacheError::io(draft.path(), error))?;
            executable::check(&mut written, &here)
                .map_err(|error| CacheError::io(draft.path(), error))??;
            draft.keep(Shelf::Programs)?
        }
    };
    Ok(Program {
        path: kept.path,
        claims: Some(claims),
        _kept: Some(kept.file),
    })
}

/// An error of the cache passes through the archive as one of writing.
fn unwrapped(error: ArchiveError) -> Cause {
    match error {
        ArchiveError::Io(error) => match error.downcast::<CacheError>() {
            Ok(error) => error.into(),
            Err(error) => ContentError::from(ArchiveError::Io(error)).into(),
        },
        error => ContentError::from(error).into(),
    }
}
