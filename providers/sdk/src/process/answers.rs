//! What a provider's process does with what its host sends: questions about its life, and calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;
use trellis_pipe::{
    Failure, FailureKind, Pipe, PipeBody, PipeHandler, PipeLink, PipeLinkEnd, Question,
};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};

use super::guard::{GuardedBody, Panicked, guarded};
use super::way_out::WayOut;
use crate::call::Call;
use crate::http::{Body, BodyError};
use crate::link::{Link, LinkEnd, LinkError};
use crate::provider::{Health, Provider, ProviderFactory, ProviderSetup, StartError};

/// The provider's end of the pipe.
pub(super) struct Answers {
    factory: Arc<dyn ProviderFactory>,
    pipe: Arc<SetOnce<Pipe>>,
    is_asked_to_start: AtomicBool,
    is_shut_down: AtomicBool,
    provider: OnceLock<Arc<dyn Provider>>,
}

impl Answers {
    pub(super) fn new(factory: Arc<dyn ProviderFactory>) -> Self {
        Self {
            factory,
            pipe: Arc::default(),
            is_asked_to_start: AtomicBool::new(false),
            is_shut_down: AtomicBool::new(false),
            provider: OnceLock::new(),
        }
    }

    /// Opens the way to actors.
    pub(super) fn connect(&self, pipe: Pipe) {
        // Called once.
        let _ = self.pipe.set(pipe);
    }

    /// Shuts the provider down, unless that was done before. Returns after the time given at the latest.
    pub(super) async fn shut_down(&self, within: Duration) {
        if self.is_shut_down.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(provider) = self.provider.get() {
            let shutdown = guarded(provider.shutdown(within));
            if tokio::time::timeout(within, shutdown).await.is_err() {
                tracing::warn!("the provider did not shut down in time");
            }
        }
    }

    async fn start(&self, setup: ProviderSetup) -> Result<(), Failure> {
        if self.is_asked_to_start.swap(true, Ordering::AcqRel) {
            return Err(Failure::new(
                FailureKind::Internal,
                "a provider is started once",
            ));
        }
        let provider = guarded(self.factory.start(setup))
            .await?
            .map_err(start_failure)?;
        // Nobody else sets it: the flag above lets one through.
        let _ = self.provider.set(provider);
        Ok(())
    }

    fn started(&self) -> Result<&Arc<dyn Provider>, Failure> {
        self.provider
            .get()
            .ok_or_else(|| Failure::new(FailureKind::Failing, "the provider has not started"))
    }

    fn serving(&self) -> Result<&Arc<dyn Provider>, Refusal> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Refusal::new(
                RefusalCode::Draining,
                "the provider is shutting down",
            ));
        }
        self.provider
            .get()
            .ok_or_else(|| Refusal::new(RefusalCode::NotHere, "the provider has not started"))
    }
}

#[async_trait]
impl PipeHandler for Answers {
    async fn invoke(
        &self,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        let provider = self.serving()?;
        let served = guarded(provider.invoke(call(head, payload, deadline, cancel.clone())));
        within(deadline, &cancel, served).await?
    }

    async fn http(
        &self,
        head: InvocationHead,
        deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PipeBody>,
    ) -> Result<http::Response<PipeBody>, Refusal> {
        let provider = self.serving()?;
        let request = request.map(|body| Body::new(body.map_err(BodyError::Refused)));
        let call = call(head, Bytes::new(), deadline, cancel.clone());
        let served = guarded(provider.http(call, request));
        let response = within(deadline, &cancel, served).await??;
        Ok(response.map(|body| {
            let body = body.map_err(Refusal::from).boxed_unsync();
            PipeBody::new(GuardedBody::new(body))
        }))
    }

    async fn release(&self, lease: Lease) {
        if let Some(provider) = self.provider.get() {
            // The panic is in the log, and there is nobody to tell.
            let _ = guarded(provider.release(&lease)).await;
        }
    }

    async fn release_host(&self, host: String) {
        if let Some(provider) = self.provider.get() {
            let _ = guarded(provider.release_host(&host)).await;
        }
    }

    async fn answer(&self, question: Question) -> Result<(), Failure> {
        match question {
            Question::Start {
                id,
                lattice,
                host,
                config,
            } => {
                let outbound = Arc::new(WayOut {
                    id: id.clone(),
                    host: Arc::from(host.as_str()),
                    pipe: Arc::clone(&self.pipe),
                });
                let setup = ProviderSetup {
                    id,
                    lattice,
                    host,
                    config,
                    outbound,
                };
                self.start(setup).await
            }
            Question::LinkPut(put) => {
                let provider = self.started()?;
                guarded(provider.link_put(link(put)))
                    .await?
                    .map_err(link_failure)
            }
            Question::LinkDelete { key, end } => {
                let provider = self.started()?;
                Ok(guarded(provider.link_delete(&key, link_end(end))).await?)
            }
            Question::Health => match guarded(self.started()?.health()).await? {
                Health::Healthy => Ok(()),
                Health::Failing(reason) => Err(Failure::new(FailureKind::Failing, reason)),
            },
            Question::Shutdown { within } => {
                self.shut_down(within).await;
                Ok(())
            }
        }
    }
}

/// Work ends with its caller: dropping the method's future is how that is said.
async fn within<T>(
    deadline: Instant,
    cancel: &CancellationToken,
    served: impl Future<Output = Result<T, Panicked>>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        result = served => Ok(result?),
        () = cancel.cancelled() => {
            Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone"))
        }
        () = tokio::time::sleep_until(deadline.into()) => Err(Refusal::new(
            RefusalCode::DeadlineExceeded,
            "the deadline passed before there was an answer",
        )),
    }
}

fn call(
    head: InvocationHead,
    payload: Bytes,
    deadline: Instant,
    cancel: CancellationToken,
) -> Call {
    Call {
        id: head.id,
        source: head.source,
        link: head.link,
        operation: head.operation,
        type_hash: head.type_hash,
        payload,
        deadline,
        cancel,
        lease: head.lease,
        depth: head.depth,
        chain: head.chain.into(),
        traceparent: head.traceparent.map(Arc::from),
    }
}

fn link(put: PipeLink) -> Link {
    Link {
        key: put.key,
        target: put.target,
        interfaces: put.interfaces,
        end: link_end(put.end),
        config: put.config,
        generation: put.generation,
    }
}

fn link_end(end: PipeLinkEnd) -> LinkEnd {
    match end {
        PipeLinkEnd::Source => LinkEnd::Source,
        PipeLinkEnd::Target => LinkEnd::Target,
    }
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Config { key, reason } => Failure::new(FailureKind::Config, reason).about(key),
        StartError::Backend(reason) => Failure::new(FailureKind::Backend, reason),
    }
}

fn link_failure(error: LinkError) -> Failure {
    match error {
        LinkError::Config { key, reason } => Failure::new(FailureKind::Config, reason).about(key),
        LinkError::Conflict { resource, holder } => {
            let reason = "another link has it";
            Failure::new(FailureKind::Conflict, reason)
                .about(resource)
                .held_by(holder)
        }
        LinkError::Backend { reason } => Failure::new(FailureKind::Backend, reason),
    }
}

impl From<Panicked> for Failure {
    fn from(_: Panicked) -> Self {
        Self::new(
            FailureKind::Internal,
            "the provider panicked; its log says where",
        )
    }
}
