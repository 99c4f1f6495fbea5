//! Seconds since 1970 in UTC: the clock that tokens are written in (RFC 7519, *NumericDate*, whole seconds only).
//!
//! Its own type, so that a time is never swapped for a revision or a lifetime, and so that a hostile `exp` of 2^64 − 1
//! is a number like any other: arithmetic saturates, and printing falls back to the number.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in whole seconds since 1970-01-01T00:00:00Z. Prints as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// What the system's clock says. A clock set before 1970 reads as 1970, at which no token is valid yet.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time `secs` seconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This time and `duration` later, in whole seconds, never past the largest time.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// This time and `duration` earlier, in whole seconds, never before 1970.
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }
}

impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        Self(
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = i64::try_from(self.0)
            .ok()
            .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
            .and_then(|time| time.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "second {} since 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_rfc_3339() {
        let time = UnixTime::from_secs(1_700_000_000);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_time_beyond_the_calendar_prints_as_its_number() {
        let time = UnixTime::from_secs(u64::MAX);
        assert_eq!(time.to_string(), format!("second {} since 1970", u64::MAX));
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let hour = Duration::from_secs(3600);
        assert_eq!(
            UnixTime::from_secs(u64::MAX).saturating_add(hour),
            UnixTime::from_secs(u64::MAX)
        );
        assert_eq!(
            UnixTime::from_secs(7).saturating_sub(hour),
            UnixTime::from_secs(0)
        );
    }

    #[test]
    fn a_clock_before_1970_reads_as_1970() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(UnixTime::from(before), UnixTime::from_secs(0));
    }
}
