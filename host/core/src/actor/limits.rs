//! The limits of an actor's instances that a command can set, as the control interface writes them.

use serde::{Deserialize, Serialize};
use trellis_protocol::control::Map;

use crate::limits::{EXECUTION_TIME_MAX, MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MAX};

/// The key of the memory limit: bytes of linear memory.
pub(crate) const MEMORY_LIMIT: &str = "max_memory_limit";

/// The key of the time limit: whole seconds, as in wasmCloud 1.x.
pub(crate) const EXECUTION_LIMIT: &str = "max_execution_time";

/// What each instance of an actor may use, where that was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentLimits {
    /// Linear memory of one instance in bytes; the default limit where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<usize>,
    /// Seconds from the start of one invocation's guest to its end, what it still writes of a response among it. Without
    /// it the invocation's own deadline holds, and the host's limits of bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_seconds_max: Option<u32>,
}

impl ComponentLimits {
    /// Reads the limits of a command; beside them, remarks about keys that this host does not know, which have no effect.
    ///
    /// # Errors
    /// A sentence about the first value that cannot be held to.
    pub(crate) fn read(map: &Map) -> Result<(Self, Vec<String>), String> {
        let mut limits = Self::default();
        let mut notes = Vec::new();
        for (key, value) in map {
            match key.as_str() {
                MEMORY_LIMIT => {
                    let bytes = number(key, value, "bytes", MEMORY_BYTES_MAX as u64)?;
                    limits.memory_bytes_max = usize::try_from(bytes).ok();
                }
                EXECUTION_LIMIT => {
                    let seconds = number(key, value, "seconds", EXECUTION_TIME_MAX.as_secs())?;
                    limits.execution_seconds_max = u32::try_from(seconds).ok();
                }
                _ => notes.push(format!(
                    "the limit `{key}` is unknown here and has no effect"
                )),
            }
        }
        Ok((limits, notes))
    }

    /// As inventories show them; `None` where none was set.
    pub(crate) fn to_map(self) -> Option<Map> {
        let memory = self
            .memory_bytes_max
            .map(|bytes| (MEMORY_LIMIT, bytes.to_string()));
        let time = self
            .execution_seconds_max
            .map(|seconds| (EXECUTION_LIMIT, seconds.to_string()));
        let map: Map = memory
            .into_iter()
            .chain(time)
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        (!map.is_empty()).then_some(map)
    }

    /// The memory limit that holds, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes_max
            .unwrap_or(MEMORY_BYTES_DEFAULT)
            .min(MEMORY_BYTES_MAX)
    }
}

fn number(key: &str, value: &str, unit: &str, most: u64) -> Result<u64, String> {
    value
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| {
            format!("the limit `{key}` is {value:?}; give a number of {unit} from 1 to {most}")
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<ComponentLimits, String> {
        ComponentLimits::read(&Map::from([(key.to_owned(), value.to_owned())]))
            .map(|(limits, _)| limits)
    }

    #[test]
    fn the_largest_limits_are_accepted_and_one_more_is_refused() {
        let bytes = read(MEMORY_LIMIT, &MEMORY_BYTES_MAX.to_string()).unwrap();
        assert_eq!(bytes.memory_bytes_max, Some(MEMORY_BYTES_MAX));
        let most = EXECUTION_TIME_MAX.as_secs();
        let seconds = read(EXECUTION_LIMIT, &most.to_string()).unwrap();
        let given = seconds.execution_seconds_max.map(u64::from);
        assert_eq!(given, Some(most));
        let (more_bytes, more) = ((MEMORY_BYTES_MAX + 1).to_string(), (most + 1).to_string());
        for (key, value) in [
            (MEMORY_LIMIT, more_bytes.as_str()),
            (EXECUTION_LIMIT, &more),
        ] {
            for value in [value, "0", "-1", "", "64MiB", "1.5"] {
                assert!(read(key, value).unwrap_err().contains(key), "{value}");
            }
        }
    }

    #[test]
    fn limits_are_shown_as_they_were_set() {
        let map = Map::from([
            (MEMORY_LIMIT.to_owned(), MEMORY_BYTES_DEFAULT.to_string()),
            (EXECUTION_LIMIT.to_owned(), "3".to_owned()),
        ]);
        let (limits, notes) = ComponentLimits::read(&map).unwrap();
        assert!(notes.is_empty());
        assert_eq!(limits.to_map(), Some(map));
        assert_eq!(ComponentLimits::default().to_map(), None);
    }

    #[test]
    fn an_unknown_limit_is_named_and_has_no_effect() {
        let map = Map::from([("max_table_elements".to_owned(), "1".to_owned())]);
        let (limits, notes) = ComponentLimits::read(&map).unwrap();
        assert_eq!(limits, ComponentLimits::default());
        assert!(notes[0].contains("max_table_elements"));
    }
}
