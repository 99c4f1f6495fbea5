//! A point in time on the clock that goes on while the machine sleeps.
//!
//! [`std::time::Instant`] stands still in a suspended machine, so a laptop that wakes after a night would take its copy
//! of the state for seconds old.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The clock that counts sleep; on other systems than Linux the monotonic one does, where any does.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Time since the machine was booted, sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        let now = clock_gettime(CLOCK);
        // Neither part of this clock is ever negative.
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Self(Duration::new(now.tv_sec.unsigned_abs(), nanos))
    }

    pub(super) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}
