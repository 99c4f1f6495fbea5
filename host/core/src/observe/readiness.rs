//! Whether a host can do its work now, and if not, what is in the way, in words.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Mutex;
use trellis_lattice::connection::Connection;

use crate::host::HostInner;
use crate::limits::STATE_AGE_MAX;

/// Longest time of a round trip through NATS for a host that is ready.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// How long an answer holds. Whoever asks more often is told the same again, so that asking costs NATS nothing.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// Whether a host can do its work: every requirement with how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// All requirements, whether they are met or not.
    pub requirements: Vec<Requirement>,
}

/// One thing that a host needs to do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its name: `running`, `nats`, `state` or `round-trip`.
    pub name: &'static str,
    /// Whether it is met.
    pub is_met: bool,
    /// How it stands, in words.
    pub says: String,
}

impl Readiness {
    /// Whether every requirement is met.
    pub fn is_ready(&self) -> bool {
        self.requirements.iter().all(|one| one.is_met)
    }
}

impl fmt::Display for Readiness {
    /// One line for each requirement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.requirements {
            let mark = if one.is_met { "ok" } else { "not ready" };
            writeln!(f, "{}: {mark}: {}", one.name, one.says)?;
        }
        Ok(())
    }
}

/// Finds out, and remembers for a moment.
#[derive(Debug, Default)]
pub(crate) struct ReadinessCheck {
    last: Mutex<Option<(Instant, Readiness)>>,
}

impl ReadinessCheck {
    /// How the host stands. Whoever asks while somebody finds out waits for the same answer.
    pub(crate) async fn ask(&self, shared: &Arc<HostInner>, connection: &Connection) -> Readiness {
        let mut last = self.last.lock().await;
        if let Some((at, readiness)) = &*last
            && at.elapsed() < ANSWER_AGE_MAX
        {
            return readiness.clone();
        }
        let readiness = find_out(shared, connection).await;
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }
}

async fn find_out(shared: &Arc<HostInner>, connection: &Connection) -> Readiness {
    let (control, data) = tokio::join!(
        round_trip(&connection.control),
        round_trip(&connection.data)
    );
    Readiness {
        requirements: vec![
            running(shared),
            connected(connection),
            synchronised(shared),
            went_round(&control, &data),
        ],
    }
}

fn running(shared: &HostInner) -> Requirement {
    let has_left = shared
        .presence
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_none();
    let is_met = !shared.router.is_draining() && !has_left;
    let says = match is_met {
        true => "the host takes work",
        false => "the host is shutting down",
    };
    Requirement {
        name: "running",
        is_met,
        says: says.to_owned(),
    }
}

fn connected(connection: &Connection) -> Requirement {
    let clients = [("control", &connection.control), ("data", &connection.data)];
    let down: Vec<_> = clients
        .into_iter()
        .filter(|(_, client)| client.connection_state() != State::Connected)
        .map(|(name, _)| name)
        .collect();
    Requirement {
        name: "nats",
        is_met: down.is_empty(),
        says: match down.as_slice() {
            [] => "both connections are up".to_owned(),
            down => format!(
                "the {} connection is down; it is tried again by itself",
                down.join(" and the ")
            ),
        },
    }
}

fn synchronised(shared: &HostInner) -> Requirement {
    let (is_met, says) = match shared.state.age() {
        None => (
            false,
            "the copy of the lattice's state was never complete".to_owned(),
        ),
        Some(age) => (
            age <= STATE_AGE_MAX,
            format!(
                "the copy of the lattice's state was current {:.1} s ago",
                age.as_secs_f64()
            ),
        ),
    };
    Requirement {
        name: "state",
        is_met,
        says,
    }
}

type RoundTrip = Result<Duration, String>;

fn went_round(control: &RoundTrip, data: &RoundTrip) -> Requirement {
    let failed = [("control", control), ("data", data)]
        .into_iter()
        .find_map(|(name, trip)| trip.as_ref().err().map(|reason| (name, reason)));
    let took = [control, data].into_iter().flatten().max();
    Requirement {
        name: "round-trip",
        is_met: failed.is_none(),
        says: match (failed, took) {
            (Some((name, reason)), _) => {
                format!("a message over the {name} connection did not come back: {reason}")
            }
            (None, Some(took)) => format!(
                "messages went to NATS and back within {:.1} ms",
                took.as_secs_f64() * 1e3
            ),
            (None, None) => "no message was sent".to_owned(),
        },
    }
}

/// Sends a message to this host's own inbox and waits for it.
async fn round_trip(client: &Client) -> RoundTrip {
    let begin = Instant::now();
    let trip = async {
        let inbox = client.new_inbox();
        let mut back = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| error.to_string())?;
        client
            .publish(inbox, Bytes::new())
            .await
            .map_err(|error| error.to_string())?;
        // What is written waits for more to be written with it, a moment that would count here.
        client.flush().await.map_err(|error| error.to_string())?;
        back.next()
            .await
            .map(drop)
            .ok_or_else(|| "the connection was closed".to_owned())
    };
    tokio::time::timeout(ROUND_TRIP_MAX, trip)
        .await
        .unwrap_or_else(|_| Err(format!("no echo within {} s", ROUND_TRIP_MAX.as_secs())))?;
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(name: &'static str, is_met: bool) -> Requirement {
        Requirement {
            name,
            is_met,
            says: "so".to_owned(),
        }
    }

    #[test]
    fn a_host_is_ready_when_nothing_is_missing_and_says_what_is() {
        let mut readiness = Readiness {
            requirements: vec![requirement("nats", true), requirement("state", true)],
        };
        assert!(readiness.is_ready());
        readiness.requirements[1].is_met = false;
        assert!(!readiness.is_ready());
        assert_eq!(
            readiness.to_string(),
            "nats: ok: so\nstate: not ready: so\n"
        );
    }

    #[test]
    fn a_round_trip_counts_only_if_both_connections_made_it() {
        let trip = |ms| Ok(Duration::from_millis(ms));
        let both = went_round(&trip(2), &trip(3));
        assert!(both.is_met && both.says.contains("3.0 ms"), "{}", both.says);
        let one = went_round(&trip(2), &Err("no echo".to_owned()));
        assert!(!one.is_met && one.says.contains("data"), "{}", one.says);
    }
}
