//! Which signed commands this host has carried out: each once, also across its own restarts.
//!
//! An id is remembered for as long as its command can be valid. It is appended to a file in the state directory
//! (`commands.taken`, mode 0600, 40 bytes for each) before the command is carried out, so that a host that was killed
//! and started again knows it. The file is not forced to the disk: a power cut within two minutes of a command, and a
//! machine that is back before they are over, is the one way in which a host could take it twice.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use trellis_claims::UnixTime;
use trellis_claims::token::CLOCK_TOLERANCE;

use crate::atomic_file::write_atomically;

/// Commands that are remembered at once. Those are 360 a second for as long as each is valid.
const REMEMBERED_MAX: usize = 64 * 1024;

/// The file's name in the state directory.
const FILE_NAME: &str = "commands.taken";

/// Bytes of one entry: when it expires, and what it is remembered by.
const ENTRY_BYTES: usize = 8 + 32;

/// Entries after which the file is written anew with those alone that still count.
const FILE_ENTRIES_MAX: usize = 2 * REMEMBERED_MAX;

type Id = [u8; 32];

/// What became of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is taken now.
    First,
    /// It was taken before, or may have been.
    Again,
    /// There is no room for it.
    NoRoom,
}

/// The ids that were taken.
#[derive(Debug)]
pub(super) struct Replays {
    path: PathBuf,
    file: Option<File>,
    entries_in_file: usize,
    ids: HashSet<Id>,
    by_expiry: BTreeSet<(UnixTime, Id)>,
    /// The latest expiry that was forgotten. What expires no later may have been forgotten, if the clock was set back.
    forgotten: UnixTime,
}

impl Replays {
    /// Reads what a former run has taken.
    pub(super) fn open(state_dir: &Path, now: UnixTime) -> Self {
        let mut replays = Self {
            path: state_dir.join(FILE_NAME),
            file: None,
            entries_in_file: 0,
            ids: HashSet::new(),
            by_expiry: BTreeSet::new(),
            forgotten: UnixTime::from_secs(0),
        };
        match read(&replays.path) {
            Ok(bytes) => {
                for entry in bytes.chunks_exact(ENTRY_BYTES).take(FILE_ENTRIES_MAX) {
                    let (expires, id) = entry.split_at(8);
                    let expires = expires.try_into().map(u64::from_be_bytes);
                    if let (Ok(expires), Ok(id)) = (expires, Id::try_from(id)) {
                        replays.remember(id, UnixTime::from_secs(expires));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                path = %replays.path.display(), %error,
                "cannot read which signed commands were carried out before: they could be replayed for two minutes"
            ),
        }
        replays.forget(now);
        replays.write_anew();
        replays
    }

    /// Takes an id once. Its command is valid until `expires`, give or take the tolerance of clocks.
    pub(super) fn take(&mut self, id: Id, expires: UnixTime, now: UnixTime) -> Taken {
        self.forget(now);
        if self.ids.contains(&id) || expires <= self.forgotten {
            return Taken::Again;
        }
        if self.ids.len() >= REMEMBERED_MAX {
            return Taken::NoRoom;
        }
        self.remember(id, expires);
        if self.entries_in_file >= FILE_ENTRIES_MAX {
            self.write_anew();
        } else {
            self.append(id, expires);
        }
        Taken::First
    }

    fn remember(&mut self, id: Id, expires: UnixTime) {
        if self.ids.insert(id) {
            self.by_expiry.insert((expires, id));
        }
    }

    fn forget(&mut self, now: UnixTime) {
        while let Some((expires, id)) = self.by_expiry.first().copied()
            && expires.saturating_add(CLOCK_TOLERANCE) < now
        {
            self.by_expiry.pop_first();
            self.ids.remove(&id);
            self.forgotten = self.forgotten.max(expires);
        }
    }

    fn append(&mut self, id: Id, expires: UnixTime) {
        let Some(file) = &mut self.file else {
            return;
        };
        match file.write_all(&entry(id, expires)) {
            Ok(()) => self.entries_in_file += 1,
            Err(error) => {
                self.tell(&error);
                // A torn entry would shift those behind it, so the file is begun anew by the next command.
                self.entries_in_file = FILE_ENTRIES_MAX;
            }
        }
    }

    fn write_anew(&mut self) {
        let entries: Vec<u8> = self
            .by_expiry
            .iter()
            .flat_map(|(expires, id)| entry(*id, *expires))
            .collect();
        let written = write_atomically(&self.path, &entries)
            .and_then(|()| OpenOptions::new().append(true).mode(0o600).open(&self.path));
        match written {
            Ok(file) => {
                self.file = Some(file);
                self.entries_in_file = self.by_expiry.len();
            }
            Err(error) => {
                self.tell(&error);
                self.file = None;
            }
        }
    }

    fn tell(&self, error: &io::Error) {
        tracing::warn!(
            path = %self.path.display(), %error,
            "cannot note which signed commands were carried out: until this host is started again it remembers them all the same"
        );
    }
}

fn entry(id: Id, expires: UnixTime) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&expires.as_secs().to_be_bytes());
    entry[8..].copy_from_slice(&id);
    entry
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from((FILE_ENTRIES_MAX + 1) * ENTRY_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(NOW + secs)
    }

    fn id(number: usize) -> Id {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
        id
    }

    #[test]
    fn an_id_is_taken_once_and_forgotten_when_its_command_is_no_longer_valid() {
        let dir = tempfile::tempdir().unwrap();
        let mut replays = Replays::open(dir.path(), at(0));
        assert_eq!(replays.take(id(1), at(60), at(0)), Taken::First);
        assert_eq!(replays.take(id(1), at(60), at(0)), Taken::Again);
        assert_eq!(replays.take(id(1), at(60), at(90)), Taken::Again);
        assert_eq!(replays.take(id(2), at(151), at(91)), Taken::First);
        assert_eq!(replays.ids.len(), 1, "the first one is forgotten");
        assert_eq!(
            replays.take(id(1), at(60), at(0)),
            Taken::Again,
            "not even by a clock that was set back"
        );
    }

    #[test]
    fn an_id_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let mut replays = Replays::open(dir.path(), at(0));
            let expected = if round == 0 {
                Taken::First
            } else {
                Taken::Again
            };
            for number in 0..10 {
                assert_eq!(replays.take(id(number), at(60), at(0)), expected);
            }
        }
        let later = Replays::open(dir.path(), at(91));
        assert!(later.ids.is_empty());
    }

    #[test]
    fn a_torn_file_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut replays = Replays::open(dir.path(), at(0));
        replays.take(id(1), at(60), at(0));
        replays.take(id(2), at(60), at(0));
        let path = dir.path().join(FILE_NAME);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 80);
        std::fs::write(&path, &bytes[..79]).unwrap();
        let mut replays = Replays::open(dir.path(), at(0));
        assert_eq!(replays.take(id(1), at(60), at(0)), Taken::Again);
        assert_eq!(replays.take(id(2), at(60), at(0)), Taken::First);
    }

    #[test]
    fn as_many_as_are_remembered_are_taken_and_one_more_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut replays = Replays::open(dir.path(), at(0));
        for number in 0..REMEMBERED_MAX {
            assert_eq!(replays.take(id(number), at(60), at(0)), Taken::First);
        }
        let next = id(REMEMBERED_MAX);
        assert_eq!(replays.take(next, at(60), at(0)), Taken::NoRoom);
        assert_eq!(replays.take(next, at(200), at(91)), Taken::First);
    }
}
