//! Links to actors that receive: which subscriptions there are, and what becomes of them when a link changes.
//!
//! A link's subscriptions come and go one by one: what a change of the link leaves as it was goes on undisturbed, with
//! its new receiver and limits. What is new is opened before what is gone is ended, so that between the two no message is
//! lost; one may come twice, where a subject only changes its queue group.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_nats_connection::Server;
use trellis_provider_sdk::{Health, Link, LinkError, LinkKey, Outbound};

use crate::config::{Defaults, ReceiverConfig, Source};
use crate::connection::{Connections, Direction};
use crate::delivery::{Delivery, Receiver};
use crate::listener::listen;
use crate::puller::{Place, pull};

/// How long a new link waits for its subscriptions, so that who has put it can rely on them. After that they go on by
/// themselves.
const OPENED_WITHIN: Duration = Duration::from_secs(1);

/// How long the end of a link waits for messages that are being handled. They go on after that.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// How a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Opening,
    Active,
    Failing(String),
}

/// A subscription that runs.
#[derive(Debug)]
struct Running {
    receiver: watch::Sender<Receiver>,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    done: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    /// What is wrong with the link, if it cannot be served.
    outcome: Option<LinkError>,
    running: HashMap<(Server, Source), Running>,
}

/// What a link's change began.
struct Change {
    opening: Vec<watch::Receiver<Status>>,
    leaving: Vec<Running>,
}

/// All links to receivers.
pub(crate) struct Receivers {
    defaults: Defaults,
    outbound: Arc<dyn Outbound>,
    connections: Arc<Connections>,
    links: Mutex<HashMap<LinkKey, Known>>,
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Receivers {
    pub(crate) fn new(
        defaults: Defaults,
        outbound: Arc<dyn Outbound>,
        connections: Arc<Connections>,
    ) -> Self {
        Self {
            defaults,
            outbound,
            connections,
            links: Mutex::default(),
            tasks: TaskTracker::new(),
            kill: CancellationToken::new(),
        }
    }

    /// Takes a link, or a later generation of one.
    pub(crate) async fn put(&self, link: &Link) -> Result<(), LinkError> {
        let config = ReceiverConfig::read(&link.config, &self.defaults).map_err(LinkError::from);
        let Change { opening, leaving } = match self.change(link, config) {
            Ok(changed) => changed,
            Err(unchanged) => return unchanged,
        };
        let opened = async {
            for mut status in opening {
                // An error says that the subscription has ended already.
                let _ = status.wait_for(|status| *status != Status::Opening).await;
            }
        };
        let _ = tokio::time::timeout(OPENED_WITHIN, opened).await;
        for running in &leaving {
            running.stop.cancel();
        }
        self.outcome(&link.key)
    }

    /// Starts what is new, and takes out what is gone. `Err` is the outcome of a link that is known already.
    fn change(
        &self,
        link: &Link,
        config: Result<ReceiverConfig, LinkError>,
    ) -> Result<Change, Result<(), LinkError>> {
        let mut links = self.lock();
        let is_closed = self.tasks.is_closed();
        let known = links.entry(link.key.clone()).or_default();
        if known.generation >= link.generation || is_closed {
            return Err(known.outcome.clone().map_or(Ok(()), Err));
        }
        known.generation = link.generation;
        let mut former = std::mem::take(&mut known.running);
        let mut opening = Vec::new();
        match config {
            Err(error) => known.outcome = Some(error),
            Ok(config) => {
                known.outcome = None;
                let receiver = Receiver {
                    actor: link.target.clone(),
                    link: link.key.name.clone(),
                    max_in_flight: config.max_in_flight,
                    timeout: config.timeout,
                };
                for source in config.sources {
                    let key = (config.server.clone(), source);
                    let running = match former.remove(&key) {
                        Some(running) => {
                            running.receiver.send_replace(receiver.clone());
                            running
                        }
                        None => {
                            let running = self.start(&key, receiver.clone());
                            opening.push(running.status.clone());
                            running
                        }
                    };
                    known.running.insert(key, running);
                }
            }
        }
        Ok(Change {
            opening,
            leaving: former.into_values().collect(),
        })
    }

    fn start(&self, (server, source): &(Server, Source), receiver: Receiver) -> Running {
        let (receiver, received) = watch::channel(receiver);
        let (status_sender, status) = watch::channel(Status::Opening);
        let (stop, done) = (self.kill.child_token(), CancellationToken::new());
        let delivery = Delivery {
            outbound: self.outbound.clone(),
            connection: self.connections.to(server, Direction::In),
            receiver: received,
            stop: stop.clone(),
            kill: self.kill.clone(),
        };
        let ended = done.clone().drop_guard();
        match source.clone() {
            Source::Subject { subject, queue } => self.tasks.spawn(async move {
                listen(delivery, subject, queue, status_sender).await;
                drop(ended);
            }),
            Source::Consumer {
                js_domain,
                stream,
                consumer,
            } => self.tasks.spawn(async move {
                let place = Place {
                    js_domain,
                    stream,
                    consumer,
                };
                pull(delivery, place, status_sender).await;
                drop(ended);
            }),
        };
        Running {
            receiver,
            status,
            stop,
            done,
        }
    }

    /// Ends a link's subscriptions, and waits for what is being handled.
    pub(crate) async fn delete(&self, key: &LinkKey) {
        let Some(known) = self.lock().remove(key) else {
            return;
        };
        for running in known.running.values() {
            running.stop.cancel();
        }
        let drained = async {
            for running in known.running.values() {
                running.done.cancelled().await;
            }
        };
        if tokio::time::timeout(DRAINED_WITHIN, drained).await.is_err() {
            tracing::info!("messages of a link that has ended are still being handled");
        }
    }

    /// Ends everything; what is not done in time is given up.
    pub(crate) async fn shutdown(&self, within: Duration) {
        self.tasks.close();
        for known in self.lock().values() {
            for running in known.running.values() {
                running.stop.cancel();
            }
        }
        if tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("messages were still being handled when the provider had to stop");
            self.kill.cancel();
            self.tasks.wait().await;
        }
        self.lock().clear();
    }

    /// Failing while a subscription that a link wants cannot be had.
    pub(crate) fn health(&self) -> Health {
        let links = self.lock();
        let failing = links.values().flat_map(|known| &known.running);
        for ((_, source), running) in failing {
            if let Status::Failing(reason) = &*running.status.borrow() {
                return Health::Failing(format!("{source}: {reason}"));
            }
        }
        Health::Healthy
    }

    fn outcome(&self, key: &LinkKey) -> Result<(), LinkError> {
        let links = self.lock();
        let outcome = links.get(key).and_then(|known| known.outcome.clone());
        outcome.map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LinkKey, Known>> {
        // Every change under this lock leaves a link with all of its subscriptions or with none.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receivers")
            .field("links", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        // For a provider that was dropped without a shutdown.
        self.kill.cancel();
    }
}
