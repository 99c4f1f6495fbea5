//! A timer that is as precise as the kernel's: milliseconds, which is what `epoll` itself counts in, are too coarse.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// The soonest that it can be set to: zero would switch it off.
const SOONEST: Duration = Duration::from_nanos(1);

/// A timer among the descriptors that are waited for.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: OwnedFd,
    set_to: Option<Duration>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            descriptor: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            set_to: None,
        })
    }

    /// Wakes at a moment; both times count from the same one.
    pub(super) fn wake_at(&mut self, moment: Duration, now: Duration) -> io::Result<()> {
        if self.set_to == Some(moment) {
            return Ok(());
        }
        let wait = moment.saturating_sub(now).max(SOONEST);
        let never = Timespec::default();
        let once = Itimerspec {
            it_interval: never,
            it_value: Timespec::try_from(wait).map_err(io::Error::other)?,
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        self.set_to = Some(moment);
        Ok(())
    }

    /// It has rung.
    pub(super) fn heard(&mut self) -> io::Result<()> {
        self.set_to = None;
        let mut count = [0; 8];
        match rustix::io::read(&self.descriptor, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
