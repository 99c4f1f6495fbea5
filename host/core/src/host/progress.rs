//! What happens between the acknowledgement of a command and its outcome, told as events of our own.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use trellis_artifacts::Progress as Fetching;
use trellis_protocol::EntityId;
use trellis_protocol::control::Map;
use trellis_protocol::event::{ComponentProgress, EventData, Fetched, ProviderProgress};

use super::inner::HostInner;
use crate::actor::prepared::Stage;
use crate::event::Events;

/// Least time between two events about the same fetching. The last one comes whenever it does.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest reason for another attempt that is told, in characters: registries have much to say.
const REASON_CHARS_MAX: usize = 500;

/// Who tells how a command gets on.
pub(super) struct Progress {
    events: Events,
    subject: Subject,
    host_id: String,
    reference: String,
    annotations: Map,
    restored: bool,
    /// When the fetching was told of last.
    told: Mutex<Option<Instant>>,
}

/// Whom a command is about.
enum Subject {
    Actor(String),
    Provider(String),
}

impl Progress {
    /// About an actor.
    pub(super) fn of_actor(
        shared: &HostInner,
        id: &EntityId,
        reference: &str,
        annotations: &Map,
    ) -> Self {
        Self::of(
            shared,
            Subject::Actor(id.to_string()),
            reference,
            annotations,
        )
    }

    /// About a provider.
    pub(super) fn of_provider(
        shared: &HostInner,
        id: &EntityId,
        reference: &str,
        annotations: &Map,
    ) -> Self {
        Self::of(
            shared,
            Subject::Provider(id.to_string()),
            reference,
            annotations,
        )
    }

    fn of(shared: &HostInner, subject: Subject, reference: &str, annotations: &Map) -> Self {
        Self {
            events: shared.events.clone(),
            subject,
            host_id: shared.id.to_string(),
            reference: reference.to_owned(),
            annotations: annotations.clone(),
            restored: false,
            told: Mutex::default(),
        }
    }

    /// Says that the host does it by itself, after a restart.
    pub(super) fn restoring(mut self, restored: bool) -> Self {
        self.restored = restored;
        self
    }

    /// Tells that something is fetched.
    pub(super) fn fetching(&self) {
        self.tell_fetched(Fetched::default());
    }

    /// Tells how the fetching gets on, now and then. Never waits.
    pub(super) fn fetched(&self, fetching: Fetching) {
        let fetched = match fetching {
            Fetching::Fetching {
                received_bytes,
                total_bytes,
            } => {
                let is_last = total_bytes == Some(received_bytes);
                if !self.is_time() && !is_last {
                    return;
                }
                Fetched {
                    received_bytes: Some(received_bytes),
                    total_bytes,
                    ..Fetched::default()
                }
            }
            Fetching::Retrying { attempt, reason } => Fetched {
                attempt: Some(attempt),
                reason: Some(reason.chars().take(REASON_CHARS_MAX).collect()),
                ..Fetched::default()
            },
            _ => return,
        };
        self.tell_fetched(fetched);
    }

    /// Tells that a stage of an actor's preparation begins.
    pub(super) fn stage(&self, stage: Stage) {
        let Some(data) = self.of_component() else {
            return;
        };
        self.events.publish(&match stage {
            Stage::Verifying => EventData::ComponentVerifying(data),
            Stage::Compiling => EventData::ComponentCompiling(data),
        });
    }

    /// Tells that an actor's first instance is made.
    pub(super) fn warming(&self) {
        if let Some(data) = self.of_component() {
            self.events.publish(&EventData::ComponentWarming(data));
        }
    }

    /// Tells that a provider is started.
    pub(super) fn starting(&self) {
        if let Subject::Provider(id) = &self.subject {
            let data = self.of_a_provider(id, Fetched::default());
            self.events.publish(&EventData::ProviderStarting(data));
        }
    }

    fn tell_fetched(&self, fetched: Fetched) {
        self.events.publish(&match &self.subject {
            Subject::Actor(id) => EventData::ComponentFetching(self.of_an_actor(id, fetched)),
            Subject::Provider(id) => EventData::ProviderFetching(self.of_a_provider(id, fetched)),
        });
    }

    fn of_component(&self) -> Option<ComponentProgress> {
        match &self.subject {
            Subject::Actor(id) => Some(self.of_an_actor(id, Fetched::default())),
            Subject::Provider(_) => None,
        }
    }

    fn of_an_actor(&self, id: &str, fetched: Fetched) -> ComponentProgress {
        ComponentProgress {
            host_id: self.host_id.clone(),
            component_id: id.to_owned(),
            image_ref: self.reference.clone(),
            annotations: self.annotations.clone(),
            fetched,
            restored: self.restored,
        }
    }

    fn of_a_provider(&self, id: &str, fetched: Fetched) -> ProviderProgress {
        ProviderProgress {
            host_id: self.host_id.clone(),
            provider_id: id.to_owned(),
            image_ref: self.reference.clone(),
            annotations: self.annotations.clone(),
            fetched,
            restored: self.restored,
        }
    }

    /// Whether enough time has passed since the last word about the fetching.
    fn is_time(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_time = told.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if is_time {
            *told = Some(now);
        }
        is_time
    }
}
