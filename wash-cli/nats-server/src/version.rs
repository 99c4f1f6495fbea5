//! The version a `nats-server` says it is, and the oldest one we accept.

use std::fmt;

/// Oldest server we start: 2.10 brought the key-value and consumer behaviour that the lattice relies on, and the log
/// rotation options that our configuration sets.
pub const VERSION_MIN: Version = Version {
    major: 2,
    minor: 10,
    patch: 0,
};

/// A release number `major.minor.patch`; a pre-release suffix is read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// Reads the line that `nats-server --version` prints, such as `nats-server: v2.15.1`.
    ///
    /// Returns `None` where no word of the text is a version of a `nats-server`.
    pub fn from_banner(banner: &str) -> Option<Self> {
        let line = banner
            .lines()
            .find(|line| line.trim_start().starts_with("nats-server"))?;
        line.split_whitespace().skip(1).find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        // A pre-release ("2.12.0-RC.1") or build suffix counts as the release it leads to: a developer who runs one
        // does so on purpose.
        let numbers = word.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32, patch: u32) -> Option<Version> {
        Some(Version {
            major,
            minor,
            patch,
        })
    }

    #[test]
    fn the_banner_of_a_release_is_read() {
        assert_eq!(
            Version::from_banner("nats-server: v2.15.1\n"),
            version(2, 15, 1)
        );
        assert_eq!(
            Version::from_banner("nats-server: v2.9.10"),
            version(2, 9, 10)
        );
        assert_eq!(
            Version::from_banner("nats-server version 2.1.0"),
            version(2, 1, 0)
        );
    }

    #[test]
    fn a_pre_release_counts_as_its_release() {
        assert_eq!(
            Version::from_banner("nats-server: v2.12.0-RC.1"),
            version(2, 12, 0)
        );
    }

    #[test]
    fn text_of_another_program_is_no_version() {
        for text in [
            "",
            "nats-server",
            "redis-server v7.0.1",
            "nats-server: v2",
            "nats-server: v2.x.1",
            "nats-server: v2.1.0.4",
            "nats-server: v99999999999.1.1",
        ] {
            assert_eq!(Version::from_banner(text), None, "{text:?}");
        }
    }

    #[test]
    fn two_ten_is_the_first_accepted_release() {
        assert!(version(2, 9, 99) < Some(VERSION_MIN));
        assert!(version(2, 10, 0) >= Some(VERSION_MIN));
        assert!(version(3, 0, 0) >= Some(VERSION_MIN));
    }
}
