//! A provider that is a process, through all of its incarnations.
//!
//! ```text
//!             launch                     ended
//!   start ───────────► Up ───────────────────────────► Restarting ──► Failed
//!     │                │ ▲   process or socket, by itself   │  │ ▲        │
//!     ▼ failed         │ └──────────── launched ────────────┘  └─┘        │
//!   error              ▼                                    launch failed ▼
//!                   Stopped ◄──────────────── stop ◄───────────────── Failed
//! ```
//!
//! One task owns the process and goes through these states; everybody else sees the current one. Calls are let through in
//! `Up` alone. In `Restarting` they are refused as *overloaded*, for nothing of them has begun; in `Failed` with the reason
//! why it was given up, until an operator stops it or starts it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use trellis_pipe::Hello;
use trellis_protocol::{EntityId, Refusal, RefusalCode};
use trellis_provider_sdk::Provider;

use super::backoff::{Backoff, Next};
use super::door::Door;
use super::launch::{Incarnation, LaunchError, Order};

/// What a process has, beyond the time it was given for its shutdown, to say that it is done.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A provider process and the task that looks after it. Dropping it kills the process.
pub(in crate::provider) struct Supervised {
    id: EntityId,
    state: watch::Receiver<State>,
    stop: mpsc::Sender<Stop>,
    restarts: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

/// A wish to stop.
struct Stop {
    within: Duration,
    /// Whether it was finished in time.
    done: oneshot::Sender<bool>,
}

#[derive(Clone)]
enum State {
    Up(Current),
    Restarting(Arc<str>),
    Failed(Arc<str>),
    Stopped,
}

/// The incarnation that serves.
#[derive(Clone)]
pub(in crate::provider) struct Current {
    pub(in crate::provider) door: Arc<Door>,
    /// Counts from one.
    pub(in crate::provider) incarnation: u64,
}

/// How a provider process is, for those who tell others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It serves, in its so manieth incarnation.
    Up(u64),
    /// It is started again after this.
    Restarting(Arc<str>),
    /// It is not started again, for this reason.
    Failed(Arc<str>),
    /// It was stopped.
    Stopped,
}

/// Follows the phases of a provider process. Phases that pass quickly may be missed.
pub(crate) struct PhaseWatch(watch::Receiver<State>);

impl PhaseWatch {
    /// Waits for another phase; `None` once nobody looks after the provider any more.
    pub(crate) async fn next(&mut self) -> Option<Phase> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().phase())
    }
}

impl State {
    fn phase(&self) -> Phase {
        match self {
            Self::Up(current) => Phase::Up(current.incarnation),
            Self::Restarting(reason) => Phase::Restarting(Arc::clone(reason)),
            Self::Failed(reason) => Phase::Failed(Arc::clone(reason)),
            Self::Stopped => Phase::Stopped,
        }
    }
}

impl Supervised {
    /// Starts the process for the first time. What comes up is looked after from then on.
    ///
    /// # Errors
    /// [`LaunchError`] where it does not come up. That is not tried again.
    pub(in crate::provider) async fn start(order: Order) -> Result<(Self, Hello), LaunchError> {
        let first = order.launch().await?;
        let hello = first.hello.clone();
        let id = order.id.clone();
        let (stop, stops) = mpsc::channel(1);
        let (sender, state) = watch::channel(State::Up(Current {
            door: Arc::clone(&first.door),
            incarnation: 1,
        }));
        let restarts = Arc::<AtomicU64>::default();
        let keeper = Keeper {
            order,
            hello: hello.clone(),
            state: sender,
            stops,
            incarnation: 1,
            restarts: Arc::clone(&restarts),
            backoff: Backoff::default(),
        };
        let supervised = Self {
            id,
            state,
            stop,
            restarts,
            _task: AbortOnDropHandle::new(tokio::spawn(keeper.keep(first))),
        };
        Ok((supervised, hello))
    }

    /// The incarnation that serves now.
    ///
    /// # Errors
    /// A refusal by which nothing has begun, where there is none.
    pub(in crate::provider) fn current(&self) -> Result<Current, Refusal> {
        let id = &self.id;
        match &*self.state.borrow() {
            State::Up(current) => Ok(current.clone()),
            State::Restarting(reason) => Err(Refusal::new(
                RefusalCode::Overloaded,
                format!(
                    "the provider `{id}` is being started again: {}",
                    first_line(reason)
                ),
            )),
            State::Failed(reason) => Err(Refusal::new(
                RefusalCode::ProviderFailed,
                format!("the provider `{id}` is not started again: {reason}"),
            )
            .with_remedy(format!(
                "mend the cause, then `wash stop provider {id}` and start it again"
            ))),
            State::Stopped => Err(Refusal::new(
                RefusalCode::NotHere,
                format!("the provider `{id}` was stopped on this host"),
            )),
        }
    }

    /// How often it was started again.
    pub(in crate::provider) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(in crate::provider) fn phase(&self) -> Phase {
        self.state.borrow().phase()
    }

    pub(in crate::provider) fn watch(&self) -> PhaseWatch {
        PhaseWatch(self.state.clone())
    }

    /// Stops it for good: it is asked to shut down, and ended by signals where it does not. Says whether it did.
    pub(in crate::provider) async fn stop(&self, within: Duration) -> bool {
        let (done, stopped) = oneshot::channel();
        if self.stop.send(Stop { within, done }).await.is_err() {
            // It was stopped before.
            return true;
        }
        stopped.await.unwrap_or(false)
    }
}

#[cfg(test)]
impl Supervised {
    /// Has the present incarnation end as if it had broken the protocol.
    pub(super) fn kill(&self) {
        if let State::Up(current) = &*self.state.borrow() {
            current.door.close("as a test wants it");
        }
    }
}

/// Runs the states.
struct Keeper {
    order: Order,
    hello: Hello,
    state: watch::Sender<State>,
    stops: mpsc::Receiver<Stop>,
    incarnation: u64,
    restarts: Arc<AtomicU64>,
    backoff: Backoff,
}

impl Keeper {
    async fn keep(mut self, first: Incarnation) {
        let mut running = first;
        loop {
            let since = Instant::now();
            let how = tokio::select! {
                stop = self.stops.recv() => {
                    self.stop(running, stop).await;
                    return;
                }
                how = running.ended() => how,
            };
            let life = since.elapsed();
            let id = &self.order.id;
            tracing::warn!(provider_id = %id, pid = running.pid(), life_ms = life.as_millis(), "the provider's process has ended: {how}");
            // Refused from here on, before what is left of it is cleared away.
            self.state.send_replace(State::Restarting(
                format!("its process ended ({how})").into(),
            ));
            let said = running.bury().await;
            let report = format!("its process ended ({how}){said}");
            match self.again(report, life).await {
                Some(incarnation) => running = incarnation,
                None => return,
            }
        }
    }

    /// The next incarnation; none where it was stopped or given up and then stopped.
    async fn again(&mut self, mut report: String, life: Duration) -> Option<Incarnation> {
        let mut life = Some(life);
        loop {
            let pause = match self.backoff.ended(Instant::now(), life.take()) {
                Next::After(pause) => pause,
                Next::GiveUp(why) => {
                    self.give_up(format!("{why}; the last time {report}")).await;
                    return None;
                }
            };
            self.state.send_replace(State::Restarting(report.into()));
            let launched = tokio::select! {
                stop = self.stops.recv() => {
                    self.stopped(stop, true);
                    return None;
                }
                launched = async {
                    sleep(pause).await;
                    self.order.launch().await
                } => launched,
            };
            match launched {
                Ok(incarnation) => {
                    self.serve(&incarnation);
                    return Some(incarnation);
                }
                Err(error) => {
                    tracing::warn!(provider_id = %self.order.id, code = error.code(), %error, "the provider's process did not start again");
                    report = error.to_string();
                }
            }
        }
    }

    fn serve(&mut self, incarnation: &Incarnation) {
        self.incarnation += 1;
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let (old, new) = (&self.hello, &incarnation.hello);
        if (&old.name, &old.serves, &old.calls) != (&new.name, &new.serves, &new.calls) {
            tracing::warn!(provider_id = %self.order.id, was = old.name, is = new.name, "another program stands in the provider's place; stop and start it to have it known as what it is");
        }
        self.state.send_replace(State::Up(Current {
            door: Arc::clone(&incarnation.door),
            incarnation: self.incarnation,
        }));
        tracing::info!(provider_id = %self.order.id, pid = incarnation.pid(), incarnation = self.incarnation, "the provider's process serves again");
    }

    async fn give_up(&mut self, reason: String) {
        tracing::error!(provider_id = %self.order.id, reason, "the provider is not started again");
        self.state.send_replace(State::Failed(reason.into()));
        let stop = self.stops.recv().await;
        self.stopped(stop, true);
    }

    async fn stop(&mut self, running: Incarnation, stop: Option<Stop>) {
        let within = stop.as_ref().map_or(Duration::ZERO, |stop| stop.within);
        let begin = Instant::now();
        let asked = running.door.shutdown(within);
        let answered = timeout(within + SHUTDOWN_GRACE, asked).await.is_ok();
        let in_time = answered && begin.elapsed() < within;
        self.state.send_replace(State::Stopped);
        let by_itself = running.end().await;
        self.stopped(stop, in_time && by_itself);
    }

    fn stopped(&mut self, stop: Option<Stop>, in_time: bool) {
        self.state.send_replace(State::Stopped);
        self.stops.close();
        if let Some(stop) = stop {
            // Whoever asked may have stopped waiting.
            let _ = stop.done.send(in_time);
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
