//! Counters by reason.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// A closed set of reasons, each with the name under which it is counted.
pub(crate) trait Reason: Copy + 'static {
    /// Every reason, in the order of [`Self::index`].
    const NAMES: &'static [&'static str];

    /// The reason's place in [`Self::NAMES`].
    fn index(self) -> usize;
}

/// Counts per reason. Shared by many tasks; exact, without order.
#[derive(Debug)]
pub(crate) struct Tally<R> {
    counts: Vec<AtomicU64>,
    reasons: PhantomData<R>,
}

impl<R: Reason> Default for Tally<R> {
    fn default() -> Self {
        let counts = R::NAMES.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            counts,
            reasons: PhantomData,
        }
    }
}

impl<R: Reason> Tally<R> {
    pub(crate) fn count(&self, reason: R) {
        if let Some(count) = self.counts.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let values = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        R::NAMES.iter().copied().zip(values).collect()
    }
}

/// Declares a set of reasons with their names.
macro_rules! reasons {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$reason_doc:meta])* $reason:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$reason_doc])* $reason,)* }

        impl $name {
            /// The name under which it is counted.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $text),* }
            }
        }

        impl $crate::presence::tally::Reason for $name {
            const NAMES: &'static [&'static str] = &[$($text),*];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use reasons;
