//! Actors of a host: started, scaled, replaced and stopped.
//!
//! Nothing of a start is visible before all of it can be: the component is fetched, verified, compiled and linked, its
//! id is taken in the lattice's state, and only then can it be called. A replacement is made ready beside the running
//! version and put in its place in one step, so that no call finds neither; what the former one was doing, it finishes.

use std::sync::Arc;
use std::time::Duration;

use trellis_claims::{ActorClaims, ActorToken, VerifiedComponent};
use trellis_lattice::state::WriteError;
use trellis_protocol::EntityId;
use trellis_protocol::control::{Map, PublicClaims};
use trellis_protocol::event::{ComponentScaleFailed, ComponentScaled, EventData};

use super::inventory::claims_for_people;
use super::shared::{OPERATOR_ID, Shared};
use crate::actor::prepared::Prepared;
use crate::actor::{Actor, ActorSettings, PrepareError};
use crate::artifact::{ArtifactError, component_file, read_component};
use crate::limits::MEMORY_BYTES_DEFAULT;
use crate::restore::RunningActor;

/// Longest time that invocations of an actor have to end when it is stopped. Those that still run then are left alone:
/// each has a deadline of its own.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Why an actor was not started, scaled or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ActorError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(
        "a running id can't be taken over by a component of another issuer or subject: `{id}` belongs to {holder}, this component is {found}"
    )]
    TakeOver {
        id: EntityId,
        holder: String,
        found: String,
    },
    #[error("`{id}` is the id of a provider; choose another id")]
    IsProvider { id: EntityId },
    #[error("the id `{OPERATOR_ID}` stands for operators who call actors; choose another id")]
    Reserved,
    #[error(
        "`{reference}` is not what ran here: its content is {found}, it was {expected}; start it anew if that is meant"
    )]
    Changed {
        reference: String,
        expected: String,
        found: String,
    },
    /// What an actor was started from has been written anew since.
    #[error(
        "`{id}` runs with other content from the same file; `wash scale component … --allow-update` replaces it, or stop it first"
    )]
    OtherContent { id: EntityId },
    #[error("the lattice's state no longer holds `{id}` for {subject}: it is not restored")]
    NotWanted { id: EntityId, subject: String },
    #[error("`{id}` does not run on this host")]
    NotRunning { id: EntityId },
    #[error("{0}")]
    State(#[from] WriteError),
    #[error(
        "the component could not be prepared: the host is shutting down, or the compiler panicked"
    )]
    Interrupted,
    /// Reading or compiling takes longer than anybody waits for.
    #[error("the component was not read and compiled within {} s", PREPARE_MAX.as_secs())]
    TooSlow,
}

impl ActorError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Artifact(error) => error.code(),
            Self::Prepare(error) => error.code(),
            Self::TakeOver { .. } | Self::State(WriteError::IdTaken { .. }) => "id-taken",
            Self::IsProvider { .. } => "id-of-a-provider",
            Self::Reserved => "id-reserved",
            Self::Changed { .. } => "content-changed",
            Self::OtherContent { .. } => "other-content",
            Self::NotWanted { .. } => "not-wanted",
            Self::NotRunning { .. } => "not-running",
            Self::State(_) => "state-unavailable",
            Self::Interrupted => "interrupted",
            Self::TooSlow => "component-too-slow",
        }
    }
}

/// Longest time for reading, verifying and compiling a component. The largest that are taken need a fraction of it.
pub(super) const PREPARE_MAX: Duration = Duration::from_secs(300);

/// Attempts to restore an actor while the state cannot be written: for about ten minutes.
const RESTORE_ATTEMPTS_MAX: u32 = 64;

/// Pause before the second attempt, and the longest between two.
const RESTORE_PAUSE_MIN: Duration = Duration::from_millis(250);
const RESTORE_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What an actor is to be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    pub(crate) settings: ActorSettings,
    /// The content and subject that it had, where it is restored.
    pub(crate) was: Option<Was>,
}

/// What was running before the host stopped.
#[derive(Debug, Clone)]
pub(crate) struct Was {
    pub(crate) content_hash: String,
    pub(crate) subject: String,
}

/// Whether another reference, or other content of the same one, may replace what runs. Another reference that may not is
/// passed over; other content that may not is an error, because nothing else would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherReference {
    Replaces,
    IsIgnored,
}

impl Shared {
    /// Brings an actor to what is wanted, and tells the lattice what came of it.
    pub(crate) async fn scale(&self, wanted: Wanted, other: OtherReference) {
        let told = (
            wanted.id.clone(),
            wanted.reference.clone(),
            wanted.settings.count,
            wanted.settings.annotations.clone(),
        );
        if wanted.settings.count == 0 {
            self.stop_actor(wanted).await;
            return;
        }
        let scaled = match self.router.actor(&wanted.id) {
            Some(running) => self.scale_running(running, wanted, other).await,
            None => self.start_persistently(wanted, None).await,
        };
        match scaled {
            Ok(actor) => self.actor_scaled(&actor).await,
            Err(error) => {
                let (id, reference, count, annotations) = told;
                self.scale_failed(&id, &reference, count, annotations, &error);
            }
        }
    }

    async fn scale_running(
        &self,
        running: Arc<Actor>,
        wanted: Wanted,
        other: OtherReference,
    ) -> Result<Arc<Actor>, ActorError> {
        if self
            .is_to_be_replaced(&running, &wanted.reference, other)
            .await?
        {
            return self.start_persistently(wanted, Some(&running)).await;
        }
        running.check(&wanted.settings)?;
        running.apply(wanted.settings);
        Ok(running)
    }

    /// Replaces the component of a running actor, with the settings that it has.
    pub(crate) async fn update(&self, id: EntityId, reference: String, annotations: Option<Map>) {
        let Some(running) = self.router.actor(&id) else {
            let error = ActorError::NotRunning { id: id.clone() };
            self.scale_failed(&id, &reference, 0, annotations.unwrap_or_default(), &error);
            return;
        };
        let memory = running.memory_bytes_max();
        let settings = ActorSettings {
            count: running.count(),
            config: running.config().to_vec(),
            annotations: annotations.unwrap_or_else(|| running.annotations()),
            memory_bytes_max: (memory != MEMORY_BYTES_DEFAULT).then_some(memory),
        };
        let wanted = Wanted {
            id,
            reference,
            settings,
            was: None,
        };
        self.scale(wanted, OtherReference::Replaces).await;
    }

    /// Starts an actor. One that ran here before is tried again while the lattice's state cannot be written: when a
    /// whole site comes back from a power cut, hosts are there before JetStream has a leader.
    async fn start_persistently(
        &self,
        wanted: Wanted,
        running: Option<&Actor>,
    ) -> Result<Arc<Actor>, ActorError> {
        let mut pause = RESTORE_PAUSE_MIN;
        if wanted.was.is_none() {
            return self.start_actor(wanted, running).await;
        }
        for _ in 0..RESTORE_ATTEMPTS_MAX {
            let attempt = self.start_actor(wanted.clone(), running);
            // Nobody waits for it, and the next start of the host tries it again.
            let Some(attempted) = self.cancel.run_until_cancelled(attempt).await else {
                return Err(ActorError::Interrupted);
            };
            match attempted {
                Err(ActorError::State(error)) => {
                    tracing::warn!(actor_id = %wanted.id, %error, "the actor is not restored yet");
                }
                other => return other,
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(ActorError::Interrupted),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESTORE_PAUSE_MAX);
        }
        self.start_actor(wanted, running).await
    }

    async fn start_actor(
        &self,
        wanted: Wanted,
        running: Option<&Actor>,
    ) -> Result<Arc<Actor>, ActorError> {
        let Wanted {
            id,
            reference,
            settings,
            was,
        } = wanted;
        if id.as_str() == OPERATOR_ID {
            return Err(ActorError::Reserved);
        }
        if self.router.provider(&id).is_some() || self.is_provider_elsewhere(&id) {
            return Err(ActorError::IsProvider { id });
        }
        if let Some(was) = &was
            && self.state.view().holder(&id) != Some(was.subject.as_str())
        {
            let subject = was.subject.clone();
            return Err(ActorError::NotWanted { id, subject });
        }
        let (verified, prepared) = self.prepare(&reference).await?;
        if let Some(was) = was {
            let found = verified.content_hash.to_string();
            if found != was.content_hash {
                return Err(ActorError::Changed {
                    reference,
                    expected: was.content_hash,
                    found,
                });
            }
        }
        prepared.check_memory(settings.memory_limit_bytes())?;
        self.check_owner(&id, &verified.claims, running)?;
        self.announce(&id, &reference, &verified).await?;
        let actor = Actor::new(
            id,
            reference,
            (verified, prepared),
            self.runtime.engine().clone(),
            Arc::clone(&self.budget),
            settings,
        );
        self.router.insert_actor(Arc::clone(&actor));
        Ok(actor)
    }

    /// Fetches, verifies and compiles, on a thread where that may block.
    async fn prepare(&self, reference: &str) -> Result<(VerifiedComponent, Prepared), ActorError> {
        let path = component_file(reference, self.allow_file)?;
        let _turn = self
            .preparing
            .acquire()
            .await
            .map_err(|_| ActorError::Interrupted)?;
        let (runtime, trust) = (self.runtime.clone(), Arc::clone(&self.trust));
        let preparing = tokio::task::spawn_blocking(move || {
            let bytes = read_component(&path)?;
            Ok::<_, ActorError>(runtime.prepare(&bytes, &trust)?)
        });
        // A file system that does not answer keeps a thread, but neither the turn nor the command.
        let (verified, prepared, origin) = tokio::time::timeout(PREPARE_MAX, preparing)
            .await
            .map_err(|_| ActorError::TooSlow)?
            .map_err(|_| ActorError::Interrupted)??;
        tracing::debug!(reference, ?origin, "component prepared");
        Ok((verified, prepared))
    }

    /// An id belongs to the subject that took it, and to the issuer that signed that subject. The subject alone would not
    /// do: any issuer that is trusted can sign a token that names another's subject.
    fn check_owner(
        &self,
        id: &EntityId,
        claims: &ActorClaims,
        running: Option<&Actor>,
    ) -> Result<(), ActorError> {
        let view = self.state.view();
        let stored = view
            .token(id)
            .and_then(|token| ActorToken::decode_unverified(token).ok());
        let owners = running.map(Actor::claims).into_iter().chain(&stored);
        for owner in owners {
            if owner.subject != claims.subject || owner.issuer != claims.issuer {
                return Err(ActorError::TakeOver {
                    id: id.clone(),
                    holder: format!("{} of {}", owner.subject, owner.issuer),
                    found: format!("{} of {}", claims.subject, claims.issuer),
                });
            }
        }
        Ok(())
    }

    /// Takes the id in the lattice's state, and writes what others need to know of the actor.
    async fn announce(
        &self,
        id: &EntityId,
        reference: &str,
        verified: &VerifiedComponent,
    ) -> Result<(), WriteError> {
        let claims = &verified.claims;
        let public = PublicClaims {
            call_alias: claims.call_alias.clone(),
            issuer: claims.issuer.to_string(),
            name: claims.name.clone(),
            revision: claims.revision.to_string(),
            subject: claims.subject.to_string(),
            tags: Some(claims.tags.clone()),
            version: claims.version.clone(),
            config_schema: None,
        };
        self.state
            .put_actor(id, reference, &verified.token, &public)
            .await
    }

    async fn actor_scaled(&self, actor: &Actor) {
        self.roster_changed();
        let memory = actor.memory_bytes_max();
        let entry = RunningActor {
            reference: actor.reference.clone(),
            content_hash: actor.content_hash(),
            subject: actor.claims().subject.to_string(),
            count: actor.count(),
            config: actor.config().to_vec(),
            annotations: actor.annotations(),
            memory_bytes_max: (memory != MEMORY_BYTES_DEFAULT).then_some(memory),
        };
        let id = actor.id.clone();
        self.keep(move |file| file.put_actor(&id, entry)).await;
        tracing::info!(actor_id = %actor.id, reference = actor.reference, count = actor.count(), "actor scaled");
        self.events
            .publish(&EventData::ComponentScaled(ComponentScaled {
                annotations: actor.annotations(),
                host_id: self.id.to_string(),
                image_ref: actor.reference.clone(),
                max_instances: actor.count(),
                component_id: actor.id.to_string(),
                public_key: Some(actor.claims().subject.to_string()),
                claims: Some(claims_for_people(actor.claims())),
            }));
    }

    async fn stop_actor(&self, wanted: Wanted) {
        let Wanted { id, settings, .. } = wanted;
        let removed = self.router.remove_actor(&id);
        let kept_id = id.clone();
        self.keep(move |file| file.remove_actor(&kept_id)).await;
        let mut scaled = ComponentScaled {
            annotations: settings.annotations,
            host_id: self.id.to_string(),
            image_ref: wanted.reference,
            max_instances: 0,
            component_id: id.to_string(),
            public_key: None,
            claims: None,
        };
        if let Some(actor) = removed {
            self.roster_changed();
            if !actor.idle(DRAIN_MAX).await {
                tracing::warn!(actor_id = %id, running = actor.running(), "stopped, while invocations still run");
            }
            scaled.image_ref.clone_from(&actor.reference);
            if scaled.annotations.is_empty() {
                scaled.annotations = actor.annotations();
            }
            scaled.public_key = Some(actor.claims().subject.to_string());
            scaled.claims = Some(claims_for_people(actor.claims()));
        }
        tracing::info!(actor_id = %id, "actor stopped");
        self.events.publish(&EventData::ComponentScaled(scaled));
    }

    fn scale_failed(
        &self,
        id: &EntityId,
        reference: &str,
        count: u32,
        annotations: Map,
        error: &ActorError,
    ) {
        let text = with_causes(error);
        tracing::warn!(actor_id = %id, reference, code = error.code(), error = text, "actor not scaled");
        self.events
            .publish(&EventData::ComponentScaleFailed(ComponentScaleFailed {
                annotations,
                component_id: id.to_string(),
                host_id: self.id.to_string(),
                image_ref: reference.to_owned(),
                max_instances: count,
                error: text,
                code: Some(error.code().to_owned()),
                public_key: None,
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

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
