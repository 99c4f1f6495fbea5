//! Memory: what one instance may take, and what all of them together may take.
//!
//! Each actor has a limit for its instances. Above all of them stands one budget for the host, so that a thousand
//! instances within their own limits cannot exhaust the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::limits::TABLE_ELEMENTS_MAX;

/// Linear memory that all instances of a host may hold together.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryBudget {
    /// Three quarters of what this machine has: of its memory, or of the control group's limit where that is lower.
    pub(crate) fn of_this_machine() -> Self {
        Self::new(machine_bytes() / 4 * 3)
    }

    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// What all instances hold now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes)
                    .filter(|sum| *sum <= self.limit_bytes)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn machine_bytes() -> usize {
    let info = rustix::system::sysinfo();
    let total = usize::try_from(info.totalram)
        .unwrap_or(usize::MAX)
        .saturating_mul(usize::try_from(info.mem_unit).unwrap_or(1).max(1));
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<usize>()
            .ok()
    });
    group.map_or(total, |group| group.min(total))
}

/// The limits of one instance, and what it holds of the host's budget. Dropping it gives everything back.
#[derive(Debug)]
pub(crate) struct InstanceLimits {
    budget: Arc<MemoryBudget>,
    /// What all instances of the actor hold, for those who look.
    of_actor: Arc<AtomicUsize>,
    limit_bytes: usize,
    held_bytes: usize,
    exceeded: bool,
}

impl InstanceLimits {
    pub(crate) fn new(
        budget: Arc<MemoryBudget>,
        of_actor: Arc<AtomicUsize>,
        limit_bytes: usize,
    ) -> Self {
        Self {
            budget,
            of_actor,
            limit_bytes,
            held_bytes: 0,
            exceeded: false,
        }
    }

    /// Whether a growth was refused. A guest that traps afterwards ran out of memory.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl ResourceLimiter for InstanceLimits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let granted = self
            .held_bytes
            .checked_add(more)
            .is_some_and(|sum| sum <= self.limit_bytes)
            && self.budget.take(more);
        if granted {
            self.held_bytes += more;
            self.of_actor.fetch_add(more, Ordering::Relaxed);
        } else {
            self.exceeded = true;
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

impl Drop for InstanceLimits {
    fn drop(&mut self) {
        self.budget.give_back(self.held_bytes);
        self.of_actor.fetch_sub(self.held_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_of_an_instance_is_granted_and_one_more_page_is_not() {
        let budget = Arc::new(MemoryBudget::new(1 << 20));
        let mut limits = InstanceLimits::new(budget, Arc::default(), 2 << 16);
        assert!(limits.memory_growing(0, 2 << 16, None).unwrap());
        assert!(!limits.exceeded());
        assert!(!limits.memory_growing(2 << 16, 3 << 16, None).unwrap());
        assert!(limits.exceeded());
    }

    #[test]
    fn instances_share_the_budget_and_give_it_back() {
        let budget = Arc::new(MemoryBudget::new(3 << 16));
        let of_actor = Arc::<AtomicUsize>::default();
        let limits = || InstanceLimits::new(Arc::clone(&budget), Arc::clone(&of_actor), usize::MAX);
        let (mut first, mut second) = (limits(), limits());
        assert!(first.memory_growing(0, 2 << 16, None).unwrap());
        assert!(!second.memory_growing(0, 2 << 16, None).unwrap());
        drop(first);
        assert!(second.memory_growing(0, 2 << 16, None).unwrap());
        assert_eq!(of_actor.load(Ordering::Relaxed), 2 << 16);
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(of_actor.load(Ordering::Relaxed), 0);
    }
}
