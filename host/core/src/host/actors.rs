//! Actors of a host: scaled, replaced and stopped, and what is told of it.
//!
//! Commands are absolute: they say what is to be, and which event tells that it is. A version that is to replace another
//! is made ready beside it and takes its place in one step; where that fails, nothing has changed, and an event says why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use trellis_protocol::EntityId;
use trellis_protocol::control::Map;
use trellis_protocol::event::{ComponentScaleFailed, ComponentScaled, EventData};

use super::actor_error::{ActorError, with_causes};
use super::commands::Purpose;
use super::inner::HostInner;
use super::inventory::claims_for_people;
use super::scaler::{are_rivals, scaler_of};
use crate::actor::{Actor, ActorSettings, ComponentLimits};
use crate::restore::RunningActor;

/// Longest time that invocations of an actor have to end when it is stopped. Those that still run then are left alone:
/// each has a deadline of its own.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long after a replacement has failed the end of what it was to replace is taken for a part of it.
const NOT_REPLACED_MAX: Duration = Duration::from_secs(10);

/// What an actor is to be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    pub(crate) count: u32,
    pub(crate) config: Vec<String>,
    pub(crate) annotations: Map,
    /// Those of a running version stay where none are given.
    pub(crate) limits: Option<ComponentLimits>,
    /// The content and subject that it had, where it is restored.
    pub(crate) was: Option<Was>,
}

/// What was running before the host stopped.
#[derive(Debug, Clone)]
pub(crate) struct Was {
    pub(crate) content_hash: String,
    pub(crate) subject: String,
    /// The reference with the digest of what was fetched.
    pub(crate) resolved: Option<String>,
}

/// Whether another reference, or other content of the same one, may replace what runs. Another reference that may not is
/// passed over; other content that may not is an error, because nothing else would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherReference {
    /// That is what the command is for.
    Replaces,
    /// It may, if there is one.
    MayReplace,
    IsIgnored,
}

/// What a version that was replaced was called.
struct Replaced {
    reference: String,
    annotations: Map,
}

impl Wanted {
    /// What the actor is started with.
    pub(super) fn settings(&self, running: Option<&Actor>) -> ActorSettings {
        let limits = self.limits.or_else(|| running.map(Actor::limits));
        ActorSettings {
            count: self.count,
            config: self.config.clone(),
            annotations: self.annotations.clone(),
            limits: limits.unwrap_or_default(),
        }
    }

    /// What to say where the command names another reference than the one that runs, and that one stays.
    pub(crate) fn passed_over(&self, running: &Actor, other: OtherReference) -> Option<String> {
        let is_rival = are_rivals(
            scaler_of(&self.annotations),
            scaler_of(&running.annotations()),
        );
        let stays = other == OtherReference::IsIgnored && !is_rival;
        (stays && running.reference != self.reference).then(|| {
            format!(
                "`{}` keeps running `{}`; allow an update to replace it by `{}`",
                self.id, running.reference, self.reference
            )
        })
    }

    /// What the command is for.
    pub(crate) fn purpose(&self, other: OtherReference) -> Purpose {
        let scaler = scaler_of(&self.annotations).map(str::to_owned);
        if self.count == 0 {
            return Purpose::Stop { scaler };
        }
        Purpose::Run {
            reference: self.reference.clone(),
            scaler,
            replaces: other != OtherReference::IsIgnored,
        }
    }
}

impl HostInner {
    /// Brings an actor to what is wanted, and tells the lattice what came of it. `arrived` is when the command did.
    pub(crate) async fn scale(
        &self,
        wanted: Wanted,
        other: OtherReference,
        arrived: Instant,
        moot: CancellationToken,
    ) {
        let running = self.router.actor(&wanted.id);
        if wanted.count == 0 {
            self.stop_actor(wanted, running, arrived).await;
            return;
        }
        let former = running.as_ref().map(|running| Replaced {
            reference: running.reference.clone(),
            annotations: running.annotations(),
        });
        let scaled = match &running {
            Some(running) => self.scale_running(running, &wanted, other, &moot).await,
            None => self.start_persistently(&wanted, None, &moot).await,
        };
        match scaled {
            Ok(actor) => {
                let replaced = former.filter(|former| is_another_scaler(former, &wanted));
                self.actor_scaled(&actor, replaced, wanted.was.is_some())
                    .await;
            }
            Err(error) => self.scale_failed(&wanted, &error),
        }
    }

    async fn scale_running(
        &self,
        running: &Arc<Actor>,
        wanted: &Wanted,
        other: OtherReference,
        moot: &CancellationToken,
    ) -> Result<Arc<Actor>, ActorError> {
        let scaler = scaler_of(&wanted.annotations);
        let is_rival = are_rivals(scaler, scaler_of(&running.annotations()));
        // Another scaler's version takes the place of what its manager is about to end (D12).
        let other = match other {
            OtherReference::IsIgnored if is_rival => OtherReference::MayReplace,
            other => other,
        };
        let looking = self.is_to_be_replaced(running, &wanted.reference, other);
        if self.unless_moot(moot, looking).await? {
            let started = self.start_persistently(wanted, Some(running), moot).await;
            if started.is_err() && is_rival {
                running.note_not_replaced();
            }
            return started;
        }
        let settings = wanted.settings(Some(running));
        running.check(&settings)?;
        running.apply(settings);
        Ok(Arc::clone(running))
    }

    /// Replaces the component of a running actor, with the settings that it has.
    pub(crate) async fn update(
        &self,
        id: EntityId,
        reference: String,
        annotations: Option<Map>,
        moot: CancellationToken,
    ) {
        let running = self.router.actor(&id);
        let mut wanted = Wanted {
            id: id.clone(),
            reference,
            count: 0,
            config: Vec::new(),
            annotations: annotations.unwrap_or_default(),
            limits: None,
            was: None,
        };
        let Some(running) = running else {
            self.scale_failed(&wanted, &ActorError::NotRunning { id });
            return;
        };
        wanted.count = running.count();
        wanted.config = running.config().to_vec();
        if wanted.annotations.is_empty() {
            wanted.annotations = running.annotations();
        }
        self.scale(wanted, OtherReference::Replaces, Instant::now(), moot)
            .await;
    }

    async fn stop_actor(&self, wanted: Wanted, running: Option<Arc<Actor>>, arrived: Instant) {
        if let Some(running) = &running {
            let (scaler, annotations) = (scaler_of(&wanted.annotations), running.annotations());
            let manager = scaler_of(&annotations);
            if are_rivals(scaler, manager) {
                // Of this scaler nothing runs any more, and what runs is another's.
                self.tell_ended(&wanted, None);
                self.tell_scaled(running, false);
                return;
            }
            let is_replacing = scaler.is_some()
                && running
                    .take_not_replaced()
                    .is_some_and(|failed| arrived <= failed + NOT_REPLACED_MAX);
            if is_replacing {
                let error = ActorError::NotReplaced {
                    id: wanted.id.clone(),
                    reference: running.reference.clone(),
                };
                self.scale_failed(&wanted, &error);
                return;
            }
        }
        let removed = self.router.remove_actor(&wanted.id);
        let kept_id = wanted.id.clone();
        self.keep(move |file| file.remove_actor(&kept_id)).await;
        if let Some(actor) = &removed {
            self.roster_changed();
            if !actor.idle(DRAIN_MAX).await {
                tracing::warn!(actor_id = %wanted.id, running = actor.running(), "stopped, while invocations still run");
            }
        }
        tracing::info!(actor_id = %wanted.id, "actor stopped");
        self.tell_ended(&wanted, removed.as_deref());
    }

    /// Keeps for a restart what runs now, and tells the lattice.
    async fn actor_scaled(&self, actor: &Actor, replaced: Option<Replaced>, restored: bool) {
        self.roster_changed();
        let entry = RunningActor {
            reference: actor.reference.clone(),
            resolved: Some(actor.resolved.clone()),
            content_hash: actor.content_hash(),
            subject: actor.claims().subject.to_string(),
            count: actor.count(),
            config: actor.config().to_vec(),
            annotations: actor.annotations(),
            limits: actor.limits(),
        };
        let id = actor.id.clone();
        self.keep(move |file| file.put_actor(&id, entry)).await;
        tracing::info!(actor_id = %actor.id, reference = actor.reference, count = actor.count(), restored, "actor scaled");
        if let Some(replaced) = replaced {
            // First, since who counts by id alone takes the last word for it.
            self.events
                .publish(&EventData::ComponentScaled(ComponentScaled {
                    annotations: replaced.annotations,
                    host_id: self.id.to_string(),
                    image_ref: replaced.reference,
                    component_id: actor.id.to_string(),
                    ..ComponentScaled::default()
                }));
        }
        self.tell_scaled(actor, restored);
    }

    fn tell_scaled(&self, actor: &Actor, restored: bool) {
        self.events
            .publish(&EventData::ComponentScaled(ComponentScaled {
                annotations: actor.annotations(),
                host_id: self.id.to_string(),
                image_ref: actor.reference.clone(),
                max_instances: actor.count(),
                component_id: actor.id.to_string(),
                public_key: Some(actor.claims().subject.to_string()),
                claims: Some(claims_for_people(actor.claims())),
                restored,
            }));
    }

    /// Tells that nothing runs any more of what a command named. What ran has the word about itself: its manager knows it
    /// by its own annotations.
    fn tell_ended(&self, wanted: &Wanted, ended: Option<&Actor>) {
        let mut scaled = ComponentScaled {
            annotations: wanted.annotations.clone(),
            host_id: self.id.to_string(),
            image_ref: wanted.reference.clone(),
            component_id: wanted.id.to_string(),
            ..ComponentScaled::default()
        };
        if let Some(actor) = ended {
            scaled.image_ref.clone_from(&actor.reference);
            scaled.annotations = actor.annotations();
            scaled.public_key = Some(actor.claims().subject.to_string());
            scaled.claims = Some(claims_for_people(actor.claims()));
        }
        self.events.publish(&EventData::ComponentScaled(scaled));
    }

    fn scale_failed(&self, wanted: &Wanted, error: &ActorError) {
        let (id, reference) = (&wanted.id, &wanted.reference);
        let text = with_causes(error);
        tracing::warn!(actor_id = %id, reference, code = error.code(), error = text, "actor not scaled");
        self.events
            .publish(&EventData::ComponentScaleFailed(ComponentScaleFailed {
                annotations: wanted.annotations.clone(),
                component_id: id.to_string(),
                host_id: self.id.to_string(),
                image_ref: reference.clone(),
                max_instances: wanted.count,
                error: text,
                code: Some(error.code().to_owned()),
                public_key: None,
                restored: wanted.was.is_some(),
            }));
    }

    /// Changes the file of what runs, where blocking does no harm. What the disk has not confirmed by then, it does
    /// behind the answer; a host that stops waits for it.
    pub(super) async fn keep(
        &self,
        change: impl FnOnce(&crate::restore::RunningFile) + Send + 'static,
    ) {
        let file = Arc::clone(&self.running);
        if tokio::task::spawn_blocking(move || change(&file))
            .await
            .is_err()
        {
            tracing::error!("what runs here is not kept for a restart");
        }
        let file = Arc::clone(&self.running);
        self.tasks.spawn_blocking(move || file.settle());
    }
}

/// Whether what ran was another scaler's, which has to learn that it runs no more.
fn is_another_scaler(former: &Replaced, wanted: &Wanted) -> bool {
    are_rivals(
        scaler_of(&former.annotations),
        scaler_of(&wanted.annotations),
    )
}
