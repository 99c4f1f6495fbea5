//! From a command to a running actor: fetched, verified, compiled, warm, known to the lattice, and only then called.
//!
//! Up to the moment at which the lattice's state is written nothing is visible to anybody, and everything can be given
//! up: for an error, for a later command that makes it pointless, for the end of the host. What ran under the id before
//! runs until the new version takes its place in one step.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trellis_claims::{ActorClaims, ActorToken, VerifiedComponent};
use trellis_lattice::state::WriteError;
use trellis_protocol::EntityId;
use trellis_protocol::control::PublicClaims;

use super::actor_error::ActorError;
use super::actors::{Wanted, Was};
use super::control_runtime::on;
use super::inner::{HostInner, OPERATOR_ID};
use super::progress::Progress;
use crate::actor::prepared::Prepared;
use crate::actor::{Actor, ActorSettings};

/// Longest time for verifying and compiling a component. The largest that are taken need a fraction of it.
pub(super) const PREPARE_MAX: Duration = Duration::from_secs(300);

/// Attempts to restore something while the state cannot be written or its source does not answer: for about ten minutes.
pub(super) const RESTORE_ATTEMPTS_MAX: u32 = 64;

/// Pause before the second attempt, and the longest between two.
pub(super) const RESTORE_PAUSE_MIN: Duration = Duration::from_millis(250);
pub(super) const RESTORE_PAUSE_MAX: Duration = Duration::from_secs(10);

impl HostInner {
    /// Starts an actor, in place of one that runs if there is one. One that ran here before is tried again while what it
    /// needs is not there yet: when a whole site comes back from a power cut, hosts are there before JetStream has a
    /// leader and before registries are.
    pub(super) async fn start_persistently(
        &self,
        wanted: &Wanted,
        running: Option<&Arc<Actor>>,
        moot: &CancellationToken,
    ) -> Result<Arc<Actor>, ActorError> {
        let mut pause = RESTORE_PAUSE_MIN;
        if wanted.was.is_none() {
            return self.start_actor(wanted, running, moot).await;
        }
        for _ in 0..RESTORE_ATTEMPTS_MAX {
            match self.start_actor(wanted, running, moot).await {
                Err(error) if error.may_pass() => {
                    tracing::warn!(actor_id = %wanted.id, %error, "the actor is not restored yet");
                }
                other => return other,
            }
            let pausing = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.unless_moot(moot, pausing).await?;
            pause = (pause * 2).min(RESTORE_PAUSE_MAX);
        }
        self.start_actor(wanted, running, moot).await
    }

    async fn start_actor(
        &self,
        wanted: &Wanted,
        running: Option<&Arc<Actor>>,
        moot: &CancellationToken,
    ) -> Result<Arc<Actor>, ActorError> {
        let id = &wanted.id;
        if id.as_str() == OPERATOR_ID {
            return Err(ActorError::Reserved);
        }
        if self.router.provider(id).is_some() || self.is_provider_elsewhere(id) {
            return Err(ActorError::IsProvider { id: id.clone() });
        }
        if let Some(was) = &wanted.was {
            self.check_wanted(id, was)?;
        }
        let settings = wanted.settings(running.map(Arc::as_ref));
        let making = self.make_actor(wanted, running, settings);
        let actor = self.unless_moot(moot, making).await?;
        // What is restored stands in the state already: it was looked for there.
        if wanted.was.is_none() || self.state.view().token(id).is_none() {
            self.announce(&actor).await?;
        }
        // The one step. Whoever asks from here on meets the new version, and nobody has met neither.
        self.router.insert_actor(Arc::clone(&actor));
        if let Some(former) = running {
            self.retired.add(former);
        }
        Ok(actor)
    }

    /// Everything that nobody sees: an actor that is ready to be called.
    async fn make_actor(
        &self,
        wanted: &Wanted,
        running: Option<&Arc<Actor>>,
        settings: ActorSettings,
    ) -> Result<Arc<Actor>, ActorError> {
        let (id, reference) = (&wanted.id, &wanted.reference);
        let progress = Progress::of_actor(self, id, reference, &wanted.annotations)
            .restoring(wanted.was.is_some());
        let progress = Arc::new(progress);
        let resolved = wanted.was.as_ref().and_then(|was| was.resolved.as_deref());
        let component = self
            .fetch_component(reference, resolved, Some(&progress))
            .await?;
        let (verified, prepared) = self.prepare(component.bytes, &progress).await?;
        drop(component.room);
        if let Some(was) = &wanted.was {
            let found = verified.content_hash.to_string();
            if found != was.content_hash {
                return Err(ActorError::Changed {
                    reference: reference.clone(),
                    expected: was.content_hash.clone(),
                    found,
                });
            }
        }
        prepared.check_memory(settings.limits.memory_bytes())?;
        self.check_owner(id, &verified.claims, running.map(Arc::as_ref))?;
        let actor = Actor::new(
            id.clone(),
            (reference.clone(), component.resolved),
            (verified, prepared),
            self.runtime.engine().clone(),
            Arc::clone(&self.budget),
            settings,
        );
        progress.warming();
        let (warming, router) = (Arc::clone(&actor), Arc::clone(&self.router));
        on(&self.guests, async move { warming.warm(&router).await })
            .await
            .map_err(|_| ActorError::Interrupted)?
            .map_err(ActorError::Warm)?;
        Ok(actor)
    }

    /// Verifies and compiles, on a thread where that may block, and in turn with others.
    async fn prepare(
        &self,
        bytes: bytes::Bytes,
        progress: &Arc<Progress>,
    ) -> Result<(VerifiedComponent, Prepared), ActorError> {
        let turn = Arc::clone(&self.preparing)
            .acquire_owned()
            .await
            .map_err(|_| ActorError::Interrupted)?;
        let (runtime, trust) = (self.runtime.clone(), Arc::clone(&self.trust));
        let progress = Arc::clone(progress);
        let preparing = tokio::task::spawn_blocking(move || {
            // A compiler cannot be stopped, so its turn is over when it is.
            let _turn = turn;
            runtime.prepare(&bytes, &trust, |stage| progress.stage(stage))
        });
        let (verified, prepared, origin) = tokio::time::timeout(PREPARE_MAX, preparing)
            .await
            .map_err(|_| ActorError::TooSlow)?
            .map_err(|_| ActorError::Interrupted)??;
        tracing::debug!(hash = %verified.content_hash, ?origin, "component prepared");
        Ok((verified, prepared))
    }

    /// Whether the lattice still wants what ran here before: this id for this subject, with this content. Another version
    /// that was started elsewhere meanwhile is what the lattice wants; restoring this one would roll it back.
    fn check_wanted(&self, id: &EntityId, was: &Was) -> Result<(), ActorError> {
        let view = self.state.view();
        let not_wanted = |what: String| ActorError::NotWanted {
            id: id.clone(),
            what,
        };
        if view.holder(id) != Some(was.subject.as_str()) {
            return Err(not_wanted(was.subject.clone()));
        }
        let stored = view
            .token(id)
            .and_then(|token| ActorToken::decode_unverified(token).ok());
        match stored {
            Some(claims) if claims.content_hash.to_string() != was.content_hash => {
                Err(not_wanted(format!(
                    "the version that ran here ({}), but for another one ({}); start that one",
                    was.content_hash, claims.content_hash
                )))
            }
            _ => Ok(()),
        }
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
    async fn announce(&self, actor: &Actor) -> Result<(), WriteError> {
        let claims = actor.claims();
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
            .put_actor(&actor.id, &actor.reference, actor.token(), &public)
            .await
    }

    /// Carries on until a later command makes the work pointless, or the host ends.
    pub(super) async fn unless_moot<T>(
        &self,
        moot: &CancellationToken,
        work: impl Future<Output = Result<T, ActorError>>,
    ) -> Result<T, ActorError> {
        tokio::select! {
            biased;
            () = moot.cancelled() => Err(ActorError::Superseded),
            () = self.cancel.cancelled() => Err(ActorError::Interrupted),
            done = work => done,
        }
    }
}
