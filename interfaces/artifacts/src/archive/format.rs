//! The bytes of an archive: names, blocks, headers.

use tar::{EntryType, Header};

use crate::archive::error::ArchiveError;

/// The name of the manifest, the first entry.
pub(super) const MANIFEST: &str = "manifest.jwt";

/// What the names of executables begin with; their platform follows.
pub(super) const EXECUTABLE_DIRECTORY: &str = "bin/";

/// A block of tar (POSIX.1-1988, ustar), in bytes.
pub(super) const BLOCK_BYTES: usize = 512;

/// Most entries: the manifest and one for each platform.
pub(super) const ENTRIES_MAX: usize = 1 + trellis_claims::provider::TARGETS_MAX;

/// Header of an entry.
pub(super) struct EntryHeader {
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl EntryHeader {
    /// Reads a header. Only plain files with short names are taken: no links, no directories, no extensions.
    pub(super) fn read(block: &[u8; BLOCK_BYTES]) -> Result<Self, ArchiveError> {
        let header = Header::from_byte_slice(block);
        let sum = header.cksum().ok();
        if sum != Some(checksum(block)) {
            return Err(ArchiveError::malformed("it is no tar file"));
        }
        if header.as_ustar().is_none() {
            return Err(ArchiveError::malformed("a header is not of the form ustar"));
        }
        if header.entry_type() != EntryType::Regular {
            return Err(ArchiveError::malformed("an entry is not a plain file"));
        }
        let name = header.path_bytes();
        let name = std::str::from_utf8(&name)
            .map_err(|_| ArchiveError::malformed("an entry's name is not text"))?;
        let bytes = header
            .entry_size()
            .map_err(|_| ArchiveError::malformed("an entry's size is no number"))?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
        })
    }

    /// Writes a header: the same for the same content, whoever makes it and whenever.
    pub(super) fn write(&self, mode: u32) -> Result<[u8; BLOCK_BYTES], ArchiveError> {
        let mut header = Header::new_ustar();
        header.set_path(&self.name)?;
        header.set_size(self.bytes);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        Ok(*header.as_bytes())
    }
}

/// The sum of a header's bytes, those of the sum itself taken for blanks.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u32 {
    const SUM: std::ops::Range<usize> = 148..156;
    block
        .iter()
        .enumerate()
        .map(|(index, byte)| u32::from(if SUM.contains(&index) { b' ' } else { *byte }))
        .sum()
}

pub(super) fn is_padding(block: &[u8; BLOCK_BYTES]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The length up to the next whole block.
pub(super) fn padded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(BLOCK_BYTES as u64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// The example of PROTOCOL.md, section 13.1.
    #[test]
    fn a_header_has_the_bytes_of_the_protocol() {
        let header = EntryHeader {
            name: "bin/x86_64-linux".to_owned(),
            bytes: 10,
        };
        let written = header.write(0o755).unwrap();
        let mut expected = [0; BLOCK_BYTES];
        for (at, bytes) in [
            (0, &b"bin/x86_64-linux"[..]),
            (100, b"0000755\0"),
            (108, b"0000000\0"),
            (116, b"0000000\0"),
            (124, b"00000000012\0"),
            (136, b"00000000000\0"),
            (148, b"0010527\0"),
            (156, b"0"),
            (257, b"ustar\x0000"),
        ] {
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        }
        assert_eq!(
            String::from_utf8_lossy(&written),
            String::from_utf8_lossy(&expected)
        );
        let read = EntryHeader::read(&written).unwrap();
        assert_eq!((read.name, read.bytes), (header.name, header.bytes));
    }
}
