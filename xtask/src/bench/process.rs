//! The kernel's accounts of processes: time on the processor, and memory.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Some of the processes that this one has started, directly or not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// A process and all that descends from it, such as a host with its provider processes.
    Tree(u32),
    /// All of this program's name, such as the many processes of a Postgres.
    Named(&'static str),
}

/// All processes that run now.
#[derive(Debug)]
pub(super) struct Accounts {
    processes: BTreeMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    name: String,
    parent: u32,
    /// Nanoseconds on the processor of each thread that runs.
    threads: BTreeMap<u32, u64>,
}

/// Memory of some processes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// Resident, with everything that is shared counted whole.
    pub(super) resident: u64,
    /// Resident, with what is shared divided among those who share it.
    pub(super) proportional: u64,
}

impl Accounts {
    /// Reads them. A process that ends meanwhile is passed over.
    pub(super) fn read() -> Result<Self> {
        let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
        for entry in fs::read_dir("/proc").context("there is no /proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            if let Some(process) = parse(&stat) {
                processes.insert(pid, process);
            }
        }
        let mut accounts = Self { processes };
        let own = std::process::id();
        for pid in accounts.pids(&[Who::Tree(own)]) {
            if let Some(process) = accounts.processes.get_mut(&pid) {
                process.threads = threads(pid);
            }
        }
        Ok(accounts)
    }

    /// Seconds that some processes have spent on the processor since `before`, user and system, of all their threads.
    ///
    /// The scheduler's account of each thread is exact; the ticks in which processes are charged are 10 ms long. What a
    /// thread did that has ended meanwhile is not in it: servers keep theirs.
    pub(super) fn spent_since(&self, before: &Self, who: &[Who]) -> f64 {
        let mut nanoseconds = 0;
        for pid in self.pids(who) {
            let Some(process) = self.processes.get(&pid) else {
                continue;
            };
            let former = before.processes.get(&pid);
            for (thread, spent) in &process.threads {
                let then = former.and_then(|process| process.threads.get(thread));
                nanoseconds += spent.saturating_sub(then.copied().unwrap_or(0));
            }
        }
        nanoseconds as f64 / 1e9
    }

    /// Their memory now.
    pub(super) fn memory(&self, who: &[Who]) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.pids(who) {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let kibibytes = |name: &str| -> u64 {
                text.lines()
                    .find_map(|line| {
                        line.strip_prefix(name)?
                            .split_whitespace()
                            .next()?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0)
            };
            memory.resident += kibibytes("Rss:") * 1024;
            memory.proportional += kibibytes("Pss:") * 1024;
        }
        Ok(memory)
    }

    fn pids(&self, who: &[Who]) -> Vec<u32> {
        let own = std::process::id();
        self.processes
            .iter()
            .filter(|(pid, process)| {
                who.iter().any(|who| match who {
                    Who::Tree(root) => self.descends(**pid, *root),
                    Who::Named(name) => process.name == *name && self.descends(**pid, own),
                })
            })
            .map(|(pid, _)| *pid)
            .collect()
    }

    fn descends(&self, pid: u32, from: u32) -> bool {
        let mut at = pid;
        // Parents are older, so this ends; a table that was read while it changed could only be wrong, not circular for long.
        for _ in 0..64 {
            if at == from {
                return true;
            }
            match self.processes.get(&at) {
                Some(process) => at = process.parent,
                None => return false,
            }
        }
        false
    }
}

fn parse(stat: &str) -> Option<Process> {
    // The program's name is in parentheses and may hold anything; fields are counted behind it.
    let (before, fields) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<_> = fields.split_whitespace().collect();
    Some(Process {
        name,
        parent: fields.get(1)?.parse().ok()?,
        threads: BTreeMap::new(),
    })
}

/// Nanoseconds on the processor of each thread of a process; none where it has just ended.
fn threads(pid: u32) -> BTreeMap<u32, u64> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeMap::new();
    };
    tasks
        .filter_map(Result::ok)
        .filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let account = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((thread, account.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_memory() {
        let accounts = Accounts::read().unwrap();
        let own = [Who::Tree(std::process::id())];
        assert!(accounts.memory(&own).unwrap().resident > 100 * 1024);
        let mut turns = 0_u64;
        while turns < 1_000_000 {
            turns = std::hint::black_box(turns + 1);
        }
        assert!(Accounts::read().unwrap().spent_since(&accounts, &own) > 0.0);
        assert!(accounts.pids(&[Who::Named("no such program")]).is_empty());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 3 0 0 0 0 0 0 0 0 0 5 6 0 0";
        let process = parse(stat).unwrap();
        assert_eq!(process.name, "a) b (c");
        assert_eq!(process.parent, 3);
    }
}
