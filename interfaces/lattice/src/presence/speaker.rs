//! What this host says about itself: beats, unasked, and its roster, when asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trellis_claims::SigningKey;
use trellis_protocol::LatticeName;
use trellis_protocol::presence::{Beat, PresenceError, Roster, State, beat_interval};
use trellis_protocol::subject::Subjects;

use super::PresenceOptions;
use crate::routes::Routes;

/// Shortest time between two beats, however often roster and state change.
const BEAT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Most rosters sent in a second: each may be half a mebibyte, and anybody may ask.
const ANSWERS_PER_SECOND_MAX: u32 = 100;

/// This host's own part, as it will be said next.
pub(super) struct Own {
    key: Arc<SigningKey>,
    lattice: LatticeName,
    started: Instant,
    said: Mutex<Said>,
    changed: Notify,
}

struct Said {
    roster: Roster,
    sealed: Bytes,
    state: State,
    state_sequence: u64,
    beats: u64,
}

impl Own {
    pub(super) fn new(options: &PresenceOptions) -> Result<Self, PresenceError> {
        let roster = Roster {
            host: options.key.public().clone(),
            incarnation: options.incarnation,
            version: 1,
            certificate: options.certificate.clone(),
            name: options.name.clone(),
            labels: options.labels.clone(),
            actors: Vec::new(),
            providers: Vec::new(),
        };
        let sealed = Bytes::from(roster.seal(&options.key)?);
        Ok(Self {
            key: Arc::clone(&options.key),
            lattice: options.subjects.lattice().clone(),
            started: Instant::now(),
            said: Mutex::new(Said {
                roster,
                sealed,
                state: State::Serving,
                state_sequence: 0,
                beats: 0,
            }),
            changed: Notify::new(),
        })
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Roster)) -> Result<u64, PresenceError> {
        let mut said = self.said();
        let mut roster = said.roster.clone();
        change(&mut roster);
        roster.version += 1;
        said.sealed = Bytes::from(roster.seal(&self.key)?);
        let version = roster.version;
        said.roster = roster;
        drop(said);
        self.changed.notify_one();
        Ok(version)
    }

    pub(super) fn set_state(&self, state: State) {
        let mut said = self.said();
        // Nothing follows a goodbye.
        if said.state != State::Leaving {
            said.state = state;
        }
        drop(said);
        self.changed.notify_one();
    }

    pub(super) fn set_state_sequence(&self, sequence: u64) {
        self.said().state_sequence = sequence;
    }

    fn roster(&self) -> Bytes {
        self.said().sealed.clone()
    }

    fn next_beat(&self, interval: Duration) -> Result<Vec<u8>, PresenceError> {
        let mut said = self.said();
        said.beats += 1;
        let beat = Beat {
            host: said.roster.host.clone(),
            lattice: self.lattice.clone(),
            incarnation: said.roster.incarnation,
            number: said.beats,
            roster_version: said.roster.version,
            state_sequence: said.state_sequence,
            state: said.state,
            interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        drop(said);
        beat.seal(&self.key)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half said.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that beats.
pub(super) struct Speaker {
    pub(super) client: async_nats::Client,
    pub(super) subject: String,
    pub(super) own: Arc<Own>,
    pub(super) routes: Routes,
}

impl Speaker {
    pub(super) async fn run(self, cancel: CancellationToken) {
        loop {
            let interval = beat_interval(self.routes.len() + 1);
            self.beat(interval).await;
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
                () = self.own.changed.notified() => tokio::time::sleep(BEAT_PAUSE_MIN).await,
            }
        }
        self.own.set_state(State::Leaving);
        self.beat(beat_interval(0)).await;
        if let Err(error) = self.client.flush().await {
            tracing::debug!(%error, "the goodbye may not have left");
        }
    }

    async fn beat(&self, interval: Duration) {
        let beat = match self.own.next_beat(interval) {
            Ok(beat) => beat,
            Err(error) => {
                tracing::error!(%error, "cannot make a beat");
                return;
            }
        };
        if let Err(error) = self.client.publish(self.subject.clone(), beat.into()).await {
            tracing::warn!(%error, subject = %self.subject, "cannot publish a beat");
        }
    }
}

/// The task that sends the roster to those who ask.
pub(super) async fn answer(
    client: async_nats::Client,
    subjects: Subjects,
    own: Arc<Own>,
    mut asked: async_nats::Subscriber,
    cancel: CancellationToken,
) {
    let mut second = Instant::now();
    let mut answers = 0;
    loop {
        let request = tokio::select! {
            () = cancel.cancelled() => return,
            request = asked.next() => request,
        };
        let Some(request) = request else { return };
        let Some(reply) = request.reply else { continue };
        if !subjects.may_be_answered_at(&reply) {
            continue;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            (second, answers) = (Instant::now(), 0);
        }
        answers += 1;
        if answers > ANSWERS_PER_SECOND_MAX {
            // Who asked in earnest asks again; see the listener's retries.
            continue;
        }
        if let Err(error) = client.publish(reply, own.roster()).await {
            tracing::debug!(%error, "cannot send the roster");
        }
    }
}
