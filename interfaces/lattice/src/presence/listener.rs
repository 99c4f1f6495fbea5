//! Everybody else: beats in, rosters pulled, routes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use rand::Rng as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trellis_claims::{HostCertificate, TrustRoots, UnixTime};
use trellis_protocol::presence::{Beat, PresenceError, Roster, beat_interval};
use trellis_protocol::subject::Subjects;

use super::table::{Change, Pull, Table};
use super::tally::Tally;
use super::{CANDIDATES_MAX, HOSTS_MAX, PresenceOptions, Rejection};
use crate::routes::{Knock, Routes, Seen};

/// How often silence is looked for: fine enough that it adds little to the shortest interval.
const SWEEP: Duration = Duration::from_millis(100);

/// How long a host has to send its roster.
const PULL_TIMEOUT: Duration = Duration::from_secs(2);

/// Most rosters under way at once; each may be half a mebibyte.
const PULLS_MAX: usize = 8;

/// Most rosters under way or waiting to be. Hosts that were forgotten meanwhile are among them, so this is what bounds
/// what a flood of new keys leaves behind; a host that finds no place is asked when it beats again.
const PULLS_WAITING_MAX: usize = HOSTS_MAX + CANDIDATES_MAX;

/// How much longer the random pause before a pull may be, for each host of the lattice: they all ask the same one.
const PULL_JITTER_PER_HOST: Duration = Duration::from_millis(2);

/// Most hosts without a valid certificate named in the log in a minute. They are counted in any case.
const WARNINGS_PER_MINUTE_MAX: u32 = 10;

/// The task that keeps the table.
pub(super) struct Listener {
    client: async_nats::Client,
    subjects: Subjects,
    own: String,
    trust: Arc<TrustRoots>,
    routes: Routes,
    rejected: Arc<Tally<Rejection>>,
    table: Table,
    knocks: mpsc::Receiver<Knock>,
    pulls: JoinSet<(Pull, Option<Bytes>)>,
    pulling: Arc<Semaphore>,
    warned: (Instant, u32),
}

impl Listener {
    pub(super) fn new(
        options: &PresenceOptions,
        routes: Routes,
        knocks: mpsc::Receiver<Knock>,
        rejected: Arc<Tally<Rejection>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            client: options.client.clone(),
            subjects: options.subjects.clone(),
            own: options.key.public().to_string(),
            trust: Arc::clone(&options.trust),
            routes,
            rejected,
            table: Table::new(now),
            knocks,
            pulls: JoinSet::new(),
            pulling: Arc::new(Semaphore::new(PULLS_MAX)),
            warned: (now, 0),
        }
    }

    pub(super) async fn run(
        mut self,
        mut beats: async_nats::Subscriber,
        cancel: CancellationToken,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                message = beats.next() => match message {
                    Some(message) => self.heard(&message.payload),
                    None => return,
                },
                Some(knock) = self.knocks.recv() => self.knocked(&knock),
                Some(pulled) = self.pulls.join_next() => match pulled {
                    Ok((pull, answer)) => self.pulled(&pull, answer),
                    Err(error) => tracing::error!(%error, "a roster's pull ended early"),
                },
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        let beat = match Beat::read(bytes) {
            Ok(beat) => beat,
            Err(PresenceError::UnknownVersion { .. }) => {
                return self.rejected.count(Rejection::UnknownVersion);
            }
            Err(_) => return self.rejected.count(Rejection::Malformed),
        };
        if beat.host.as_str() == self.own {
            return;
        }
        // What costs nothing is checked first: a signature costs as much as a hundred of these.
        if beat.lattice != *self.subjects.lattice() {
            return self.rejected.count(Rejection::WrongLattice);
        }
        if !self.table.is_news(&beat) {
            return self.rejected.count(Rejection::Replayed);
        }
        if beat.verify(bytes).is_err() {
            return self.rejected.count(Rejection::Signature);
        }
        let now = Instant::now();
        match self.table.beat(&beat, now) {
            Ok(changes) => {
                for change in changes {
                    self.apply(change, Some(&beat));
                }
            }
            Err(reason) => return self.rejected.count(reason),
        }
        self.pull(beat.host.as_str(), self.pause_max(), now);
    }

    fn pause_max(&self) -> Duration {
        PULL_JITTER_PER_HOST * u32::try_from(self.routes.len() + 1).unwrap_or(u32::MAX)
    }

    /// Nobody else was called by that call, so nobody else asks for the roster in the same millisecond.
    fn knocked(&mut self, knock: &Knock) {
        let (host, now) = (knock.host.as_str(), Instant::now());
        if host == self.own {
            return;
        }
        let interval = beat_interval(self.routes.len() + 1);
        match self.table.knock(host, knock.incarnation, interval, now) {
            Ok(changes) => {
                for change in changes {
                    self.apply(change, None);
                }
            }
            Err(reason) => return self.rejected.count(reason),
        }
        self.pull(host, Duration::ZERO, now);
    }

    /// Asks for a host's roster where it is wanted, after a random pause.
    fn pull(&mut self, host: &str, pause_max: Duration, now: Instant) {
        let Some(pull) = self.table.pull(host, now) else {
            return;
        };
        if self.pulls.len() >= PULLS_WAITING_MAX {
            self.rejected.count(Rejection::TooManyHosts);
            return self.table.retry(&pull, now);
        }
        let jitter = rand::rng().random_range(Duration::ZERO..=pause_max);
        let (client, pulling) = (self.client.clone(), Arc::clone(&self.pulling));
        let subject = self.subjects.roster(host);
        self.pulls.spawn(async move {
            tokio::time::sleep(jitter).await;
            let _permit = pulling.acquire_owned().await;
            let asked = client.request(subject, Bytes::new());
            let answer = tokio::time::timeout(PULL_TIMEOUT, asked).await;
            let roster = answer
                .ok()
                .and_then(Result::ok)
                .map(|message| message.payload);
            (pull, roster)
        });
    }

    fn pulled(&mut self, pull: &Pull, answer: Option<Bytes>) {
        let now = Instant::now();
        let Some(answer) = answer else {
            self.rejected.count(Rejection::NoRoster);
            return self.retry(pull, now);
        };
        let roster = match self.read_roster(pull, &answer) {
            Ok(roster) => roster,
            Err(error) => {
                // Anybody may have answered. That says nothing of the host, which is asked again.
                tracing::debug!(host = %pull.host, %error, "a roster is not believed");
                self.rejected.count(Rejection::Roster);
                return self.retry(pull, now);
            }
        };
        match self.certificate(&roster) {
            Ok(certificate) => {
                if self.table.admit(pull, roster.version, certificate.validity) {
                    let known = self.routes.host(&pull.host);
                    let seen = self.table.seen(&pull.host);
                    if known.is_none() {
                        tracing::info!(host = %pull.host, name = roster.name, "a host has joined the lattice");
                    }
                    self.routes.put(roster, certificate, seen);
                }
            }
            Err(reason) => {
                self.rejected.count(Rejection::Certificate);
                let (first, lost) = self.table.refuse(pull, now);
                if first && self.may_warn(now) {
                    tracing::warn!(host = %pull.host, reason, "a host without a valid certificate is kept out of the routes");
                }
                if let Some(lost) = lost {
                    self.apply(lost, None);
                }
            }
        }
    }

    fn retry(&mut self, pull: &Pull, now: Instant) {
        self.table.retry(pull, now);
        self.pull(&pull.host, self.pause_max(), now);
    }

    fn read_roster(&self, pull: &Pull, bytes: &[u8]) -> Result<Roster, String> {
        let roster = Roster::open(bytes).map_err(|error| error.to_string())?;
        let wanted = roster.host.as_str() == pull.host
            && roster.incarnation == pull.incarnation
            && roster.version >= pull.version;
        if wanted {
            Ok(roster)
        } else {
            Err("it is not the one that was announced".to_owned())
        }
    }

    fn certificate(&self, roster: &Roster) -> Result<HostCertificate, String> {
        let token = roster.certificate.as_deref().ok_or("it has none")?;
        let lattice = self.subjects.lattice().as_str();
        let certificate = HostCertificate::verify(token, lattice, &self.trust, UnixTime::now())
            .map_err(|error| error.to_string())?;
        if certificate.subject != roster.host {
            return Err("it is the certificate of another host".to_owned());
        }
        Ok(certificate)
    }

    fn sweep(&mut self) {
        for change in self.table.sweep(Instant::now(), UnixTime::now()) {
            self.apply(change, None);
        }
    }

    fn apply(&self, change: Change, beat: Option<&Beat>) {
        match change {
            Change::Alive => {
                if let Some(beat) = beat {
                    self.routes.note(beat.host.as_str(), Seen::of(beat));
                }
            }
            Change::Suspect { host } => {
                tracing::debug!(host, "a host's beats are missing");
                self.routes.suspect(&host);
            }
            Change::Lost { host, reason } => {
                tracing::info!(host, %reason, "a host has left the lattice");
                self.routes.remove(&host, reason);
            }
        }
    }

    fn may_warn(&mut self, now: Instant) -> bool {
        if now.duration_since(self.warned.0) >= Duration::from_secs(60) {
            self.warned = (now, 0);
        }
        self.warned.1 += 1;
        self.warned.1 <= WARNINGS_PER_MINUTE_MAX
    }
}
