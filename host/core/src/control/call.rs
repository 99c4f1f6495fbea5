//! Calls that operators make of actors: `wash call`.
//!
//! Denied by default like every other call. The caller's id is `wash`, so an operator allows such calls by a link from
//! `wash` to the actor, and takes the permission back by deleting it. HTTP reaches an actor wherever it runs. A function is
//! called on the host that was asked, because its arguments are JSON, which only the actor's own types give a meaning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio_util::sync::CancellationToken;
use trellis_lattice::state::Bucket;
use trellis_protocol::control::call::{Base64, REPLY_BODY_BYTES_MAX};
use trellis_protocol::control::{
    Ack, CallComponent, CallOperation, CallReply, Envelope, FunctionCall, HttpCall, HttpReply,
    REPLY_BYTES_MAX,
};
use trellis_protocol::limits::{DEADLINE_DEFAULT, DEADLINE_MAX};
use trellis_protocol::shape::TYPE_HASH_HTTP;
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::http::{INCOMING_HANDLER, full};
use trellis_provider_sdk::{BodyError, HttpRequest};

use super::config::CAUGHT_UP_WAIT;
use super::json::{from_result, to_params};
use super::watch::{has_link, not_here};
use super::{Answer, Asked};
use crate::host::{HostInner, OPERATOR_ID, on};
use crate::invocation::Invocation;
use crate::observe::span::trace_id;
use crate::value::{decode_result, encode_params};

pub(super) fn call(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let call: CallComponent = asked.parse()?;
    let shared = Arc::clone(asked.shared);
    let traceparent = asked.traceparent.clone();
    // The guest runs where guests run. Dropping the wait stops it.
    let work = on(&asked.shared.guests, async move {
        let (target, id) = (call.component_id.clone(), InvocationId::random());
        let trace = traceparent.clone();
        let called = carry_out(&shared, call, (id, traceparent)).await;
        let trace_id = trace.as_deref().and_then(trace_id);
        match &called {
            Ok(_) => {
                tracing::info!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %target, invocation_id = %id, trace_id, "an operator called an actor");
            }
            Err(refusal) => {
                tracing::warn!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %target, invocation_id = %id, trace_id, %refusal, "an operator's call was refused");
            }
        }
        called
    });
    Ok(Answer::Later(Box::pin(async move {
        let reply = match work.await {
            Ok(Ok(reply)) => Envelope::answer(reply).to_bytes(),
            Ok(Err(refusal)) => Ack::refused(refusal.to_string()).to_bytes(),
            Err(_) => {
                Ack::refused("the call was interrupted: the host is shutting down").to_bytes()
            }
        };
        if reply.len() <= REPLY_BYTES_MAX {
            return reply;
        }
        let what = format!(
            "the result has {} bytes as JSON, a reply holds {REPLY_BYTES_MAX}",
            reply.len()
        );
        Ack::refused(Refusal::new(RefusalCode::TooLarge, what).to_string()).to_bytes()
    })))
}

async fn carry_out(
    shared: &Arc<HostInner>,
    call: CallComponent,
    (id, traceparent): (InvocationId, Option<Arc<str>>),
) -> Result<CallReply, Refusal> {
    let within = call
        .deadline_ms
        .map_or(DEADLINE_DEFAULT, |ms| Duration::from_millis(u64::from(ms)))
        .min(DEADLINE_MAX);
    let caller = Caller {
        shared,
        id,
        target: call.component_id,
        deadline: Instant::now() + within,
        traceparent,
    };
    caller.hear_of_link(&call.operation).await;
    let called = match call.operation {
        CallOperation::Http(call) => caller.http(call).await.map(CallReply::Http),
        CallOperation::Function(call) => caller.function(call).await.map(CallReply::Result),
    };
    called.map_err(|refusal| caller.explain(refusal))
}

/// An operator's one call.
struct Caller<'a> {
    shared: &'a Arc<HostInner>,
    id: InvocationId,
    target: EntityId,
    deadline: Instant,
    traceparent: Option<Arc<str>>,
}

impl Caller<'_> {
    fn invocation(&self, operation: Operation, type_hash: u64, payload: Bytes) -> Invocation {
        Invocation {
            id: self.id,
            source: EntityId::new(OPERATOR_ID).expect("the constant is an id"),
            target: self.target.clone(),
            operation,
            link: LinkName::default(),
            deadline: self.deadline,
            depth: 0,
            type_hash,
            idempotent: false,
            lease: self.shared.router.new_lease(),
            chain: Arc::default(),
            traceparent: self.traceparent.clone(),
            cancel: CancellationToken::new(),
            payload,
        }
    }

    /// Whoever puts a link and calls a moment later may meet two hosts: where there is no link, this waits for what others
    /// have acknowledged.
    async fn hear_of_link(&self, operation: &CallOperation) {
        let interface = match operation {
            CallOperation::Http(_) => INCOMING_HANDLER,
            CallOperation::Function(call) => &call.interface,
        };
        if !has_link(self.shared, &self.target, interface) {
            let state = &self.shared.state;
            state.caught_up(Bucket::LatticeData, CAUGHT_UP_WAIT).await;
        }
    }

    async fn http(&self, call: HttpCall) -> Result<HttpReply, Refusal> {
        let operation = Operation::new(INCOMING_HANDLER, "handle");
        let mut invocation = self.invocation(operation, TYPE_HASH_HTTP, Bytes::new());
        let request = request(&self.target, call)?;
        invocation.idempotent = request.method().is_idempotent();
        // The body is read here, so that whatever the guest still does ends with this call.
        let cancel = invocation.cancel.clone().drop_guard();
        let response = self.shared.router.http(invocation, request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, REPLY_BODY_BYTES_MAX).collect();
        let body = tokio::time::timeout_at(self.deadline.into(), body)
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::DeadlineExceeded,
                    "the response's body did not end in time",
                )
            })?
            .map_err(|error| body_refusal(&*error))?;
        drop(cancel);
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        });
        Ok(HttpReply {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: Base64(body.to_bytes()),
        })
    }

    async fn function(&self, call: FunctionCall) -> Result<serde_json::Value, Refusal> {
        let operation = Operation::new(&call.interface, &call.function);
        let router = &self.shared.router;
        let Some(actor) = router.actor(&self.target) else {
            return Err(self.not_here());
        };
        // Asked before the arguments are read: who may not call learns nothing about the function.
        router.target(
            &EntityId::new(OPERATOR_ID).expect("the constant is an id"),
            &LinkName::default(),
            &operation.interface,
        )?;
        let shape = actor
            .shape_of(&call.interface, &call.function)
            .ok_or_else(|| {
                let exports: Vec<_> = actor.exports().collect();
                Refusal::new(
                    RefusalCode::UnknownOperation,
                    format!("`{}` does not export `{operation}`", self.target),
                )
                .with_remedy(if exports.is_empty() {
                    "it exports no function of its own".to_owned()
                } else {
                    format!("it exports {}", exports.join(", "))
                })
            })?;
        let params = to_params(&shape, &call.args)
            .map_err(|reason| Refusal::new(RefusalCode::BadPayload, reason))?;
        let payload = encode_params(&shape, &params)?;
        let invocation = self.invocation(operation, shape.type_hash(), payload.into());
        let (result, _) = router.invoke(invocation).await?;
        let result = decode_result(&shape, &result)?;
        Ok(from_result(&shape, result.as_ref()))
    }

    fn not_here(&self) -> Refusal {
        let refusal = not_here(self.shared, &self.target);
        Refusal {
            message: match refusal.code {
                RefusalCode::NotHere => {
                    format!("{}, and arguments in JSON need its types", refusal.message)
                }
                _ => refusal.message,
            },
            ..refusal
        }
    }

    /// Says the very command that allows the call.
    fn explain(&self, refusal: Refusal) -> Refusal {
        if refusal.code != RefusalCode::NoLink {
            return refusal;
        }
        let remedy = refusal.remedy.as_deref().unwrap_or_default();
        let remedy = remedy.replace("<target>", self.target.as_str());
        if remedy.is_empty() {
            return refusal;
        }
        refusal.with_remedy(remedy)
    }
}

fn request(target: &EntityId, call: HttpCall) -> Result<HttpRequest, Refusal> {
    let malformed = |error: http::Error| {
        Refusal::new(
            RefusalCode::BadPayload,
            format!("this is no HTTP request: {error}"),
        )
    };
    let authority = call.authority.unwrap_or_else(|| target.to_string());
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(call.path)
        .build()
        .map_err(malformed)?;
    let mut request = http::Request::builder()
        .method(call.method.as_str())
        .uri(uri);
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    request.body(full(call.body.0)).map_err(malformed)
}

fn body_refusal(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Refusal {
    if error.is::<LengthLimitError>() {
        return Refusal::new(
            RefusalCode::TooLarge,
            format!(
                "the response's body exceeds {REPLY_BODY_BYTES_MAX} bytes, which is what a reply holds"
            ),
        );
    }
    match error.downcast_ref::<BodyError>() {
        Some(BodyError::Refused(refusal)) => refusal.clone(),
        _ => Refusal::new(
            RefusalCode::Cancelled,
            format!("the response's body did not end: {error}"),
        ),
    }
}
