//! An incarnation of a provider process as its host speaks to it: a [`Provider`] like one that is built in, whose words go
//! over the pipe.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use trellis_pipe::{Failure, FailureKind, Pipe, PipeLink, PipeLinkEnd, Question};
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, InvocationHead, Lease, Refusal};
use trellis_provider_sdk::{
    Body, BodyError, Call, Health, HttpRequest, HttpResponse, Link, LinkEnd, LinkError, Provider,
    StartError,
};

use crate::actor::output::printable;

/// Questions for its health that a process may leave unanswered in a row. With one more it is taken for hung, and ended.
const UNANSWERED_MAX: u32 = 2;

/// One incarnation, from its start to its end.
pub(in crate::provider) struct Door {
    id: EntityId,
    pipe: Pipe,
    unanswered: AtomicU32,
}

impl Door {
    pub(super) fn new(id: EntityId, pipe: Pipe) -> Self {
        Self {
            id,
            pipe,
            unanswered: AtomicU32::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn close(&self, why: &str) {
        self.pipe.close(why);
    }

    fn head(&self, call: &Call) -> InvocationHead {
        InvocationHead {
            id: call.id,
            source: call.source.clone(),
            target: self.id.clone(),
            operation: call.operation.clone(),
            link: call.link.clone(),
            // The pipe writes what is left when the frame is sent.
            deadline_ms: 0,
            depth: call.depth,
            type_hash: call.type_hash,
            // Whether it may be repeated is for its caller; a provider has no use for that.
            idempotent: false,
            lease: call.lease.clone(),
            chain: call.chain.to_vec(),
            traceparent: call.traceparent.as_deref().map(str::to_owned),
            // A process has no copy of the lattice's state.
            state_sequence: 0,
        }
    }
}

#[async_trait]
impl Provider for Door {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        let link = PipeLink {
            key: link.key,
            target: link.target,
            interfaces: link.interfaces,
            end: pipe_end(link.end),
            config: link.config,
            generation: link.generation,
        };
        match self.pipe.ask(Question::LinkPut(link)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(link_error(failure)),
            Err(end) => Err(LinkError::Backend {
                reason: format!("the provider's process is gone: {end}"),
            }),
        }
    }

    async fn link_delete(&self, key: &LinkKey, end: LinkEnd) {
        let question = Question::LinkDelete {
            key: key.clone(),
            end: pipe_end(end),
        };
        if let Ok(Err(failure)) = self.pipe.ask(question).await {
            tracing::warn!(provider_id = %self.id, link = %key.name, %failure, "the provider did not let go of a link");
        }
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        let head = self.head(&call);
        self.pipe
            .invoke(head, call.payload, call.deadline, &call.cancel)
            .await
    }

    async fn http(&self, call: Call, request: HttpRequest) -> Result<HttpResponse, Refusal> {
        let head = self.head(&call);
        let request = request.map(|body| body.map_err(Refusal::from).boxed_unsync());
        let response = self
            .pipe
            .http(head, call.deadline, &call.cancel, request)
            .await?;
        Ok(response.map(|body| Body::new(body.map_err(BodyError::Refused))))
    }

    async fn release(&self, lease: &Lease) {
        self.pipe.release(lease.clone()).await;
    }

    async fn release_host(&self, host: &str) {
        self.pipe.release_host(host).await;
    }

    async fn health(&self) -> Health {
        // Counted before it is asked: whoever asks may drop this when it takes too long.
        let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed);
        if unanswered > UNANSWERED_MAX {
            let reason = format!("it left {unanswered} questions for its health unanswered");
            self.pipe.close(reason.clone());
            return Health::Failing(reason);
        }
        match self.pipe.ask(Question::Health).await {
            Ok(answer) => {
                self.unanswered.store(0, Ordering::Relaxed);
                match answer {
                    Ok(()) => Health::Healthy,
                    Err(failure) => Health::Failing(plain(&failure.reason)),
                }
            }
            Err(end) => Health::Failing(format!("its process is gone: {end}")),
        }
    }

    async fn shutdown(&self, within: Duration) {
        if let Ok(Err(failure)) = self.pipe.ask(Question::Shutdown { within }).await {
            tracing::warn!(provider_id = %self.id, %failure, "the provider did not shut down as asked");
        }
    }
}

/// Why a process did not start its provider, in the words of the SDK.
pub(super) fn start_error(failure: Failure) -> StartError {
    match (failure.kind, failure.subject) {
        (FailureKind::Config, Some(key)) => StartError::Config {
            key: plain(&key),
            reason: plain(&failure.reason),
        },
        _ => StartError::Backend(plain(&failure.reason)),
    }
}

fn link_error(failure: Failure) -> LinkError {
    let reason = plain(&failure.reason);
    match (failure.kind, failure.subject, failure.holder) {
        (FailureKind::Config, Some(key), _) => LinkError::Config {
            key: plain(&key),
            reason,
        },
        (FailureKind::Conflict, Some(resource), Some(holder)) => LinkError::Conflict {
            resource: plain(&resource),
            holder,
        },
        _ => LinkError::Backend { reason },
    }
}

/// What a process says, in a form that can do nothing to a terminal: it goes into logs, events and answers to operators.
fn plain(text: &str) -> String {
    printable(text).into_owned()
}

fn pipe_end(end: LinkEnd) -> PipeLinkEnd {
    match end {
        LinkEnd::Source => PipeLinkEnd::Source,
        LinkEnd::Target => PipeLinkEnd::Target,
    }
}
