//! What this host ran, kept on its own disk, so that a host that is started again runs it again.
//!
//! The file `running.json` in the state directory (mode 0600) is written whole: beside its place, then renamed into it, so
//! that a crash leaves the former file or the new one and nothing in between. Stopping an actor or a provider takes its
//! entry out; stopping the *host* does not, whoever stops it, so that it restores what it ran. Started with `--clean` it
//! forgets all of it.
//!
//! A start does not wait for the disk: its change is with the kernel, which keeps it when the process is killed, and
//! [`RunningFile::settle`] makes a second file, `running.json.settled`, last behind the answer. Of both the later one that
//! is whole counts, so a power cut in between costs the restoration of that start and nothing else. A stop does wait:
//! what somebody ended must not come back. Who removes `running.json` has nothing restored.
//!
//! The file says what was wanted, not what is allowed: an actor is restored only if the lattice's state still holds its
//! id for the same subject key and for no other content, if the same content is still to be had (from the cache by its
//! digest, where the reference leads nowhere any more), and after every check that a start makes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use trellis_protocol::EntityId;

use crate::actor::ComponentLimits;
use crate::atomic_file::{Lasting, put_in_place};

/// The file's name in the state directory.
const FILE_NAME: &str = "running.json";

/// The suffix of the file that the disk has confirmed.
const SETTLED_SUFFIX: &str = "settled";

/// What a file that cannot be read is renamed to, for people to look at.
const DAMAGED_SUFFIX: &str = "damaged";

/// Largest file that is read, in bytes: the largest roster with generous annotations.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The only format so far.
const VERSION: u32 = 1;

/// An actor as it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningActor {
    /// Where its component was had from.
    pub(crate) reference: String,
    /// The same with the digest of what came, by which the cache has it without asking anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolved: Option<String>,
    /// Which component that was.
    pub(crate) content_hash: String,
    /// The subject key of its claims.
    pub(crate) subject: String,
    /// Its permits.
    pub(crate) count: u32,
    #[serde(default)]
    pub(crate) config: Vec<String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// What its instances may use, where that was said.
    #[serde(default, flatten)]
    pub(crate) limits: ComponentLimits,
}

/// A provider as it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningProvider {
    /// The reference in the start command.
    pub(crate) reference: String,
    /// As an actor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolved: Option<String>,
    #[serde(default)]
    pub(crate) config: Vec<String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Everything that a host runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    version: u32,
    /// Grows with each change, so that of two files the later one is known.
    #[serde(default)]
    change: u64,
    #[serde(default)]
    pub(crate) actors: BTreeMap<EntityId, RunningActor>,
    #[serde(default)]
    pub(crate) providers: BTreeMap<EntityId, RunningProvider>,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// It cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not what this host wrote.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// Others can write it, so that it may say what they want.
    #[error("{} can be written by other users; `chmod 600` closes it", path.display())]
    Exposed { path: PathBuf },
}

/// The file, and what stands in it.
#[derive(Debug)]
pub(crate) struct RunningFile {
    path: PathBuf,
    settled_path: PathBuf,
    /// Held while the first file is written, so that files are written in the order of the changes.
    running: Mutex<Running>,
    /// The change that the disk has confirmed, if any by now. Held while it does, and taken before `running`.
    settled: Mutex<Option<u64>>,
}

impl RunningFile {
    /// Opens the file of a state directory, and gives back what it held. A file that cannot be used is put aside with a
    /// warning, and the host begins with nothing.
    pub(crate) fn open(state_dir: &Path, clean: bool) -> (Self, Running) {
        let path = state_dir.join(FILE_NAME);
        let settled_path = path.with_extension(format!("json.{SETTLED_SUFFIX}"));
        let running = if clean {
            Running::default()
        } else {
            let settled = read(&settled_path).unwrap_or_else(|error| {
                tracing::debug!(%error, "there is no second file to restore from");
                None
            });
            later(&path, settled)
        };
        let file = Self {
            path,
            settled_path,
            running: Mutex::new(running.clone()),
            settled: Mutex::new(None),
        };
        // A second file that nobody goes by must not be the later one of those that are written from here on.
        if running == Running::default() {
            file.forget();
        }
        (file, running)
    }

    /// Lasts when [`Self::settle`] has come back; until then, as long as the machine has power.
    pub(crate) fn put_actor(&self, id: &EntityId, actor: RunningActor) {
        self.note(|running| {
            let former = running.actors.insert(id.clone(), actor);
            former.as_ref() != running.actors.get(id)
        });
    }

    /// Lasts when this comes back.
    pub(crate) fn remove_actor(&self, id: &EntityId) {
        self.note(|running| running.actors.remove(id).is_some());
        self.settle();
    }

    /// As [`Self::put_actor`].
    pub(crate) fn put_provider(&self, id: &EntityId, provider: RunningProvider) {
        self.note(|running| {
            let former = running.providers.insert(id.clone(), provider);
            former.as_ref() != running.providers.get(id)
        });
    }

    /// As [`Self::remove_actor`].
    pub(crate) fn remove_provider(&self, id: &EntityId) {
        self.note(|running| running.providers.remove(id).is_some());
        self.settle();
    }

    /// Waits until the disk has every change made before. A disk that refuses costs the next restoration, not what runs
    /// now.
    pub(crate) fn settle(&self) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running().clone();
        if *settled == Some(running.change) {
            return;
        }
        match write(&self.settled_path, &running, Lasting::OnDisk) {
            Ok(()) => *settled = Some(running.change),
            Err(error) => tracing::error!(%error, "what runs here is not kept for a restart"),
        }
    }

    /// Changes, and hands the file to the kernel. What changes nothing, by its own word, writes nothing, as when an actor
    /// is restored.
    fn note(&self, change: impl FnOnce(&mut Running) -> bool) {
        let mut running = self.running();
        if !change(&mut running) {
            return;
        }
        running.version = VERSION;
        running.change += 1;
        if let Err(error) = write(&self.path, &running, Lasting::InKernel) {
            tracing::error!(%error, "what runs here is not kept for a restart");
        }
    }

    /// Leaves nothing of what ran before, on the disk either.
    fn forget(&self) {
        match fs::remove_file(&self.settled_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, path = %self.settled_path.display(), "a file cannot be removed");
            }
            _ => {}
        }
        let mut running = self.running();
        running.version = VERSION;
        running.change = 1;
        if let Err(error) = write(&self.path, &running, Lasting::OnDisk) {
            tracing::error!(%error, "what ran here is not forgotten");
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the first file says, or the second where that is later or the first is of no use.
fn later(path: &Path, settled: Option<Running>) -> Running {
    match read(path) {
        Ok(None) => Running::default(),
        Ok(Some(running)) => match settled {
            Some(settled) if settled.change > running.change => settled,
            _ => running,
        },
        Err(error) => {
            let starts_anew = settled.is_none();
            tracing::warn!(%error, starts_anew, "the file of what ran here cannot be used");
            put_aside(path);
            settled.unwrap_or_default()
        }
    }
}

/// What a file says; `None` where there is none.
fn read(path: &Path) -> Result<Option<Running>, RestoreError> {
    let io = |source| RestoreError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| RestoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(damaged("it is not a regular file".to_owned()));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(RestoreError::Exposed {
            path: path.to_owned(),
        });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(damaged(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let running: Running =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if running.version != VERSION {
        return Err(damaged(format!(
            "it has version {}, this host knows version {VERSION}",
            running.version
        )));
    }
    Ok(Some(running))
}

fn put_aside(path: &Path) {
    let aside = path.with_extension(format!("json.{DAMAGED_SUFFIX}"));
    if fs::rename(path, &aside).is_ok() {
        tracing::warn!(path = %aside.display(), "the file was put aside");
    }
}

fn write(path: &Path, running: &Running, lasting: Lasting) -> Result<(), RestoreError> {
    let io = |source| RestoreError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let bytes = serde_json::to_vec_pretty(running).map_err(|error| io(error.into()))?;
    put_in_place(path, &bytes, lasting).map_err(io)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::new(text).unwrap()
    }

    fn actor(count: u32) -> RunningActor {
        RunningActor {
            reference: "file:///a.wasm".to_owned(),
            content_hash: "sha256:00".to_owned(),
            subject: "M".to_owned(),
            count,
            config: vec!["c".to_owned()],
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            resolved: None,
            limits: ComponentLimits {
                memory_bytes_max: Some(1),
                execution_seconds_max: Some(count),
            },
        }
    }

    fn provider() -> RunningProvider {
        RunningProvider {
            reference: "http-server".to_owned(),
            resolved: None,
            config: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn what_was_put_is_there_after_a_restart_and_what_was_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, before) = RunningFile::open(dir.path(), false);
        assert_eq!(before, Running::default());
        file.put_actor(&id("a"), actor(1));
        file.put_actor(&id("a"), actor(2));
        file.put_actor(&id("b"), actor(1));
        file.put_provider(&id("p"), provider());
        file.remove_actor(&id("b"));
        drop(file);
        let (file, after) = RunningFile::open(dir.path(), false);
        assert_eq!(after.actors, BTreeMap::from([(id("a"), actor(2))]));
        assert_eq!(after.providers, BTreeMap::from([(id("p"), provider())]));
        file.remove_provider(&id("p"));
        assert!(RunningFile::open(dir.path(), false).1.providers.is_empty());
    }

    #[test]
    fn the_file_is_for_this_user_alone_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = RunningFile::open(dir.path(), false);
        let holds = |names: &[&str]| {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            assert!(
                paths
                    .iter()
                    .eq(&names.iter().map(|n| dir.path().join(n)).collect::<Vec<_>>())
            );
            for path in paths {
                let mode = fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        };
        file.put_actor(&id("a"), actor(1));
        holds(&[FILE_NAME]);
        file.settle();
        holds(&[FILE_NAME, "running.json.settled"]);
    }

    #[test]
    fn of_both_files_the_later_one_that_is_whole_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let (file, _) = RunningFile::open(dir.path(), false);
        file.put_actor(&id("a"), actor(1));
        let earlier = fs::read(&path).unwrap();
        file.put_actor(&id("a"), actor(2));
        file.settle();
        file.put_actor(&id("b"), actor(1));
        let later = fs::read(&path).unwrap();
        let restored = |left: &[u8]| {
            fs::write(&path, left).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            RunningFile::open(dir.path(), false).1.actors
        };
        assert_eq!(restored(&later).len(), 2);
        // What a power cut leaves of a file that was not yet on the disk.
        let torn = &later[..later.len() - 1];
        let zeros = vec![0; later.len()];
        for left in [&[][..], torn, &zeros, &earlier] {
            assert_eq!(restored(left), BTreeMap::from([(id("a"), actor(2))]));
        }
        // An operator who removes the file has nothing restored.
        fs::remove_file(&path).unwrap();
        assert_eq!(RunningFile::open(dir.path(), false).1, Running::default());
    }

    #[test]
    fn what_was_stopped_is_on_the_disk_without_settling() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = RunningFile::open(dir.path(), false);
        file.put_actor(&id("a"), actor(1));
        file.put_actor(&id("b"), actor(1));
        file.remove_actor(&id("b"));
        let settled = read(&dir.path().join("running.json.settled")).unwrap();
        let actors = settled.unwrap().actors;
        assert_eq!(actors, BTreeMap::from([(id("a"), actor(1))]));
    }

    #[test]
    fn a_clean_start_forgets_what_ran() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = RunningFile::open(dir.path(), false);
        file.put_actor(&id("a"), actor(1));
        file.settle();
        assert_eq!(RunningFile::open(dir.path(), true).1, Running::default());
        assert!(RunningFile::open(dir.path(), false).1.actors.is_empty());
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_the_host_begins_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for content in [
            "",
            "{",
            "[]",
            r#"{"version":2}"#,
            r#"{"version":1,"actors":{"a.b":{}}}"#,
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(read(&path), Err(RestoreError::Damaged { .. })),
                "{content}"
            );
            let (file, running) = RunningFile::open(dir.path(), false);
            assert_eq!(running, Running::default());
            let aside = dir.path().join("running.json.damaged");
            assert_eq!(fs::read_to_string(aside).unwrap(), content);
            file.put_provider(&id("p"), provider());
            assert_eq!(RunningFile::open(dir.path(), false).1.providers.len(), 1);
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, r#"{"version":1}"#).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(matches!(read(&path), Err(RestoreError::Exposed { .. })));
    }

    #[test]
    fn writing_replaces_the_file_and_never_changes_the_former_one() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = RunningFile::open(dir.path(), false);
        file.put_actor(&id("a"), actor(1));
        // Whoever has the former file open still reads it whole.
        let mut former = File::open(dir.path().join(FILE_NAME)).unwrap();
        file.put_actor(&id("a"), actor(2));
        let mut text = String::new();
        former.read_to_string(&mut text).unwrap();
        let former: Running = serde_json::from_str(&text).unwrap();
        assert_eq!(former.actors[&id("a")].count, 1);
    }
}
