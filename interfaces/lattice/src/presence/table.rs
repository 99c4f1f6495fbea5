//! What has been heard of whom: the rules of presence, without a connection and with time as an argument.
//!
//! A host is first a *candidate*; a roster with a valid certificate makes it *admitted*, that is known to [`Routes`]. A
//! silent, leaving or restarted host is removed. What an admitted host last said is remembered as its *grave*, so that an
//! old beat, heard again, brings nobody back. A candidate leaves none: keys cost nothing, and would push out the graves
//! of real hosts.
//!
//! A *knock* is a call by a host that is not known yet, or not in that run. The call is signed, and made for this very run
//! of this host, so it says no less than a beat, and its sender's roster can be asked for before the next beat comes.
//!
//! [`Routes`]: crate::routes::Routes

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use trellis_claims::{UnixTime, Validity};
use trellis_protocol::presence::{BEATS_MISSED_GONE, BEATS_MISSED_SUSPECT, Beat, State};

use super::{CANDIDATES_MAX, HOSTS_MAX, Rejection};
use crate::routes::{LostReason, Seen};

/// How many departed hosts are remembered.
const GRAVES_MAX: usize = 4 * HOSTS_MAX;

/// How long a host that showed no valid certificate is left alone, unless it announces another roster.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// How long after a pull without an answer the next one waits.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A longer pause between two sweeps means that this process stood still, not that everybody else did.
const STALL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Heard {
    incarnation: u64,
    number: u64,
    at: Instant,
    interval: Duration,
    seen: Seen,
    roster_announced: u64,
    roster_held: Option<u64>,
    certificate: Option<Validity>,
    pulling: bool,
    not_before: Option<Instant>,
    refused: bool,
    suspect: bool,
    /// Whether this run was ever admitted; it stays so when a later certificate is refused.
    was_admitted: bool,
}

/// A roster to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pull {
    pub(super) host: String,
    pub(super) incarnation: u64,
    pub(super) version: u64,
}

/// What a beat or the passing of time changes for the routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// An admitted host beats.
    Alive,
    /// An admitted host's beats are missing.
    Suspect { host: String },
    /// An admitted host has left the table.
    Lost { host: String, reason: LostReason },
}

#[derive(Debug)]
pub(super) struct Table {
    heard: HashMap<String, Heard>,
    graves: HashMap<String, (u64, u64)>,
    graves_in_order: VecDeque<String>,
    swept: Instant,
}

impl Table {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: HashMap::new(),
            graves: HashMap::new(),
            graves_in_order: VecDeque::new(),
            swept: now,
        }
    }

    /// Whether a beat says anything new: asked before its signature is checked.
    pub(super) fn is_news(&self, beat: &Beat) -> bool {
        let host = beat.host.as_str();
        let known = self
            .heard
            .get(host)
            .map(|heard| (heard.incarnation, heard.number));
        let known = known.or_else(|| self.graves.get(host).copied());
        known.is_none_or(|known| (beat.incarnation, beat.number) > known)
    }

    /// Takes a beat whose signature holds.
    pub(super) fn beat(&mut self, beat: &Beat, now: Instant) -> Result<Vec<Change>, Rejection> {
        if !self.is_news(beat) {
            return Err(Rejection::Replayed);
        }
        let host = beat.host.as_str();
        let mut changes = Vec::new();
        let former = self.heard.get(host).map(|heard| heard.incarnation);
        if former.is_some_and(|former| former != beat.incarnation) {
            changes.extend(self.bury(host, LostReason::Restarted));
        }
        if beat.state == State::Leaving {
            changes.extend(self.bury(host, LostReason::Left));
            // The goodbye itself is the last that was said.
            if self.graves.contains_key(host) {
                self.mark(host, (beat.incarnation, beat.number));
            }
            return Ok(changes);
        }
        if !self.heard.contains_key(host) {
            self.make_room()?;
        }
        let heard = self
            .heard
            .entry(host.to_owned())
            .or_insert_with(|| Heard::new(beat, now));
        heard.number = beat.number;
        heard.at = now;
        heard.interval = beat.interval();
        heard.seen = Seen::of(beat);
        heard.suspect = false;
        if heard.roster_announced < beat.roster_version {
            heard.roster_announced = beat.roster_version;
            heard.not_before = None;
        }
        if heard.roster_held.is_some() {
            changes.push(Change::Alive);
        }
        Ok(changes)
    }

    /// Takes a knock whose signature holds. Until its first beat the host is taken to beat at `interval`.
    pub(super) fn knock(
        &mut self,
        host: &str,
        incarnation: u64,
        interval: Duration,
        now: Instant,
    ) -> Result<Vec<Change>, Rejection> {
        if let Some(heard) = self.heard.get(host) {
            match heard.incarnation.cmp(&incarnation) {
                Ordering::Greater => return Err(Rejection::Replayed),
                // Its beat has come in the meantime.
                Ordering::Equal => return Ok(Vec::new()),
                Ordering::Less => {}
            }
        } else if let Some((last, _)) = self.graves.get(host)
            && *last >= incarnation
        {
            // A call can be recorded as a beat can; only a beat with a larger number brings this run back.
            return Err(Rejection::Replayed);
        }
        let changes = self.bury(host, LostReason::Restarted).into_iter().collect();
        self.make_room()?;
        let heard = Heard::knocking(incarnation, interval, now);
        self.heard.insert(host.to_owned(), heard);
        Ok(changes)
    }

    /// The roster that should be asked for now, if any; it is then under way until [`Self::admit`], [`Self::refuse`] or
    /// [`Self::retry`].
    pub(super) fn pull(&mut self, host: &str, now: Instant) -> Option<Pull> {
        let heard = self.heard.get_mut(host)?;
        let wanted = heard
            .roster_held
            .is_none_or(|held| held < heard.roster_announced);
        let due = heard.not_before.is_none_or(|not_before| now >= not_before);
        if !wanted || !due || heard.pulling {
            return None;
        }
        heard.pulling = true;
        Some(Pull {
            host: host.to_owned(),
            incarnation: heard.incarnation,
            version: heard.roster_announced,
        })
    }

    /// A roster with a valid certificate has come. `false`: it is no longer wanted.
    pub(super) fn admit(&mut self, pull: &Pull, version: u64, certificate: Validity) -> bool {
        let Some(heard) = self.pulled(pull) else {
            return false;
        };
        heard.roster_held = Some(version);
        // The host may be ahead of its own beat; that beat will come.
        heard.roster_announced = heard.roster_announced.max(version);
        heard.certificate = Some(certificate);
        heard.refused = false;
        heard.was_admitted = true;
        true
    }

    /// A roster has come that is not believed. Gives back whether to warn, and the loss where the host was admitted.
    pub(super) fn refuse(&mut self, pull: &Pull, now: Instant) -> (bool, Option<Change>) {
        let Some(heard) = self.pulled(pull) else {
            return (false, None);
        };
        let first = !heard.refused;
        heard.refused = true;
        heard.not_before = Some(now + REFUSED_PAUSE);
        heard.certificate = None;
        let lost = heard.roster_held.take().map(|_| Change::Lost {
            host: pull.host.clone(),
            reason: LostReason::Certificate,
        });
        (first, lost)
    }

    /// No roster has come. Where a newer one was announced meanwhile, it can be asked for at once.
    pub(super) fn retry(&mut self, pull: &Pull, now: Instant) {
        if let Some(heard) = self.pulled(pull) {
            let is_newest = heard.roster_announced <= pull.version;
            heard.not_before = is_newest.then_some(now + RETRY_PAUSE);
        }
    }

    /// What a host's last beat said.
    pub(super) fn seen(&self, host: &str) -> Seen {
        self.heard
            .get(host)
            .map(|heard| heard.seen)
            .unwrap_or_default()
    }

    /// Looks for those whose beats are missing and whose certificates have ended.
    pub(super) fn sweep(&mut self, now: Instant, clock: UnixTime) -> Vec<Change> {
        let stalled = now.duration_since(self.swept);
        self.swept = now;
        if stalled > STALL {
            // Their beats wait unread. Everybody gets the time back for which nobody listened.
            for heard in self.heard.values_mut() {
                heard.at = (heard.at + stalled).min(now);
            }
            return Vec::new();
        }
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for (host, heard) in &mut self.heard {
            let silence = now.duration_since(heard.at);
            if heard
                .certificate
                .is_some_and(|valid| valid.check(clock).is_err())
            {
                gone.push((host.clone(), LostReason::Certificate));
            } else if silence >= missed(heard.interval, BEATS_MISSED_GONE) {
                gone.push((host.clone(), LostReason::Silent));
            } else if !heard.suspect && silence >= missed(heard.interval, BEATS_MISSED_SUSPECT) {
                heard.suspect = true;
                if heard.roster_held.is_some() {
                    changes.push(Change::Suspect { host: host.clone() });
                }
            }
        }
        for (host, reason) in gone {
            changes.extend(self.bury(&host, reason));
        }
        changes
    }

    fn pulled(&mut self, pull: &Pull) -> Option<&mut Heard> {
        let heard = self.heard.get_mut(&pull.host)?;
        if heard.incarnation != pull.incarnation {
            return None;
        }
        heard.pulling = false;
        Some(heard)
    }

    fn bury(&mut self, host: &str, reason: LostReason) -> Option<Change> {
        let heard = self.heard.remove(host)?;
        // One that was admitted in a former run has its grave already, which must not fall behind.
        if heard.was_admitted || self.graves.contains_key(host) {
            self.mark(host, (heard.incarnation, heard.number));
        }
        heard.roster_held.map(|_| Change::Lost {
            host: host.to_owned(),
            reason,
        })
    }

    fn mark(&mut self, host: &str, last: (u64, u64)) {
        if self.graves.insert(host.to_owned(), last).is_none() {
            self.graves_in_order.push_back(host.to_owned());
        }
        while self.graves_in_order.len() > GRAVES_MAX {
            if let Some(oldest) = self.graves_in_order.pop_front() {
                self.graves.remove(&oldest);
            }
        }
    }

    fn make_room(&mut self) -> Result<(), Rejection> {
        let candidates = self
            .heard
            .values()
            .filter(|heard| heard.roster_held.is_none());
        let candidates = candidates.count();
        if self.heard.len() - candidates >= HOSTS_MAX {
            return Err(Rejection::TooManyHosts);
        }
        if candidates >= CANDIDATES_MAX {
            let oldest = self
                .heard
                .iter()
                .filter(|(_, heard)| heard.roster_held.is_none())
                .min_by_key(|(_, heard)| heard.at)
                .map(|(host, _)| host.clone());
            if let Some(oldest) = oldest {
                // No candidate is in the routes, so nobody is lost.
                self.bury(&oldest, LostReason::Silent);
            }
        }
        Ok(())
    }
}

impl Heard {
    fn new(beat: &Beat, now: Instant) -> Self {
        Self {
            incarnation: beat.incarnation,
            number: beat.number,
            at: now,
            interval: beat.interval(),
            seen: Seen::of(beat),
            roster_announced: beat.roster_version,
            roster_held: None,
            certificate: None,
            pulling: false,
            not_before: None,
            refused: false,
            suspect: false,
            was_admitted: false,
        }
    }

    /// A host of which only a call was heard: every beat of it will be news.
    fn knocking(incarnation: u64, interval: Duration, now: Instant) -> Self {
        Self {
            incarnation,
            number: 0,
            at: now,
            interval,
            seen: Seen::default(),
            roster_announced: 0,
            roster_held: None,
            certificate: None,
            pulling: false,
            not_before: None,
            refused: false,
            suspect: false,
            was_admitted: false,
        }
    }
}

/// The silence after which so many beats are missed: half an interval more, since beats are not punctual.
fn missed(interval: Duration, beats: u32) -> Duration {
    interval * beats + interval / 2
}

#[cfg(test)]
mod tests;
