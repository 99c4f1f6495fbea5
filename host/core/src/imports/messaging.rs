//! `wasmcloud:messaging`, bound with typed values in both directions: a body of bytes stays one (D16).
//!
//! `consumer` is what guests import; its bytes are those of the generated client. [`Message`] is also what a guest's
//! `handler` is called with (see `actor/function.rs`). A refusal reaches the guest as the interface's own error, with the
//! reason, so that an actor can go on where it may not send; only a caller that has gone, or a deadline that has passed,
//! stops it.

use std::sync::Arc;

use bytes::Bytes;
use trellis_protocol::{InvocationId, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::interface::Caller as LatticeCaller;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::actor::instance::State;
use crate::invocation::Invocation;
use crate::router::Router;

trellis_provider_sdk::interfaces!({
    path: ["../../interfaces/wit/wasmcloud-messaging"],
    interfaces: [
        "wasmcloud:messaging/consumer@0.2.0",
        "wasmcloud:messaging/handler@0.2.0",
    ],
});

/// The interface's name as links and choices of links have it.
const CONSUMER: &str = "wasmcloud:messaging/consumer";

/// A message, as guests have it.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Message {
    subject: String,
    body: Vec<u8>,
    #[component(name = "reply-to")]
    reply_to: Option<String>,
}

impl From<types::BrokerMessage> for Message {
    fn from(message: types::BrokerMessage) -> Self {
        Self {
            subject: message.subject,
            body: message.body.into(),
            reply_to: message.reply_to,
        }
    }
}

impl From<Message> for types::BrokerMessage {
    fn from(message: Message) -> Self {
        Self {
            subject: message.subject,
            body: message.body.into(),
            reply_to: message.reply_to,
        }
    }
}

type Answer<T> = wasmtime::Result<(Result<T, String>,)>;

/// What a call over the lattice came to, as the guest sees it.
fn answer<T, U: From<T>>(outcome: Result<Result<T, String>, Refusal>) -> Answer<U> {
    match outcome {
        Ok(answer) => Ok((answer.map(U::from),)),
        Err(refusal)
            if matches!(
                refusal.code,
                RefusalCode::Cancelled | RefusalCode::DeadlineExceeded
            ) =>
        {
            Err(refusal.into())
        }
        Err(refusal) => Ok((Err(refusal.to_string()),)),
    }
}

/// The way over a guest's link, for the generated client.
struct Way {
    router: Arc<Router>,
    template: Invocation,
}

impl Way {
    fn new(state: &mut State) -> Result<Self, Refusal> {
        state.clock.let_go();
        let caller = &state.caller;
        let link = caller.link_for(CONSUMER);
        let target = caller
            .router
            .target(&caller.actor.id, &link, &consumer::INTERFACE.into())?;
        let operation = Operation::new(consumer::INTERFACE, "");
        Ok(Self {
            router: Arc::clone(&caller.router),
            template: caller.invocation(target, operation, link, 0, Bytes::new()),
        })
    }
}

impl LatticeCaller for Way {
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let invocation = Invocation {
            id: InvocationId::random(),
            operation: operation.clone(),
            type_hash,
            payload,
            ..self.template.clone()
        };
        self.router
            .invoke(invocation)
            .await
            .map(|(result, _)| result)
    }
}

async fn request(
    mut store: StoreContextMut<'_, State>,
    (subject, body, timeout_ms): (String, Vec<u8>, u32),
) -> Answer<Message> {
    let outcome = match Way::new(store.data_mut()) {
        Ok(way) => {
            let consumer = consumer::Client(way);
            consumer.request(&subject, &body, timeout_ms).await
        }
        Err(refusal) => Err(refusal),
    };
    answer(outcome)
}

async fn publish(mut store: StoreContextMut<'_, State>, (message,): (Message,)) -> Answer<()> {
    let outcome = match Way::new(store.data_mut()) {
        Ok(way) => consumer::Client(way).publish(&message.into()).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome)
}

/// Binds `consumer` under the name that components import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(consumer::INTERFACE)?;
    instance.func_wrap_async("request", |store, p| Box::new(request(store, p)))?;
    instance.func_wrap_async("publish", |store, p| Box::new(publish(store, p)))
}

#[cfg(test)]
mod tests;
