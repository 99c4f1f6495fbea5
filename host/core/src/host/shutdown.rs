//! How a host leaves: everything that has begun is finished, in the order in which the parts need each other, and all
//! of it under one deadline.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;
use trellis_protocol::event::{EventData, HostStopped};
use trellis_protocol::presence::State;

use super::Host;
use super::control_runtime::on;
use super::reach::Reach;
use crate::provider::RunningProvider;

/// What is kept of the time for saying goodbye, at most.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// The least time for each step of the goodbye: others should not have to miss this host, even where it is late.
const GOODBYE_STEP_MIN: Duration = Duration::from_millis(250);

/// How long a host that is late waits for what it cuts off.
const CUT_OFF_MAX: Duration = Duration::from_millis(500);

/// How long each of the last steps takes at most once NATS has been given up: they end what is here and tell nobody.
const UNREACHABLE_STEP_MAX: Duration = Duration::from_millis(50);

/// Counts down.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    fn left_for_goodbye(self) -> Duration {
        self.left().max(GOODBYE_STEP_MIN)
    }
}

impl Host {
    /// Drains the host and leaves the lattice. Says whether everything that had begun was finished in time; what was not
    /// is cut off. What ran here is restored when the host is started again.
    ///
    /// Without NATS nobody can be told anything: what waits for that alone is given up within a second and is no work cut
    /// off. Guests and providers have all of their time nevertheless.
    ///
    /// Calling it a second time only waits again for what is left.
    pub async fn stop(&self, within: Duration) -> bool {
        let shared = &self.shared;
        let end = Deadline(Instant::now() + within);
        let work = Deadline(end.0 - GOODBYE_MAX.min(within / 4));
        tracing::info!(within_ms = within.as_millis(), "the host drains");
        shared.router.drain();
        if let Some(presence) = &*shared
            .presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            presence.set_state(State::Draining);
        }
        self.intake.cancel();
        self.intake_tasks.close();
        let mut reach = Reach::new(self.connection.control.clone());
        // Without NATS these hold answers that nobody gets; guests that they call are waited for below.
        let taken = timeout(work.left(), self.intake_tasks.wait());
        let mut in_time = reach.wait(taken).await.is_none_or(|taken| taken.is_ok());

        // Those that call actors first: they finish their requests, for which actors may need the others.
        let (callers, others): (Vec<_>, Vec<_>) = shared
            .router
            .providers()
            .into_iter()
            .partition(|provider| provider.is_caller);
        in_time &= self.stop_providers(callers, work).await;
        let mut idle = shared.router.actors();
        idle.extend(shared.retired.running());
        let idle = idle.iter().map(|actor| actor.idle(work.left()));
        in_time &= join_all(idle).await.into_iter().all(|idle| idle);
        in_time &= self.stop_peers(&mut reach, work).await;
        in_time &= self.stop_providers(others, work).await;
        let finishing = shared.router.finish(work.left().max(CUT_OFF_MAX));
        reach.wait(finishing).await;

        shared.events.publish(&EventData::HostStopped(HostStopped {
            labels: shared.labels(),
            ..HostStopped::default()
        }));
        let flushing = shared.events.flush(end.left_for_goodbye());
        let told = reach.wait(flushing).await;
        in_time &= told.unwrap_or(true);
        let presence = shared
            .presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(presence) = presence {
            let within = match told {
                Some(_) => end.left_for_goodbye(),
                None => UNREACHABLE_STEP_MAX,
            };
            presence.stop(within).await;
        }
        shared.cancel.cancel();
        shared.tasks.close();
        let ending = timeout(end.left().max(CUT_OFF_MAX), shared.tasks.wait());
        let ended = match reach.wait(ending).await {
            Some(ended) => ended,
            // Tasks that only listen end by the token. A command that still goes on then is cut off.
            None => timeout(UNREACHABLE_STEP_MAX, shared.tasks.wait()).await,
        };
        in_time &= ended.is_ok();
        let closing = async {
            shared.state.close().await;
            self.connection.close().await;
        };
        let closing = timeout(end.left_for_goodbye(), closing);
        if !matches!(reach.wait(closing).await, Some(Ok(()))) {
            tracing::warn!("the connections were not closed in time");
        }
        tracing::info!(in_time, "the host has stopped");
        in_time
    }

    /// Ends calls from and to other hosts. Guests have ended by then, so that without NATS nothing is left to be finished.
    async fn stop_peers(&self, reach: &mut Reach, by: Deadline) -> bool {
        match reach.wait(self.peers.shutdown(by.left())).await {
            Some(ended) => ended,
            None => {
                let now = self.peers.shutdown(Duration::ZERO);
                if timeout(UNREACHABLE_STEP_MAX, now).await.is_err() {
                    tracing::warn!("NATS is out of reach; calls of other hosts were given up");
                }
                true
            }
        }
    }

    async fn stop_providers(&self, providers: Vec<Arc<RunningProvider>>, by: Deadline) -> bool {
        let stopping = providers.into_iter().map(|provider| {
            on(&self.shared.guests, async move {
                provider.stop(by.left()).await
            })
        });
        join_all(stopping)
            .await
            .into_iter()
            .all(|stopped| matches!(stopped, Ok(true)))
    }
}
