//! Places for those who watch: so many on a host, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places of one kind.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// A place, given back by dropping it.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    pub(super) fn any_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > 0
    }

    pub(super) fn take(&self) -> Option<Place> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_and_one_more_is_not_until_one_is_given_back() {
        let places = Places::new(3);
        assert!(!places.any_taken());
        let mut taken: Vec<_> = (0..3).map_while(|_| places.take()).collect();
        assert_eq!(taken.len(), 3);
        assert!(places.take().is_none());
        taken.pop();
        assert!(places.take().is_some());
        drop(taken);
        assert!(!places.any_taken());
    }
}
