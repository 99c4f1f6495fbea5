//! What is measured on, and which part of it.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::command;

/// Binds this process, and all that it starts from now on, to one processor, and lets them open as many connections as
/// the system allows.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("processor {cpu} can't be had"))?;
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // What this changes is convenience; the case that needs it says so itself.
    let _ = setrlimit(Resource::Nofile, files);
    Ok(())
}

/// Another processor than this one, if there is one.
pub(super) fn other_than(cpu: usize) -> Option<usize> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    text.lines()
        .filter_map(|line| line.strip_prefix("processor")?.split(':').nth(1))
        .filter_map(|number| number.trim().parse().ok())
        .find(|number| *number != cpu)
}

/// Model and count of the processors.
pub(super) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        text.lines().find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .split(':')
                    .nth(1)?
                    .trim()
                    .to_owned(),
            )
        })
    };
    let model = value("model name").unwrap_or_else(|| "an unnamed processor".to_owned());
    let count = text.lines().filter(|l| l.starts_with("processor")).count();
    format!("{model}, {count} processors")
}

/// Name and version of the kernel.
pub(super) fn kernel() -> String {
    command::read(Command::new("uname").arg("-sr"), command::QUESTION_WITHIN)
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Today, as `2026-11-22`, in UTC.
pub(super) fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date of a day since 1970 in the Gregorian calendar. Years are counted from March, so that the leap day is last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (
        era * 400 + year + u64::from(month <= 2),
        month,
        day_of_month,
    )
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(19_783), (2024, 3, 1));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }
}
