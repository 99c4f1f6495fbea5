//! [`Seen`]: the latest signed statements about links, in memory and in the file that outlives the host.
//!
//! It only grows, up to a bound: beyond that the earliest statements are forgotten. The file has one statement a line, so
//! that a damaged line costs no other.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Link};

/// Statements that are remembered. Of more, the earliest are forgotten.
const SEEN_MAX: usize = 64 * 1024;

/// Largest file that is read, in bytes: as many statements as are remembered, each with the longest names.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The latest statements.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    deleted: HashMap<LinkKey, u64>,
    put: HashMap<(LinkKey, EntityId), u64>,
}

/// A statement as it stands in the file. Without a target it is a deletion.
#[derive(Debug, Serialize, Deserialize)]
struct SeenStatement {
    #[serde(flatten)]
    key: LinkKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<EntityId>,
    at: u64,
}

impl Seen {
    fn len(&self) -> usize {
        self.deleted.len() + self.put.len()
    }

    /// Whether what was signed at a moment is out of date.
    pub(super) fn supersedes(&self, link: &Link, at: u64) -> bool {
        let key = link.key();
        if self.deleted.get(&key).is_some_and(|deleted| at <= *deleted) {
            return true;
        }
        let put = self.put.get(&(key, link.target.clone()));
        put.is_some_and(|put| at < *put)
    }

    /// Both say whether that was news.
    pub(super) fn see_put(&mut self, link: &Link, at: u64) -> bool {
        raise(&mut self.put, (link.key(), link.target.clone()), at)
    }

    pub(super) fn see_deleted(&mut self, key: LinkKey, at: u64) -> bool {
        raise(&mut self.deleted, key, at)
    }

    /// Whether such a link was put after that moment.
    pub(super) fn was_put_after(&self, key: &LinkKey, at: u64) -> bool {
        self.put
            .iter()
            .any(|((put, _), when)| put == key && *when > at)
    }

    /// Forgets an eighth, the earliest, where there are too many.
    pub(super) fn bound(&mut self) {
        if self.len() <= SEEN_MAX {
            return;
        }
        let mut times: Vec<u64> = self
            .deleted
            .values()
            .chain(self.put.values())
            .copied()
            .collect();
        let (_, earliest, _) = times.select_nth_unstable(SEEN_MAX / 8);
        let earliest = *earliest;
        self.deleted.retain(|_, at| *at > earliest);
        self.put.retain(|_, at| *at > earliest);
        tracing::warn!("too many signed links to remember: the earliest were forgotten");
    }

    /// One statement a line. A file that is not there holds none; one that cannot be read at all is an error, and a line that
    /// cannot is left out with it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.to_string()),
        };
        if metadata.len() > FILE_BYTES_MAX {
            return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut seen = Self::default();
        for (number, line) in text.lines().enumerate() {
            let statement: SeenStatement = match serde_json::from_str(line) {
                Ok(statement) => statement,
                Err(error) => {
                    tracing::warn!(path = %path.display(), line = number + 1, %error, "a line is damaged");
                    continue;
                }
            };
            match statement.target {
                None => raise(&mut seen.deleted, statement.key, statement.at),
                Some(target) => raise(&mut seen.put, (statement.key, target), statement.at),
            };
        }
        seen.bound();
        Ok(seen)
    }

    /// The content of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let deleted = self.deleted.iter().map(|(key, at)| SeenStatement {
            key: key.clone(),
            target: None,
            at: *at,
        });
        let put = self.put.iter().map(|((key, target), at)| SeenStatement {
            key: key.clone(),
            target: Some(target.clone()),
            at: *at,
        });
        // In an order, so that people can compare two of them.
        let statements: BTreeMap<_, _> = deleted
            .chain(put)
            .map(|statement| ((statement.key.clone(), statement.target.clone()), statement))
            .collect();
        let mut bytes = Vec::new();
        for statement in statements.values() {
            // Texts and numbers are always JSON.
            if serde_json::to_writer(&mut bytes, statement).is_ok() {
                bytes.push(b'\n');
            }
        }
        bytes
    }
}

fn raise<K: std::hash::Hash + Eq>(seen: &mut HashMap<K, u64>, key: K, at: u64) -> bool {
    let known = seen.entry(key).or_default();
    let is_news = *known < at;
    *known = at.max(*known);
    is_news
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn key(number: usize) -> LinkKey {
        LinkKey {
            source_id: format!("s{number}").parse().unwrap(),
            name: "default".parse().unwrap(),
            wit_namespace: "test".into(),
            wit_package: "p".into(),
        }
    }

    #[test]
    fn as_many_as_may_be_are_remembered_and_of_one_more_the_earliest_eighth_is_forgotten() {
        let mut seen = Seen::default();
        for number in 0..SEEN_MAX {
            seen.see_deleted(key(number), number as u64 + 1);
        }
        seen.bound();
        assert_eq!(seen.len(), SEEN_MAX);
        seen.see_deleted(key(SEEN_MAX), SEEN_MAX as u64 + 1);
        seen.bound();
        assert_eq!(seen.len(), SEEN_MAX - SEEN_MAX / 8);
        assert!(!seen.deleted.contains_key(&key(0)));
        assert!(seen.deleted.contains_key(&key(SEEN_MAX)));
    }
}
