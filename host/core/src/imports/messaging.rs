//! `wasmcloud:messaging`, bound with typed values in both directions: a body of bytes stays one (D16).
//!
//! `consumer` is what guests import; its bytes are those of the generated client. [`Message`] is also what a guest's
//! `handler` is called with (see `actor/function.rs`). A refusal reaches the guest as the interface's own error, with the
//! reason, so that an actor can go on where it may not send; only a caller that has gone, or a deadline that has passed,
//! stops it.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::way::{self, Outcome, Way, anybody};
use crate::actor::instance::State;

trellis_provider_sdk::interfaces!({
    path: ["../../interfaces/wit/wasmcloud-messaging"],
    interfaces: [
        "wasmcloud:messaging/consumer@0.2.0",
        "wasmcloud:messaging/handler@0.2.0",
    ],
});

/// The interface's names, first as links and choices of links have it.
const CONSUMER: (&str, &str) = ("wasmcloud:messaging/consumer", consumer::INTERFACE);

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

type Answer<T> = way::Answer<T, String>;

/// What a call over the lattice came to, as the guest sees it.
fn answer<T, U: From<T>>(outcome: Outcome<T, String>) -> Answer<U> {
    let outcome = outcome.map(|answer| answer.map(U::from));
    way::answer(outcome, ToString::to_string)
}

async fn request(
    store: StoreContextMut<'_, State>,
    (subject, body, timeout_ms): (String, Vec<u8>, u32),
) -> Answer<Message> {
    let outcome = match Way::by_link(store.data(), CONSUMER, anybody) {
        Ok(way) => {
            let consumer = consumer::Client(&way);
            consumer.request(&subject, &body, timeout_ms).await
        }
        Err(refusal) => Err(refusal),
    };
    answer(outcome)
}

async fn publish(store: StoreContextMut<'_, State>, (message,): (Message,)) -> Answer<()> {
    let outcome = match Way::by_link(store.data(), CONSUMER, anybody) {
        Ok(way) => consumer::Client(&way).publish(&message.into()).await,
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
