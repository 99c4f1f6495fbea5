//! Directories for the temporary files of provider processes: made, removed after their process, and swept where a host
//! was killed before it could.
//!
//! What is in such a directory was written by a process that is not trusted. So its removal never follows a link, needs no
//! more descriptors and no more stack for a deep tree than for a flat one, happens on a thread of its own, and ends.
//!
//! A host holds a lock on each directory of its own. The kernel lets go of it however the host ends, so a directory that
//! can be locked belongs to nobody any more. (Process ids would not do: hosts in different containers may share `/tmp`.)

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::time::timeout;

use super::isolation::User;

/// How their names begin.
const PREFIX: &str = "trellis-provider-";

/// How long the removal of one may take. What is left then is swept later.
const REMOVAL_MAX: Duration = Duration::from_secs(60);

/// How long somebody waits for it.
const REMOVAL_WAIT: Duration = Duration::from_secs(1);

/// A directory that is younger may belong to a host that is about to lock it.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Directories that are looked at in one sweep.
const SWEPT_MAX: usize = 1024;

/// A directory of one process. Dropping it removes it, some time later.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    /// Locked.
    lock: Option<File>,
}

impl Temporary {
    /// Makes one with nobody else's files in it, for a user where that is another one. Blocks for a moment.
    pub(super) fn make(user: Option<User>) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let lock = lock(made.path())?;
        if let Some(user) = user {
            std::os::unix::fs::chown(made.path(), Some(user.uid), Some(user.gid))?;
        }
        Ok(Self {
            path: made.keep(),
            lock: Some(lock),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, and waits for that for a while.
    pub(super) async fn remove(mut self) {
        let Some(removal) = self.removal() else {
            return;
        };
        let removing = tokio::task::spawn_blocking(removal);
        if timeout(REMOVAL_WAIT, removing).await.is_err() {
            tracing::debug!(path = %self.path.display(), "a provider's temporary files are still being removed");
        }
    }

    /// The work of removing it, once.
    fn removal(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let (lock, path) = (self.lock.take()?, self.path.clone());
        Some(move || {
            remove_and_tell(&path);
            drop(lock);
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(removal) = self.removal() {
            // Where there is no thread to be had, a later sweep finds it.
            let thread = std::thread::Builder::new().name("trellis-remover".to_owned());
            let _ = thread.spawn(removal);
        }
    }
}

/// Removes what killed hosts have left, once for this process, on a thread of its own.
pub(super) fn sweep_once(user: Option<User>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let thread = std::thread::Builder::new().name("trellis-sweeper".to_owned());
        let _ = thread.spawn(move || sweep(&std::env::temp_dir(), user, SystemTime::now()));
    });
}

fn sweep(directory: &Path, user: Option<User>, now: SystemTime) {
    let Ok(entries) = directory.read_dir() else {
        return;
    };
    let ours = rustix::process::geteuid().as_raw();
    let is_ours = |uid| uid == ours || user.is_some_and(|user| user.uid == uid);
    let named = entries.filter_map(Result::ok).filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
    });
    for entry in named.take(SWEPT_MAX) {
        // Of the entry itself, where it is a link.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata
            .modified()
            .ok()
            .and_then(|then| now.duration_since(then).ok());
        let is_old = age.is_some_and(|age| age >= STALE_AFTER);
        if !metadata.is_dir() || !is_ours(metadata.uid()) || !is_old {
            continue;
        }
        // Held until it is gone: two hosts may sweep at once.
        let Ok(_lock) = lock(&entry.path()) else {
            continue;
        };
        tracing::info!(path = %entry.path().display(), "temporary files of a provider are removed, whose host has not done it");
        remove_and_tell(&entry.path());
    }
}

/// Opens a directory and locks it, unless somebody has.
fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

fn remove_and_tell(path: &Path) {
    match remove(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "temporary files of a provider are left");
        }
    }
}

/// Removes a directory with everything in it.
///
/// Subdirectories are not walked down but brought up: what is in one is moved to the top before it is removed, until the
/// top is empty.
fn remove(path: &Path) -> Result<(), Errno> {
    let until = Instant::now() + REMOVAL_MAX;
    let top = open(
        CWD,
        &CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?,
    )?;
    let mut names = Names::new();
    loop {
        let mut is_empty = true;
        for name in entries(&top)? {
            is_empty = false;
            let name = name?;
            if remove_leaf(&top, &name)? {
                continue;
            }
            let below = open(&top, &name)?;
            for inner in entries(&below)? {
                let inner = inner?;
                if !remove_leaf(&below, &inner)? {
                    bring_up(&below, &inner, &top, &mut names)?;
                }
                if Instant::now() >= until {
                    return Err(Errno::TIMEDOUT);
                }
            }
            if Instant::now() >= until {
                return Err(Errno::TIMEDOUT);
            }
        }
        if is_empty {
            break;
        }
    }
    rustix::fs::rmdir(path)
}

/// What is in a directory at the moment, but itself and the one above it.
fn entries(directory: &OwnedFd) -> Result<impl Iterator<Item = Result<CString, Errno>>, Errno> {
    let entries = Dir::read_from(directory)?;
    Ok(entries.filter_map(|entry| match entry {
        Ok(entry) if [c".", c".."].contains(&entry.file_name()) => None,
        Ok(entry) => Some(Ok(entry.file_name().to_owned())),
        Err(error) => Some(Err(error)),
    }))
}

/// Removes a file, a link or an empty directory; says whether it is gone.
fn remove_leaf(directory: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn bring_up(below: &OwnedFd, name: &CStr, top: &OwnedFd, names: &mut Names) -> Result<(), Errno> {
    /// Names that something may have already.
    const ATTEMPTS_MAX: usize = 16;
    // A directory can only be moved by who may write to it.
    drop(open(below, name)?);
    let mut result = Ok(());
    for _ in 0..ATTEMPTS_MAX {
        result = rustix::fs::renameat(below, name, top, names.next().as_c_str());
        match result {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
            other => return other,
        }
    }
    result
}

/// Opens a directory, and makes it one that can be read and written by its owner. Never follows a link.
fn open(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = rustix::fs::openat(&directory, name, flags | OFlags::PATH, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&path));
    // It may belong to another user, whose modes are no hindrance for root.
    let _ = rustix::fs::chmod(link, Mode::RWXU);
    rustix::fs::openat(&path, c".", flags | OFlags::RDONLY, Mode::empty())
}

/// Names that hardly anything has.
struct Names {
    prefix: u64,
    count: u64,
}

impl Names {
    fn new() -> Self {
        Self {
            prefix: rand::random(),
            count: 0,
        }
    }

    fn next(&mut self) -> CString {
        self.count += 1;
        let name = format!("{:016x}-{}", self.prefix, self.count);
        CString::new(name).expect("digits and a dash have no zero byte")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_of_any_depth_and_mode_is_removed_and_no_link_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("top");
        fs::create_dir(&path).unwrap();
        let mut level = open(CWD, &CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        // Deeper than the usual table of descriptors.
        for _ in 0..1_500 {
            rustix::fs::mkdirat(&level, c"d", Mode::RWXU).unwrap();
            level = open(&level, c"d").unwrap();
        }
        for directory in ["a", "a/b", "a/b/c"] {
            fs::create_dir(path.join(directory)).unwrap();
            fs::write(path.join(directory).join("file"), "x").unwrap();
            std::os::unix::fs::symlink(outside.path(), path.join(directory).join("link")).unwrap();
        }
        fs::set_permissions(path.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn what_nobody_holds_is_swept_and_what_is_held_young_or_foreign_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            path
        };
        let stale = made("trellis-provider-stale");
        let held = made("trellis-provider-held");
        let other = made("other");
        let lock = lock(&held).unwrap();
        let link = directory.path().join("trellis-provider-link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let now = SystemTime::now();
        sweep(directory.path(), None, now);
        assert!(stale.exists(), "it is young");
        sweep(directory.path(), None, now + 2 * STALE_AFTER);
        assert!(!stale.exists());
        assert!(held.exists() && other.join("file").exists() && link.exists());
        drop(lock);
        sweep(directory.path(), None, now + 2 * STALE_AFTER);
        assert!(!held.exists());
    }

    #[tokio::test]
    async fn a_directory_is_locked_while_it_is_there_and_gone_afterwards() {
        let temporary = Temporary::make(None).unwrap();
        let path = temporary.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        assert!(lock(&path).is_err());
        temporary.remove().await;
        assert!(!path.exists());
    }
}
