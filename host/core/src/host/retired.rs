//! Versions of actors that were replaced and still finish what they had begun.
//!
//! A replaced version lives as long as an invocation of it does, and no command waits for that. A host that leaves does.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::actor::Actor;

/// Replaced versions. What has ended drops out by itself.
#[derive(Debug, Default)]
pub(crate) struct Retired(Mutex<Vec<Weak<Actor>>>);

impl Retired {
    /// Remembers a version that was replaced a moment ago.
    pub(crate) fn add(&self, actor: &Arc<Actor>) {
        let mut retired = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|former| former.strong_count() > 0);
        retired.push(Arc::downgrade(actor));
    }

    /// Those that still run.
    pub(crate) fn running(&self) -> Vec<Arc<Actor>> {
        let retired = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        retired.iter().filter_map(Weak::upgrade).collect()
    }
}
