//! Telling everybody of a host that can no longer say itself that it is gone (D12).
//!
//! Application managers of the interface wait a minute for a host that says nothing; here a host that is silent is known
//! to be gone within seconds. So one of those that live publishes `host_stopped` in its name, with its labels.
//!
//! Who that is every host works out for itself: among those in its table that have a certificate and beat, and itself, the
//! one with the lowest id. The others wait for that event, each the longer the higher its id, and publish it themselves if
//! it does not come: the first one may have died at the same moment. Where tables differ for a moment two may speak; the
//! event says the same then, and saying it twice changes nothing.
//!
//! Nobody speaks of a host that said goodbye, was started again, or lost its certificate; nor without a certificate of its
//! own. And nobody believes its own eyes alone: a host that has just lost NATS sees everybody fall silent. Before it speaks
//! it hears an echo of its own from NATS without delay, has been connected for a while, and still hears nothing of the lost
//! one for some beats more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trellis_lattice::connection::Connection;
use trellis_lattice::routes::{LostHost, LostReason, PeerInfo, Routes};
use trellis_protocol::event::{Event, EventData, HostStopped};
use trellis_protocol::presence::beat_interval;

use super::inner::HostInner;

/// How much longer each host waits than the one before it.
const TURN: Duration = Duration::from_secs(2);

/// How many hosts wait for the first one to speak. With more, none would be left to say anything new.
const TURNS_MAX: usize = 4;

/// How long a host has been connected before it says of another that it is gone. Others may need so long to connect again.
const CONNECTED_MIN: Duration = Duration::from_secs(10);

/// How long an own message may take from NATS and back. A server that takes longer may have kept others' beats as long.
const ECHO_MAX: Duration = Duration::from_millis(500);

/// Beats that are waited for after the echo: what NATS held back of the others has come by then.
const BEATS_MORE: u32 = 3;

/// How much earlier others may have found the same host gone.
const SKEW: Duration = Duration::from_secs(5);

/// Lost hosts that are spoken of at once, and told ones that are remembered. Beyond it the oldest are forgotten.
const HOSTS_MAX: usize = 1_000;

/// Runs until the host ends.
pub(super) async fn announce(shared: Arc<HostInner>, connection: Connection) {
    if !shared.is_certified {
        return;
    }
    let subject = connection.subjects().event("host_stopped");
    let mut stopped = match connection.control.subscribe(subject).await {
        Ok(stopped) => stopped,
        Err(error) => {
            tracing::warn!(%error, "hosts that are lost will be announced by others");
            return;
        }
    };
    let announcer = Arc::new(Announcer {
        routes: shared.routes.clone(),
        undisturbed: Mutex::default(),
        told: Mutex::default(),
        connection,
        shared,
    });
    let mut lost = announcer.routes.lost();
    let mut reconnects = announcer.connection.reconnects();
    reconnects.mark_unchanged();
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            event = stopped.next() => match event {
                Some(event) => announcer.heard(&event.payload),
                None => return,
            },
            changed = reconnects.changed() => {
                if changed.is_err() {
                    return;
                }
                announcer.disturbed();
            }
            lost = lost.recv() => match lost {
                Ok(lost) if lost.reason == LostReason::Silent && waiting.len() < HOSTS_MAX => {
                    waiting.spawn(Arc::clone(&announcer).tell(lost));
                }
                // Those that were missed are told of by others, or missed by everybody in the end.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            Some(_) = waiting.join_next() => {}
        }
    }
}

struct Announcer {
    shared: Arc<HostInner>,
    routes: Routes,
    connection: Connection,
    /// Since when NATS has been there without a break that this host knows of; none, where it never was away.
    undisturbed: Mutex<Option<Instant>>,
    /// Hosts that somebody has spoken of, and when.
    told: Mutex<HashMap<String, Instant>>,
}

impl Announcer {
    fn heard(&self, event: &[u8]) {
        let Ok(event) = Event::parse(event) else {
            return;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= HOSTS_MAX {
            told.clear();
        }
        told.insert(event.source, Instant::now());
    }

    /// Whether somebody has spoken of this death of a host; it may have died before and have been started again.
    fn is_told(&self, host: &str, lost_at: Instant) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(host).is_some_and(|at| *at + SKEW >= lost_at)
    }

    /// Speaks of a lost host, in turn, if nobody else has.
    async fn tell(self: Arc<Self>, lost: LostHost) {
        let lost_at = Instant::now();
        self.sure().await;
        let turn = turn(&self.shared.id, &self.routes.hosts());
        if turn >= TURNS_MAX {
            return;
        }
        let turns = u32::try_from(turn).unwrap_or(u32::MAX);
        sleep(TURN * turns).await;
        if turn > 0 {
            self.sure().await;
        }
        if self.routes.host(&lost.host).is_some() || self.is_told(&lost.host, lost_at) {
            return;
        }
        tracing::info!(host = %lost.host, "told the lattice that a host is gone");
        let stopped = EventData::HostStopped(HostStopped {
            labels: lost.labels,
            announced_by: Some(self.shared.id.to_string()),
            reason: Some(lost.reason.to_string()),
        });
        self.shared.events.publish_about(&lost.host, &stopped);
    }

    /// Waits until this host itself is certainly in touch with NATS, and others have had the time to be so.
    async fn sure(&self) {
        loop {
            let since = self.undisturbed();
            let left = since.map(|since| CONNECTED_MIN.saturating_sub(since.elapsed()));
            if let Some(left) = left.filter(|left| !left.is_zero()) {
                sleep(left).await;
                continue;
            }
            if !self.echoes().await {
                self.disturbed();
                continue;
            }
            sleep(beat_interval(self.routes.len() + 1) * BEATS_MORE).await;
            if self.undisturbed() == since {
                return;
            }
        }
    }

    fn undisturbed(&self) -> Option<Instant> {
        *self
            .undisturbed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn disturbed(&self) {
        *self
            .undisturbed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether an own message comes back from NATS in time.
    async fn echoes(&self) -> bool {
        let client = &self.connection.control;
        let echo = async {
            let inbox = client.new_inbox();
            let mut echo = client.subscribe(inbox.clone()).await.ok()?;
            client.publish(inbox, Bytes::new()).await.ok()?;
            client.flush().await.ok()?;
            echo.next().await
        };
        matches!(timeout(ECHO_MAX, echo).await, Ok(Some(_)))
    }
}

/// Whose turn it is to speak: how many of those who might do so before this host.
fn turn(own: &str, others: &[PeerInfo]) -> usize {
    let beating = others.iter().filter(|host| !host.suspect);
    beating.filter(|host| host.key.as_str() < own).count()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::collections::BTreeMap;

    use trellis_claims::{
        HostCertificate, KeyKind, NewHostCertificate, SigningKey, TrustRoots, UnixTime, Validity,
    };
    use trellis_protocol::presence::Roster;

    use super::*;

    fn host(suspect: bool) -> PeerInfo {
        let account = SigningKey::generate(KeyKind::Account);
        let key = SigningKey::generate(KeyKind::Host).public().clone();
        let now = UnixTime::now();
        let new = NewHostCertificate {
            subject: key.clone(),
            lattice: "l".to_owned(),
            may_run: vec!["*".to_owned()],
            validity: Validity::starting(now, Duration::from_secs(60)),
        };
        let token = HostCertificate::issue(&new, &account, now).unwrap();
        let mut trust = TrustRoots::default();
        trust.insert(account.public().clone()).unwrap();
        let certificate = HostCertificate::verify(&token, "l", &trust, now).unwrap();
        let roster = Roster {
            host: key.clone(),
            incarnation: 1,
            version: 1,
            certificate: None,
            name: String::new(),
            labels: BTreeMap::new(),
            actors: Vec::new(),
            providers: Vec::new(),
        };
        PeerInfo {
            key,
            incarnation: 1,
            certificate: Arc::new(certificate),
            roster: Arc::new(roster),
            state_sequence: 0,
            suspect,
            draining: false,
        }
    }

    #[test]
    fn the_lowest_id_of_those_that_beat_speaks_first_and_every_other_one_after_it() {
        let mut hosts: Vec<_> = (0..4).map(|_| host(false)).collect();
        hosts.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        let turn_of = |own: usize, hosts: &[PeerInfo]| {
            let others = hosts.iter().filter(|other| other.key != hosts[own].key);
            turn(
                hosts[own].key.as_str(),
                &others.cloned().collect::<Vec<_>>(),
            )
        };
        assert_eq!([0, 1, 2, 3].map(|own| turn_of(own, &hosts)), [0, 1, 2, 3]);
        // One whose beats are missing is not waited for.
        hosts[0].suspect = true;
        assert_eq!([1, 2, 3].map(|own| turn_of(own, &hosts)), [0, 1, 2]);
        assert_eq!(turn("N", &[]), 0);
    }
}
