//! Providers of a host: started, stopped, asked how they are, and told of when they change by themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trellis_artifacts::Reference;
use trellis_claims::provider::ProviderClaims;
use trellis_lattice::state::{MissingConfig, WriteError};
use trellis_protocol::EntityId;
use trellis_protocol::control::{Map, PublicClaims};
use trellis_protocol::event::{
    self, EventData, HealthCheck, ProviderStartFailed, ProviderStarted, ProviderStopped,
};
use trellis_provider_sdk::Health;

use super::actor_error::with_causes;
use super::commands::Purpose;
use super::control_runtime::on;
use super::inner::{HostInner, OPERATOR_ID};
use super::progress::Progress;
use super::starting::{RESTORE_ATTEMPTS_MAX, RESTORE_PAUSE_MAX, RESTORE_PAUSE_MIN};
use crate::artifact::{ArtifactError, provider_meant, unknown};
use crate::provider::process::program::{in_directory, names_in_directory};
use crate::provider::process::{IsolationOptions, Phase, PhaseWatch};
use crate::provider::{ProviderSource, ProviderStart, ProviderStartError, RunningProvider};
use crate::restore;

/// Time that a provider has to finish its work when it is stopped.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long a configuration that the state lacks is waited for: it may have been put through another host a moment ago.
const CONFIG_WAIT: Duration = Duration::from_secs(1);

/// The link name that events for older clients hold.
const LINK_NAME: &str = "default";

/// Why a provider was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ProviderError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("`{id}` runs on this host already")]
    Running { id: EntityId },
    #[error("`{id}` is the id of an actor; choose another id")]
    IsActor { id: EntityId },
    #[error("the id `{OPERATOR_ID}` stands for operators who call actors; choose another id")]
    Reserved,
    #[error("{0}; put it first")]
    Config(#[from] MissingConfig),
    #[error(transparent)]
    Start(#[from] ProviderStartError),
    #[error("{0}")]
    State(#[from] WriteError),
    /// A later command wants something else.
    #[error("it was stopped before it was there")]
    Superseded,
    #[error(
        "the provider could not be started: the host is shutting down, or the provider panicked"
    )]
    Interrupted,
}

impl ProviderError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Artifact(error) => error.code(),
            Self::Running { .. } => "already-running",
            Self::IsActor { .. } => "id-of-an-actor",
            Self::Reserved => "id-reserved",
            Self::Config(_) => "config-missing",
            Self::Start(error) => error.code(),
            Self::State(_) => "state-unavailable",
            Self::Superseded => "superseded",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a provider is to be.
#[derive(Debug, Clone)]
pub(crate) struct WantedProvider {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    pub(crate) config: Vec<String>,
    pub(crate) annotations: Map,
    /// What it was, where it is restored.
    pub(crate) was: Option<WasProvider>,
}

/// What was running before the host stopped.
#[derive(Debug, Clone)]
pub(crate) struct WasProvider {
    /// The reference with the digest of what was fetched, if it was.
    pub(crate) resolved: Option<String>,
}

/// What a provider's reference means.
pub(crate) enum ProviderPlace {
    /// It is at hand.
    Here(ProviderSource),
    /// It is to be fetched.
    Elsewhere(Reference),
}

impl WantedProvider {
    /// What the command is for.
    pub(crate) fn purpose(&self) -> Purpose {
        Purpose::Run {
            reference: self.reference.clone(),
            scaler: None,
            replaces: false,
        }
    }
}

impl HostInner {
    /// What a reference means: a file, a provider that is built in, one of the directory of providers, or an archive that
    /// is had from elsewhere, in this order. Whether that can be run is looked at when it is.
    pub(crate) fn provider_place(&self, reference: &str) -> Result<ProviderPlace, ArtifactError> {
        if let Ok(Reference::File(_)) = reference.parse() {
            return Ok(ProviderPlace::Elsewhere(self.reference(reference)?));
        }
        let name = provider_meant(reference, &self.provider_aliases);
        if let Some(factory) = self.factories.iter().find(|factory| factory.name() == name) {
            let source = ProviderSource::BuiltIn(Arc::clone(factory));
            return Ok(ProviderPlace::Here(source));
        }
        let directory = self.provider_dir.as_deref();
        if let Some(path) = directory.and_then(|directory| in_directory(directory, name)) {
            return Ok(ProviderPlace::Here(ProviderSource::Program(path)));
        }
        // A name alone is none of a registry, and who wrote it wants to know what there is.
        let is_elsewhere = reference.contains('/');
        if is_elsewhere {
            return Ok(ProviderPlace::Elsewhere(self.reference(reference)?));
        }
        let built_in = self
            .factories
            .iter()
            .map(|factory| factory.name().to_owned());
        let found = directory.map(names_in_directory).unwrap_or_default();
        Err(unknown(reference, built_in.chain(found)))
    }

    /// Starts a provider, and tells the lattice what came of it.
    pub(crate) async fn start_provider(
        self: &Arc<Self>,
        wanted: WantedProvider,
        moot: CancellationToken,
    ) {
        let (id, reference) = (wanted.id.clone(), wanted.reference.clone());
        let restored = wanted.was.is_some();
        match self.start_provider_persistently(wanted, &moot).await {
            Ok((provider, resolved)) => {
                let (kept_id, entry) = (
                    id.clone(),
                    restore::RunningProvider {
                        reference,
                        resolved,
                        config: provider.config_names.clone(),
                        annotations: provider.annotations.clone(),
                    },
                );
                self.keep(move |file| file.put_provider(&kept_id, entry))
                    .await;
                tracing::info!(provider_id = %id, name = provider.name, restored, "provider started");
                if let Some(phases) = provider.phases() {
                    let followed = Arc::clone(self).follow(Arc::clone(&provider), phases);
                    self.tasks.spawn_on(followed, &self.guests);
                }
                self.events
                    .publish(&EventData::ProviderStarted(ProviderStarted {
                        host_id: self.id.to_string(),
                        image_ref: provider.reference.clone(),
                        provider_id: id.to_string(),
                        annotations: provider.annotations.clone(),
                        claims: provider.claims().map(provider_claims_for_people),
                        public_key: provider.claims().map(|claims| claims.subject.to_string()),
                        link_name: Some(LINK_NAME.to_owned()),
                        restored,
                        ..ProviderStarted::default()
                    }));
            }
            Err(error) => {
                let text = with_causes(&error);
                tracing::warn!(provider_id = %id, reference, code = error.code(), error = text, "provider not started");
                self.events
                    .publish(&EventData::ProviderStartFailed(ProviderStartFailed {
                        provider_ref: reference,
                        provider_id: id.to_string(),
                        host_id: self.id.to_string(),
                        error: text,
                        code: Some(error.code().to_owned()),
                        link_name: LINK_NAME.to_owned(),
                        restored,
                    }));
            }
        }
    }

    /// One that ran here before is tried again while its source does not answer, as an actor is.
    async fn start_provider_persistently(
        &self,
        wanted: WantedProvider,
        moot: &CancellationToken,
    ) -> Result<(Arc<RunningProvider>, Option<String>), ProviderError> {
        let mut pause = RESTORE_PAUSE_MIN;
        let attempts = match wanted.was {
            Some(_) => RESTORE_ATTEMPTS_MAX,
            None => 1,
        };
        for _ in 1..attempts {
            match self.try_start_provider(wanted.clone(), moot).await {
                Err(ProviderError::Artifact(error)) if error.may_pass() => {
                    tracing::warn!(provider_id = %wanted.id, %error, "the provider is not restored yet");
                }
                other => return other,
            }
            let pausing = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.provider_unless_moot(moot, pausing).await?;
            pause = (pause * 2).min(RESTORE_PAUSE_MAX);
        }
        self.try_start_provider(wanted, moot).await
    }

    async fn try_start_provider(
        &self,
        wanted: WantedProvider,
        moot: &CancellationToken,
    ) -> Result<(Arc<RunningProvider>, Option<String>), ProviderError> {
        let progress =
            Progress::of_provider(self, &wanted.id, &wanted.reference, &wanted.annotations)
                .restoring(wanted.was.is_some());
        let WantedProvider {
            id,
            reference,
            config: config_names,
            annotations,
            was,
        } = wanted;
        if id.as_str() == OPERATOR_ID {
            return Err(ProviderError::Reserved);
        }
        match self.router.provider(&id) {
            // Nothing of it runs any more: whoever starts it again need not stop it before.
            Some(former) if former.has_failed() => {
                self.router.remove_provider(&id);
                former.stop(Duration::ZERO).await;
            }
            Some(_) => return Err(ProviderError::Running { id }),
            None => {}
        }
        if self.router.actor(&id).is_some() || self.state.view().holder(&id).is_some() {
            return Err(ProviderError::IsActor { id });
        }
        let resolved = was.and_then(|was| was.resolved);
        let finding = self.find_provider(&reference, resolved, &progress);
        let (source, resolved) = self.provider_unless_moot(moot, finding).await?;
        progress.starting();
        let config = self.config(&config_names).await?;
        // Written first: a provider that nobody can look up must not be the one that serves.
        self.state.put_component_url(&id, &reference).await?;
        let start = ProviderStart {
            id,
            reference,
            config,
            config_names,
            annotations,
        };
        let router = Arc::clone(&self.router);
        let names = (self.lattice.clone(), self.id.to_string());
        let isolation = IsolationOptions {
            user: self.provider_user.clone(),
            private_paths: self.private_paths.clone(),
        };
        let starting = on(&self.guests, async move {
            RunningProvider::start(source, &router, names, isolation, start).await
        });
        let provider = starting.await.map_err(|_| ProviderError::Interrupted)??;
        self.router.insert_provider(Arc::clone(&provider));
        self.roster_changed();
        self.providers_changed.notify_one();
        Ok((provider, resolved))
    }

    /// What is to run, fetched if it has to be, and then the reference that fetches the same again.
    async fn find_provider(
        &self,
        reference: &str,
        resolved: Option<String>,
        progress: &Progress,
    ) -> Result<(ProviderSource, Option<String>), ProviderError> {
        let named = match self.provider_place(reference)? {
            ProviderPlace::Here(source) => return Ok((source, None)),
            ProviderPlace::Elsewhere(named) => named,
        };
        let same = resolved.and_then(|resolved| self.reference(&resolved).ok());
        let (program, resolved) = self
            .fetch_program(same.as_ref().unwrap_or(&named), progress)
            .await?;
        if let Some(claims) = &program.claims {
            self.state.put_claims(&public_claims(claims)).await?;
        }
        Ok((ProviderSource::Fetched(Box::new(program)), Some(resolved)))
    }

    /// As [`Self::unless_moot`].
    async fn provider_unless_moot<T>(
        &self,
        moot: &CancellationToken,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        tokio::select! {
            biased;
            () = moot.cancelled() => Err(ProviderError::Superseded),
            () = self.cancel.cancelled() => Err(ProviderError::Interrupted),
            done = work => done,
        }
    }

    /// Several named configurations in one.
    async fn config(&self, names: &[String]) -> Result<Map, MissingConfig> {
        let mut changed = self.state.changed();
        let deadline = tokio::time::Instant::now() + CONFIG_WAIT;
        loop {
            changed.mark_unchanged();
            let merged = self.state.view().merged_config(names);
            if merged.is_ok() {
                return merged;
            }
            let waited = tokio::time::timeout_at(deadline, changed.changed()).await;
            if !matches!(waited, Ok(Ok(()))) {
                return merged;
            }
        }
    }

    /// Stops a provider; `false` where none runs under the id.
    pub(crate) async fn stop_provider(&self, id: &EntityId) -> bool {
        let removed = self.router.remove_provider(id);
        if removed.is_some() {
            self.roster_changed();
        }
        // One that does not run may be one that could not be restored so far.
        let kept_id = id.clone();
        self.keep(move |file| file.remove_provider(&kept_id)).await;
        let Some(provider) = removed else {
            return false;
        };
        let stopping = Arc::clone(&provider);
        let stopped = on(&self.guests, async move { stopping.stop(STOP_MAX).await }).await;
        if !matches!(stopped, Ok(true)) {
            tracing::warn!(provider_id = %id, "the provider did not end by itself");
        }
        tracing::info!(provider_id = %id, "provider stopped");
        self.tell_stopped(&provider, "stopped by a command".to_owned());
        true
    }

    fn tell_stopped(&self, provider: &RunningProvider, reason: String) {
        self.events
            .publish(&EventData::ProviderStopped(ProviderStopped {
                host_id: self.id.to_string(),
                provider_id: provider.id.to_string(),
                annotations: provider.annotations.clone(),
                reason,
                instance_id: String::new(),
                public_key: provider
                    .claims()
                    .map(|claims| claims.subject.to_string())
                    .unwrap_or_default(),
                link_name: LINK_NAME.to_owned(),
            }));
    }

    /// Tells of what a provider process does by itself: that it is failing, that it is back, that it was given up.
    async fn follow(self: Arc<Self>, provider: Arc<RunningProvider>, mut phases: PhaseWatch) {
        let check = || HealthCheck {
            host_id: self.id.to_string(),
            provider_id: provider.id.to_string(),
        };
        loop {
            let phase = tokio::select! {
                () = self.cancel.cancelled() => return,
                phase = phases.next() => phase,
            };
            match phase {
                Some(Phase::Up(_)) => {
                    // It knows of no link yet.
                    self.providers_changed.notify_one();
                    self.events.publish(&EventData::HealthCheckPassed(check()));
                }
                Some(Phase::Restarting(_)) => {
                    self.events.publish(&EventData::HealthCheckFailed(check()));
                }
                Some(Phase::Failed(reason)) => {
                    self.roster_changed();
                    self.events.publish(&EventData::HealthCheckFailed(check()));
                    self.tell_stopped(&provider, reason.to_string());
                }
                Some(Phase::Stopped) | None => return,
            }
        }
    }

    /// Asks a provider how it is, and tells the lattice: what it was before decides which event that is.
    pub(super) async fn check_health(
        &self,
        provider: Arc<RunningProvider>,
        was_well: Option<bool>,
    ) -> bool {
        let id = provider.id.clone();
        let health = on(&self.guests, async move { provider.health().await }).await;
        let well = match health {
            Ok(Health::Healthy) => true,
            Ok(Health::Failing(reason)) => {
                if was_well != Some(false) {
                    tracing::warn!(provider_id = %id, reason, "the provider is failing");
                }
                false
            }
            Err(_) => false,
        };
        let check = HealthCheck {
            host_id: self.id.to_string(),
            provider_id: id.to_string(),
        };
        self.events.publish(&match (was_well, well) {
            (Some(before), now) if before == now => EventData::HealthCheckStatus(check),
            (_, true) => EventData::HealthCheckPassed(check),
            (_, false) => EventData::HealthCheckFailed(check),
        });
        well
    }
}

/// What is public of an archive's claims, in the form of the control interface.
fn public_claims(claims: &ProviderClaims) -> PublicClaims {
    PublicClaims {
        call_alias: None,
        issuer: claims.issuer.to_string(),
        name: claims.name.clone(),
        revision: claims.revision.to_string(),
        subject: claims.subject.to_string(),
        tags: None,
        version: claims.version.clone(),
        config_schema: claims.config_schema.clone(),
    }
}

/// An archive's claims as events show them.
fn provider_claims_for_people(claims: &ProviderClaims) -> event::ProviderClaims {
    event::ProviderClaims {
        issuer: claims.issuer.to_string(),
        tags: None,
        name: claims.name.clone(),
        version: claims.version.clone(),
        not_before_human: claims.validity.not_before.to_string(),
        expires_human: claims.validity.expires.to_string(),
    }
}
