//! Milliseconds since this process began to talk, on a clock that runs on while the machine sleeps.
//!
//! A clock that stopped with the machine would fall behind those of the peers, and everything sent after waking would
//! look as if it had been held back for a night.

#[cfg(target_os = "linux")]
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

#[cfg(not(target_os = "linux"))]
fn now_ms() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let since = BEGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of one run.
#[derive(Debug)]
pub(super) struct Clock {
    begin_ms: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { begin_ms: now_ms() }
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        now_ms().saturating_sub(self.begin_ms)
    }
}
