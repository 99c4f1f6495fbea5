//! What processes hold in memory while something happens.
//!
//! Only anonymous pages count (`RssAnon` in proc(5)): what a process has allocated and touched. Pages of its program and
//! of mapped files come and go as the system likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two looks. What a process would have to hold of a large body, it would hold for much longer.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks at processes for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    ended: Arc<AtomicBool>,
    looking: Option<JoinHandle<Vec<Held>>>,
}

/// What one process held.
#[derive(Debug, Clone)]
pub struct Held {
    /// The process.
    pub pid: u32,
    /// What it is.
    pub name: String,
    /// Bytes at the beginning.
    pub before: u64,
    /// Most bytes that were seen since.
    pub most: u64,
}

impl Held {
    /// By how many bytes it had grown at most.
    pub fn growth(&self) -> u64 {
        self.most.saturating_sub(self.before)
    }
}

impl Watch {
    /// Begins to look at these processes, and at those that they have started themselves.
    ///
    /// # Panics
    /// Where one of them does not run.
    pub fn over(pids: &[u32]) -> Self {
        let mut held: Vec<_> = pids
            .iter()
            .flat_map(|pid| std::iter::once(*pid).chain(children(*pid)))
            .map(|pid| {
                let before = anonymous_bytes(pid).expect("the process runs");
                Held {
                    pid,
                    name: name(pid),
                    before,
                    most: before,
                }
            })
            .collect();
        let ended = Arc::new(AtomicBool::new(false));
        let looking = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while !ended.load(Ordering::Relaxed) {
                    for held in &mut held {
                        let now = anonymous_bytes(held.pid).unwrap_or_default();
                        held.most = held.most.max(now);
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
                held
            }
        });
        Self {
            ended,
            looking: Some(looking),
        }
    }

    /// What each of them held meanwhile.
    ///
    /// # Panics
    /// Never: looking does not.
    pub fn end(mut self) -> Vec<Held> {
        self.ended.store(true, Ordering::Relaxed);
        let looking = self.looking.take().expect("a watch ends once");
        looking.join().expect("looking does not panic")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The processes that a process has started and that still run.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so the fields are counted from its end: state, then parent.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// The name of a process's program, at most 15 bytes of it; empty where it has ended.
pub fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Bytes of anonymous memory that a process has resident. Nothing where it has ended.
pub fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
