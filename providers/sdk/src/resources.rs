//! The handles a provider gives out: opaque numbers, each good for one lease.
//!
//! A WIT resource of a provider (`wasi:keyvalue`'s `bucket`) reaches an actor as such a number. The table checks that it
//! is used by the instance it was given to, and drops everything that instance held when it ends (D18).
//!
//! Each table counts from a random number. A provider that is started again, in the same process or a new one, gives out
//! other handles than before, so that one which an instance kept from a former incarnation leads to nothing (D19).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_protocol::{Lease, Refusal, RefusalCode};

/// Most handles that one instance may hold of one provider.
pub const HANDLES_PER_LEASE_MAX: usize = 1024;

/// A table of values that actors hold by handle.
#[derive(Debug)]
pub struct Resources<T> {
    table: Mutex<Table<T>>,
}

#[derive(Debug)]
struct Table<T> {
    next: u64,
    leases: HashMap<Lease, HashMap<u64, Arc<T>>>,
}

/// Where a table begins to count: far from where others do, and far from the largest number.
fn first_handle() -> u64 {
    // Seeded by the system for each process, and differently each time.
    let random = RandomState::new().build_hasher().finish();
    (random >> 16).max(1)
}

impl<T> Default for Resources<T> {
    fn default() -> Self {
        Self {
            table: Mutex::new(Table {
                next: first_handle(),
                leases: HashMap::new(),
            }),
        }
    }
}

impl<T> Resources<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a value for a holder and gives back its handle.
    ///
    /// # Errors
    /// `too-large` beyond [`HANDLES_PER_LEASE_MAX`] handles of one holder.
    pub fn insert(&self, lease: &Lease, value: T) -> Result<u64, Refusal> {
        let mut table = self.lock();
        let handle = table.next;
        let held = table.leases.entry(lease.clone()).or_default();
        if held.len() >= HANDLES_PER_LEASE_MAX {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!("an instance may hold {HANDLES_PER_LEASE_MAX} handles of one provider"),
            ));
        }
        held.insert(handle, Arc::new(value));
        table.next += 1;
        Ok(handle)
    }

    /// The value behind a handle.
    ///
    /// # Errors
    /// `bad-handle` where the handle was never given to this holder, or is released.
    pub fn get(&self, lease: &Lease, handle: u64) -> Result<Arc<T>, Refusal> {
        self.lock()
            .leases
            .get(lease)
            .and_then(|held| held.get(&handle))
            .cloned()
            .ok_or_else(|| {
                Refusal::new(
                    RefusalCode::BadHandle,
                    format!("handle {handle} is not held by this caller"),
                )
            })
    }

    /// Releases one handle; an unknown one is no error, since its lease may have ended first.
    pub fn remove(&self, lease: &Lease, handle: u64) {
        let mut table = self.lock();
        if let Some(held) = table.leases.get_mut(lease) {
            held.remove(&handle);
            if held.is_empty() {
                table.leases.remove(lease);
            }
        }
    }

    /// Releases everything of one holder.
    pub fn release(&self, lease: &Lease) {
        self.lock().leases.remove(lease);
    }

    /// Releases everything of a host's instances.
    pub fn release_host(&self, host: &str) {
        self.lock().leases.retain(|lease, _| *lease.host != *host);
    }

    /// How many handles are held.
    pub fn len(&self) -> usize {
        self.lock().leases.values().map(HashMap::len).sum()
    }

    /// Whether no handle is held.
    pub fn is_empty(&self) -> bool {
        self.lock().leases.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        // The table is consistent between any two statements, so a panic elsewhere leaves nothing to mend.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn lease(host: &str, instance: u64) -> Lease {
        Lease {
            host: Arc::from(host),
            instance,
        }
    }

    #[test]
    fn a_handle_is_good_for_its_own_lease_only() {
        let table = Resources::new();
        let handle = table.insert(&lease("N1", 1), "value").unwrap();
        assert_eq!(*table.get(&lease("N1", 1), handle).unwrap(), "value");
        assert_eq!(
            table.get(&lease("N1", 2), handle).unwrap_err().code,
            RefusalCode::BadHandle
        );
        assert_eq!(
            table.get(&lease("N2", 1), handle).unwrap_err().code,
            RefusalCode::BadHandle
        );
    }

    #[test]
    fn a_handle_of_one_table_leads_to_nothing_in_the_next() {
        let (former, table) = (Resources::new(), Resources::new());
        let holder = lease("N1", 1);
        let old = former.insert(&holder, "old").unwrap();
        let new = table.insert(&holder, "new").unwrap();
        assert_ne!(old, new);
        assert_eq!(
            table.get(&holder, old).unwrap_err().code,
            RefusalCode::BadHandle
        );
    }

    #[test]
    fn the_end_of_an_instance_or_host_releases_what_it_held() {
        let table = Resources::new();
        for (host, instance) in [("N1", 1), ("N1", 2), ("N2", 1)] {
            table.insert(&lease(host, instance), ()).unwrap();
        }
        table.release(&lease("N1", 2));
        assert_eq!(table.len(), 2);
        table.release_host("N1");
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_last_handle_is_given_and_one_more_is_refused() {
        let table = Resources::new();
        for _ in 0..HANDLES_PER_LEASE_MAX {
            table.insert(&lease("N1", 1), ()).unwrap();
        }
        assert_eq!(
            table.insert(&lease("N1", 1), ()).unwrap_err().code,
            RefusalCode::TooLarge
        );
    }
}
