//! Tokens of prepared statements: what an instance holds in place of a statement's text.
//!
//! A token belongs to the instance that prepared the statement, by the link it used. The statement itself is prepared
//! again on whichever session it runs on, so a token outlives connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng as _;
use trellis_provider_sdk::Lease;

/// Tokens that one link keeps; the least recently used goes first.
pub(crate) const TOKENS_MAX: usize = 1024;

/// Bytes of statements that one link keeps for its tokens.
pub(crate) const TOKENS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The tokens of one link.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<String, Entry>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    sql: Arc<str>,
    used: u64,
}

impl Tokens {
    /// Keeps a statement for an instance.
    pub(crate) fn keep(&self, lease: &Lease, sql: &str) -> String {
        let token = format!("{:032x}", rand::rng().random::<u128>());
        let mut table = self.lock();
        table.uses += 1;
        let used = table.uses;
        while table.entries.len() >= TOKENS_MAX
            || (table.bytes + sql.len() > TOKENS_BYTES_MAX && !table.entries.is_empty())
        {
            table.forget_oldest();
        }
        table.bytes += sql.len();
        let entry = Entry {
            lease: lease.clone(),
            sql: sql.into(),
            used,
        };
        table.entries.insert(token.clone(), entry);
        token
    }

    /// The statement behind a token of this instance.
    pub(crate) fn statement(&self, lease: &Lease, token: &str) -> Option<Arc<str>> {
        let mut table = self.lock();
        table.uses += 1;
        let used = table.uses;
        let entry = table.entries.get_mut(token)?;
        if entry.lease != *lease {
            return None;
        }
        entry.used = used;
        Some(entry.sql.clone())
    }

    /// Forgets what an instance held.
    pub(crate) fn release(&self, held: impl Fn(&Lease) -> bool) {
        let mut table = self.lock();
        table.entries.retain(|_, entry| !held(&entry.lease));
        table.bytes = table.entries.values().map(|entry| entry.sql.len()).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The count of bytes errs at most on the safe side after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_oldest(&mut self) {
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.used)
            .map(|(token, _)| token.clone());
        if let Some(entry) = oldest.and_then(|token| self.entries.remove(&token)) {
            self.bytes -= entry.sql.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(instance: u64) -> Lease {
        Lease {
            host: Arc::from("N1"),
            instance,
        }
    }

    #[test]
    fn a_token_is_good_for_the_instance_it_was_given_to() {
        let tokens = Tokens::default();
        let token = tokens.keep(&lease(1), "SELECT 1");
        assert_eq!(
            tokens.statement(&lease(1), &token).as_deref(),
            Some("SELECT 1")
        );
        assert_eq!(tokens.statement(&lease(2), &token), None);
        assert_eq!(tokens.statement(&lease(1), "other"), None);
        tokens.release(|holder| *holder == lease(1));
        assert_eq!(tokens.statement(&lease(1), &token), None);
        assert_eq!(tokens.lock().bytes, 0);
    }

    #[test]
    fn the_token_used_least_recently_goes_first() {
        let tokens = Tokens::default();
        let kept: Vec<_> = (0..TOKENS_MAX)
            .map(|_| tokens.keep(&lease(1), "SELECT 1"))
            .collect();
        assert!(tokens.statement(&lease(1), &kept[0]).is_some());
        tokens.keep(&lease(1), "SELECT 2");
        assert!(tokens.statement(&lease(1), &kept[0]).is_some());
        assert!(tokens.statement(&lease(1), &kept[1]).is_none());
        assert_eq!(tokens.lock().entries.len(), TOKENS_MAX);
    }

    #[test]
    fn long_statements_push_others_out_by_their_bytes() {
        let tokens = Tokens::default();
        let long = "x".repeat(TOKENS_BYTES_MAX / 4);
        for _ in 0..10 {
            tokens.keep(&lease(1), &long);
        }
        assert_eq!(tokens.lock().entries.len(), 4);
    }
}
