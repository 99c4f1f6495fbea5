//! [`Archive`]: an archive read from a file, with limits, and nothing unpacked by a path that it names.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use trellis_claims::TrustRoots;
use trellis_claims::UnixTime;
use trellis_claims::provider::{Platform, ProviderClaims, ProviderToken, Target};
use trellis_claims::token::TOKEN_BYTES_MAX;

use crate::archive::error::ArchiveError;
use crate::archive::format::{
    BLOCK_BYTES, ENTRIES_MAX, EXECUTABLE_DIRECTORY, EntryHeader, MANIFEST, is_padding, padded,
};
use crate::limits::ARCHIVE_BYTES_MAX;

/// An archive whose form has been checked. Its manifest has been read and *not* been believed: see
/// [`Archive::verify`].
#[derive(Debug)]
pub struct Archive<R> {
    content: R,
    token: String,
    claims: ProviderClaims,
    executables: BTreeMap<Platform, Executable>,
}

/// An executable in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executable {
    /// Where it begins in the archive, in bytes.
    pub offset: u64,
    /// Its length, in bytes.
    pub bytes: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the manifest and finds the executables. Blocks. Nothing of an executable is read yet.
    ///
    /// # Errors
    /// [`ArchiveError`] for anything that is not an archive as [`ArchiveBuilder`](crate::ArchiveBuilder) makes them:
    /// see the module's page.
    pub fn open(mut content: R) -> Result<Self, ArchiveError> {
        let length = content.seek(SeekFrom::End(0))?;
        if length > ARCHIVE_BYTES_MAX {
            return Err(ArchiveError::malformed(format_args!(
                "it has {length} bytes, at most {ARCHIVE_BYTES_MAX} are accepted"
            )));
        }
        content.seek(SeekFrom::Start(0))?;
        let mut entries = Entries::new(&mut content, length);
        let manifest = entries
            .next()?
            .ok_or_else(|| ArchiveError::malformed("it has no entry"))?;
        if manifest.name != MANIFEST {
            return Err(ArchiveError::malformed(format_args!(
                "its first entry is not `{MANIFEST}`"
            )));
        }
        if manifest.bytes > TOKEN_BYTES_MAX as u64 {
            return Err(ArchiveError::malformed(format_args!(
                "its manifest has {} bytes, at most {TOKEN_BYTES_MAX} are accepted",
                manifest.bytes
            )));
        }
        let mut executables = BTreeMap::new();
        while let Some(entry) = entries.next()? {
            let platform = entry
                .name
                .strip_prefix(EXECUTABLE_DIRECTORY)
                .and_then(|name| name.parse::<Platform>().ok())
                .ok_or_else(|| {
                    ArchiveError::malformed(
                        "an entry is neither the manifest nor `bin/<arch>-<os>`",
                    )
                })?;
            let executable = Executable {
                offset: entry.offset,
                bytes: entry.bytes,
            };
            if executables.insert(platform, executable).is_some() {
                return Err(ArchiveError::malformed("two entries have one name"));
            }
        }
        let mut token = vec![0; usize::try_from(manifest.bytes).unwrap_or(0)];
        content.seek(SeekFrom::Start(manifest.offset))?;
        content.read_exact(&mut token)?;
        let token = String::from_utf8(token)
            .map_err(|_| ArchiveError::malformed("its manifest is not text"))?;
        let claims = ProviderToken::decode_unverified(&token)
            .map_err(|error| ArchiveError::malformed(format_args!("its manifest: {error}")))?;
        // Both ways: what is signed is there, and what is there is signed.
        for (platform, target) in &claims.targets {
            if executables.get(platform).map(|found| found.bytes) != Some(target.bytes) {
                return Err(ArchiveError::malformed(format_args!(
                    "its manifest names an executable for {platform} of {} bytes, which is not there",
                    target.bytes
                )));
            }
        }
        if executables.len() != claims.targets.len() {
            return Err(ArchiveError::malformed(
                "it has executables that its manifest does not name",
            ));
        }
        Ok(Self {
            content,
            token,
            claims,
            executables,
        })
    }

    /// What the manifest says, once its signature, its times and the chain to a trust root have been checked.
    ///
    /// # Errors
    /// [`ArchiveError::Untrusted`].
    pub fn verify(
        &self,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<ProviderClaims, ArchiveError> {
        ProviderToken::verify(&self.token, roots, now)
            .map_err(|cause| ArchiveError::Untrusted { cause })
    }

    /// Writes the executable of a platform and checks it against the manifest. Blocks. What was written is worthless
    /// where an error is returned.
    ///
    /// # Errors
    /// [`ArchiveError::PlatformMissing`], [`ArchiveError::Changed`], [`ArchiveError::Io`].
    pub fn extract(
        &mut self,
        platform: &Platform,
        out: &mut impl Write,
    ) -> Result<Target, ArchiveError> {
        let (Some(executable), Some(target)) = (
            self.executables.get(platform).copied(),
            self.claims.targets.get(platform).copied(),
        ) else {
            return Err(self.platform_missing(platform));
        };
        self.content.seek(SeekFrom::Start(executable.offset))?;
        let mut hash = Sha256::new();
        let mut left = executable.bytes;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let piece = &mut piece[..wanted];
            self.content.read_exact(piece)?;
            hash.update(&*piece);
            out.write_all(piece)?;
            left -= wanted as u64;
        }
        if *target.hash.as_bytes() != <[u8; 32]>::from(hash.finalize()) {
            return Err(ArchiveError::Changed {
                name: format!("{EXECUTABLE_DIRECTORY}{platform}"),
            });
        }
        Ok(target)
    }

    /// What the manifest says, whoever made it and whenever. For showing to people, never for deciding.
    #[must_use]
    pub const fn claims_unverified(&self) -> &ProviderClaims {
        &self.claims
    }

    /// The manifest as it stands in the archive, a JWT.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The executables by platform.
    #[must_use]
    pub const fn executables(&self) -> &BTreeMap<Platform, Executable> {
        &self.executables
    }

    pub(crate) fn platform_missing(&self, platform: &Platform) -> ArchiveError {
        let available: Vec<_> = self.executables.keys().map(ToString::to_string).collect();
        ArchiveError::PlatformMissing {
            platform: platform.to_string(),
            available: available.join(", "),
        }
    }
}

/// How much of an executable is held at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Goes from header to header.
struct Entries<'a, R> {
    content: &'a mut R,
    length: u64,
    at: u64,
    count: usize,
}

struct Entry {
    name: String,
    offset: u64,
    bytes: u64,
}

impl<'a, R: Read + Seek> Entries<'a, R> {
    fn new(content: &'a mut R, length: u64) -> Self {
        Self {
            content,
            length,
            at: 0,
            count: 0,
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut block = [0; BLOCK_BYTES];
        self.block(&mut block)?;
        if self.count == 0 && block.starts_with(&[0x1f, 0x8b]) {
            return Err(ArchiveError::Foreign);
        }
        if is_padding(&block) {
            self.end()?;
            return Ok(None);
        }
        self.count += 1;
        if self.count > ENTRIES_MAX {
            return Err(ArchiveError::malformed(format_args!(
                "it has more than {ENTRIES_MAX} entries"
            )));
        }
        let EntryHeader { name, bytes } = EntryHeader::read(&block)?;
        if self.count == 1 && name == FOREIGN_MANIFEST {
            return Err(ArchiveError::Foreign);
        }
        let offset = self.at;
        let end = padded(bytes)
            .and_then(|bytes| offset.checked_add(bytes))
            .filter(|end| *end <= self.length)
            .ok_or(ArchiveError::Truncated {
                offset: self.length,
            })?;
        self.at = end;
        self.content.seek(SeekFrom::Start(end))?;
        Ok(Some(Entry {
            name,
            offset,
            bytes,
        }))
    }

    /// After a block of zeros: one more, and nothing else to the end.
    fn end(&mut self) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK_BYTES];
        self.block(&mut block)?;
        while is_padding(&block) {
            if self.at == self.length {
                return Ok(());
            }
            self.block(&mut block)?;
        }
        Err(ArchiveError::malformed("something follows its end"))
    }

    fn block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<(), ArchiveError> {
        if self.length - self.at < BLOCK_BYTES as u64 {
            // Where it is less than one block in all, its beginning may still say what it is.
            let mut start = [0; 2];
            if self.at == 0 && self.length >= 2 {
                self.content.read_exact(&mut start)?;
            }
            return Err(match start {
                [0x1f, 0x8b] => ArchiveError::Foreign,
                _ => ArchiveError::Truncated {
                    offset: self.length,
                },
            });
        }
        self.content.read_exact(block)?;
        self.at += BLOCK_BYTES as u64;
        Ok(())
    }
}

/// The first entry of an uncompressed archive of wasmCloud 1.x.
const FOREIGN_MANIFEST: &str = "claims.jwt";
