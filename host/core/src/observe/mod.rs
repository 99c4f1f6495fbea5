//! What a host can tell about its work while it does it: numbers, the logs of its actors, invocations as they pass, spans.
//!
//! ```text
//! observed   what is noted of one actor or provider
//! calls      counters and latencies: a few relaxed additions for each call
//! tap        spies: copies of invocations, where somebody watches
//! shown      … made readable, without credentials
//! logs       the last lines of each actor, and those who follow them
//! span       spans of calls, for whoever collects traces
//! stats      all numbers in one answer; metrics: the same as Prometheus reads it
//! readiness  whether the host can do its work now
//! ```
//!
//! The router and the actors write here, operators read. Writing never waits, and what is kept is bounded by what runs on
//! the host and by constants, whatever callers, guests and spies do.

mod calls;
pub(crate) mod logs;
mod metrics;
mod observed;
mod place;
mod process;
mod readiness;
pub(crate) mod shown;
pub mod span;
mod stats;
pub(crate) mod tap;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use trellis_protocol::control::observe::Direction;
use trellis_protocol::{EntityId, LinkName, Operation, Refusal};
use trellis_provider_sdk::HttpRequest;

pub use metrics::METRICS_CONTENT_TYPE;
pub(crate) use observed::Observed;
pub(crate) use readiness::ReadinessCheck;
pub use readiness::{Readiness, Requirement};

use crate::invocation::Invocation;
use calls::CodeCounts;
use logs::{FOLLOWERS_MAX, Follower};
use place::Places;
use tap::{Answered, Sighting, TAPS_MAX, TapReader, Watching};

/// Ids that are remembered although nothing runs under them, those that run not counted: their numbers go on, and their
/// last lines can be read, when they stop or come back.
const REMEMBERED_MAX: usize = 1_024;

/// Outcomes of fetching artifacts that are told apart. Codes are constants of this software, so they are fewer.
const FETCH_OUTCOMES_MAX: usize = 64;

/// The notes of a host.
#[derive(Debug)]
pub(crate) struct Observe {
    table: Mutex<HashMap<EntityId, Arc<Observed>>>,
    next_place: AtomicU64,
    spies: Places,
    followers: Places,
    /// Refusals of calls whose caller or callee is nobody of this host.
    unassigned: CodeCounts,
    fetches: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            next_place: AtomicU64::new(0),
            spies: Places::new(TAPS_MAX),
            followers: Places::new(FOLLOWERS_MAX),
            unassigned: CodeCounts::default(),
            fetches: Mutex::default(),
        }
    }
}

impl Observe {
    fn lock(&self) -> MutexGuard<'_, HashMap<EntityId, Arc<Observed>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The notes on an id that runs here. Asked once for each time that it is started.
    pub(crate) fn of(&self, id: &EntityId) -> Arc<Observed> {
        let mut table = self.lock();
        if let Some(observed) = table.get(id) {
            return Arc::clone(observed);
        }
        if table.len() >= REMEMBERED_MAX {
            // What nobody holds is of ids that do not run.
            table.retain(|_, observed| Arc::strong_count(observed) > 1);
        }
        let place = self.next_place.fetch_add(1, Ordering::Relaxed);
        let observed = Observed::new(id.clone(), place);
        table.insert(id.clone(), Arc::clone(&observed));
        observed
    }

    /// The notes on an id, if there are any.
    pub(crate) fn find(&self, id: &EntityId) -> Option<Arc<Observed>> {
        self.lock().get(id).cloned()
    }

    /// Lets somebody watch the invocations of an id; none where the host has as many spies as it takes.
    pub(crate) fn spy(
        &self,
        id: &EntityId,
        direction: Option<Direction>,
        heads_only: bool,
    ) -> Option<TapReader> {
        self.of(id).taps.open(&self.spies, direction, heads_only)
    }

    /// Lets somebody read a log as it is written; none where the host has as many readers as it takes.
    pub(crate) fn follow(
        &self,
        observed: &Observed,
        lines: usize,
        after: Option<u64>,
    ) -> Option<Follower> {
        let place = self.followers.take()?;
        Some(observed.log.follow(place, lines, after))
    }

    /// A call begins on this host. Nothing comes back unless somebody watches its source.
    pub(crate) fn leaves(
        &self,
        invocation: &Invocation,
        request: Option<&HttpRequest>,
    ) -> Option<Box<Watching>> {
        if !self.spies.any_taken() {
            return None;
        }
        let source = self.find(&invocation.source)?;
        Watching::begin(&source, Direction::Out, invocation, request)
    }

    /// A call that began on this host has ended.
    pub(crate) fn returned<T: Answered>(
        &self,
        source: &EntityId,
        watching: Option<Box<Watching>>,
        result: &Result<T, Refusal>,
    ) {
        if let Err(refusal) = result {
            self.met(source, refusal);
        }
        if let Some(watching) = watching {
            watching.ended(result);
        }
    }

    /// Somebody of this host met a refusal.
    fn met(&self, source: &EntityId, refusal: &Refusal) {
        match self.find(source) {
            Some(source) => source.met.add(refusal.code),
            None => self.unassigned.add(refusal.code),
        }
    }

    /// A call was refused before it had a callee.
    pub(crate) fn no_way(
        &self,
        source: &EntityId,
        link: &LinkName,
        interface: &Arc<str>,
        refusal: &Refusal,
    ) {
        self.met(source, refusal);
        if !self.spies.any_taken() {
            return;
        }
        if let Some(source) = self.find(source)
            && source.taps.wants(Direction::Out).is_some()
        {
            source.taps.hand_on(Sighting {
                direction: Direction::Out,
                at: SystemTime::now(),
                took: Duration::ZERO,
                id: None,
                traceparent: None,
                source: source.id.clone(),
                target: None,
                operation: Operation {
                    interface: Arc::clone(interface),
                    function: Arc::default(),
                },
                link: link.clone(),
                depth: 0,
                type_hash: 0,
                refusal: Some((refusal.code, refusal.message.clone())),
                request: None,
                response: None,
            });
        }
    }

    /// A call of another host was refused before it reached a callee.
    pub(crate) fn turned_away(&self, refusal: &Refusal) {
        self.unassigned.add(refusal.code);
    }

    /// An artifact was asked for: `ok`, or the code of what went wrong.
    pub(crate) fn artifact_fetched(&self, outcome: &'static str) {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if fetches.len() < FETCH_OUTCOMES_MAX || fetches.contains_key(outcome) {
            *fetches.entry(outcome).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests;
