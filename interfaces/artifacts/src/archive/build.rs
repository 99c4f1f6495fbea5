//! [`ArchiveBuilder`]: makes archives, and adds executables to those that there are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use trellis_claims::provider::{NewProviderToken, Platform, ProviderClaims, Target};
use trellis_claims::{ContentHash, SigningKey, UnixTime, Validity};

use crate::archive::error::ArchiveError;
use crate::archive::format::{BLOCK_BYTES, EXECUTABLE_DIRECTORY, EntryHeader, MANIFEST, padded};
use crate::archive::read::Archive;

/// Makes an archive: the claims, the executables, then [`ArchiveBuilder::sign`].
#[derive(Debug)]
pub struct ArchiveBuilder {
    token: NewProviderToken,
    executables: BTreeMap<Platform, Source>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl ArchiveBuilder {
    /// An archive without executables. The token's `targets` are replaced by those that are added.
    #[must_use]
    pub fn new(token: NewProviderToken) -> Self {
        Self {
            token,
            executables: BTreeMap::new(),
        }
    }

    /// The claims and executables of an archive that there is, to be changed and signed again. The executables are
    /// checked against its manifest and held in memory.
    ///
    /// # Errors
    /// As [`Archive::extract`].
    pub fn from_archive<R: Read + Seek>(
        archive: &mut Archive<R>,
        validity: Validity,
    ) -> Result<Self, ArchiveError> {
        let mut builder = Self::new(renewed(archive.claims_unverified(), validity));
        let platforms: Vec<_> = archive.executables().keys().cloned().collect();
        for platform in platforms {
            let mut bytes = Vec::new();
            archive.extract(&platform, &mut bytes)?;
            builder.executables.insert(platform, Source::Bytes(bytes));
        }
        Ok(builder)
    }

    /// What will be signed, to be changed.
    pub fn token_mut(&mut self) -> &mut NewProviderToken {
        &mut self.token
    }

    /// Adds, or replaces, the executable of a platform by a file.
    #[must_use]
    pub fn executable(mut self, platform: Platform, path: &Path) -> Self {
        self.executables
            .insert(platform, Source::File(path.to_owned()));
        self
    }

    /// Adds, or replaces, the executable of a platform by its bytes.
    #[must_use]
    pub fn executable_bytes(mut self, platform: Platform, bytes: Vec<u8>) -> Self {
        self.executables.insert(platform, Source::Bytes(bytes));
        self
    }

    /// The platforms that it has so far.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.executables.keys()
    }

    /// Signs the manifest and writes the archive. Blocks. What was written is worthless where an error is returned.
    ///
    /// # Errors
    /// [`ArchiveError::Sign`], [`ArchiveError::Io`], and [`ArchiveError::Malformed`] for an executable that is empty or
    /// changes meanwhile, or where all are too large together.
    pub fn sign(
        mut self,
        account: &SigningKey,
        now: UnixTime,
        out: &mut impl Write,
    ) -> Result<ProviderClaims, ArchiveError> {
        self.token.targets.clear();
        let mut total = 0_u64;
        for (platform, source) in &self.executables {
            let target = source.measure(platform)?;
            total = total.saturating_add(target.bytes);
            if total > crate::limits::ARCHIVE_BYTES_MAX - ROOM_FOR_HEADERS {
                return Err(ArchiveError::malformed(format_args!(
                    "its executables have more than {} bytes together",
                    crate::limits::ARCHIVE_BYTES_MAX
                )));
            }
            self.token.targets.insert(platform.clone(), target);
        }
        let token = self.token.sign(account, now)?;
        entry(
            out,
            MANIFEST,
            0o644,
            token.len() as u64,
            &mut token.as_bytes(),
        )?;
        for (platform, source) in &self.executables {
            let Some(target) = self.token.targets.get(platform) else {
                continue;
            };
            let name = format!("{EXECUTABLE_DIRECTORY}{platform}");
            let mut hashed = Hashed::new(source.open()?.take(target.bytes));
            entry(out, &name, 0o755, target.bytes, &mut hashed)?;
            if hashed.finish() != target.hash {
                return Err(ArchiveError::malformed(format_args!(
                    "the executable for {platform} changed while it was packed"
                )));
            }
        }
        // Two blocks of zeros are tar's end.
        out.write_all(&[0; 2 * BLOCK_BYTES])?;
        out.flush()?;
        trellis_claims::provider::ProviderToken::decode_unverified(&token)
            .map_err(|cause| ArchiveError::Untrusted { cause })
    }
}

/// What headers, padding and the manifest take at most, in bytes.
const ROOM_FOR_HEADERS: u64 = 256 * 1024;

fn renewed(claims: &ProviderClaims, validity: Validity) -> NewProviderToken {
    NewProviderToken {
        subject: claims.subject.clone(),
        name: claims.name.clone(),
        version: claims.version.clone(),
        revision: claims.revision,
        vendor: claims.vendor.clone(),
        serves: claims.serves.clone(),
        calls: claims.calls.clone(),
        targets: BTreeMap::new(),
        config_schema: claims.config_schema.clone(),
        validity,
        account_token: claims.account_token.clone(),
    }
}

impl Source {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path)?),
            Self::Bytes(bytes) => Box::new(&bytes[..]),
        })
    }

    fn measure(&self, platform: &Platform) -> Result<Target, ArchiveError> {
        if let Self::File(path) = self
            && !std::fs::metadata(path)?.is_file()
        {
            return Err(ArchiveError::malformed(format_args!(
                "{} is not a regular file",
                path.display()
            )));
        }
        let mut hashed = Hashed::new(self.open()?.take(crate::limits::ARCHIVE_BYTES_MAX));
        let bytes = io::copy(&mut hashed, &mut io::sink())?;
        if bytes == 0 {
            return Err(ArchiveError::malformed(format_args!(
                "the executable for {platform} is empty"
            )));
        }
        Ok(Target {
            hash: hashed.finish(),
            bytes,
        })
    }
}

fn entry(
    out: &mut impl Write,
    name: &str,
    mode: u32,
    bytes: u64,
    content: &mut impl Read,
) -> Result<(), ArchiveError> {
    let header = EntryHeader {
        name: name.to_owned(),
        bytes,
    };
    out.write_all(&header.write(mode)?)?;
    let written = io::copy(content, out)?;
    if written != bytes {
        return Err(ArchiveError::malformed(format_args!(
            "`{name}` changed while it was packed"
        )));
    }
    let padding = padded(bytes).map_or(0, |end| end - bytes);
    io::copy(&mut io::repeat(0).take(padding), out)?;
    Ok(())
}

/// A reader that hashes what is read.
struct Hashed<R> {
    content: R,
    hash: Sha256,
}

impl<R> Hashed<R> {
    fn new(content: R) -> Self {
        Self {
            content,
            hash: Sha256::new(),
        }
    }

    fn finish(self) -> ContentHash {
        ContentHash::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buf)?;
        self.hash.update(&buf[..read]);
        Ok(read)
    }
}
