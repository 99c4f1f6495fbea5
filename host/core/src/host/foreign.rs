//! Noticing hosts of other software in the lattice, and saying what that means.
//!
//! The control interface is not this project's alone: a lattice may hold hosts of wasmCloud 1.x while it is moved over. They
//! answer the same questions and share links and configurations. They do not take calls from these hosts, nor make any; they
//! write the state without looking at what others write; and which of the hosts answers a question to all is chance.
//!
//! Hosts of this project say what they are in the key `software`, when they are asked and when they start. It proves
//! nothing, and nothing but a warning depends on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use trellis_lattice::connection::Connection;
use trellis_protocol::control::{HostDescription, parse_reply};
use trellis_protocol::event::{Event, EventData};

use super::inner::HostInner;

/// How long others have to answer the question who is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Hosts that are warned of by name. More are no more news.
const WARNINGS_MAX: usize = 32;

/// Asks once who is there, then listens for those who start. Runs until the host ends.
pub(super) async fn watch(shared: Arc<HostInner>, connection: Connection) {
    let mut warned = HashSet::new();
    let started = connection.subjects().event("host_started");
    let Ok(started) = connection.control.subscribe(started).await else {
        return;
    };
    match ask(&connection).await {
        Ok(answers) => who_is_there(answers, &shared, &mut warned).await,
        Err(error) => {
            tracing::debug!(%error, "it is not known whether other software is in the lattice")
        }
    }
    who_starts(started, &shared, &mut warned).await;
}

async fn ask(
    connection: &Connection,
) -> Result<Subscriber, Box<dyn std::error::Error + Send + Sync>> {
    let client = &connection.control;
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await?;
    let ping = connection.subjects().control("host", "ping");
    client
        .publish_with_reply(ping, inbox, bytes::Bytes::new())
        .await?;
    Ok(answers)
}

async fn who_is_there(mut answers: Subscriber, shared: &HostInner, warned: &mut HashSet<String>) {
    let until = Instant::now() + ANSWERS_WITHIN;
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        let Ok(envelope) = parse_reply::<HostDescription>(&answer.payload) else {
            continue;
        };
        if let Some(host) = envelope.response.filter(|host| host.software.is_none()) {
            warn(shared, warned, &host.id, host.version.as_deref());
        }
    }
}

async fn who_starts(mut started: Subscriber, shared: &HostInner, warned: &mut HashSet<String>) {
    while let Some(message) = started.next().await {
        let Ok(event) = Event::parse(&message.payload) else {
            continue;
        };
        if let Ok(Some(EventData::HostStarted(host))) = event.typed()
            && host.software.is_none()
        {
            warn(shared, warned, &event.source, Some(&host.version));
        }
    }
}

fn warn(shared: &HostInner, warned: &mut HashSet<String>, host: &str, version: Option<&str>) {
    if host == &*shared.id || warned.len() >= WARNINGS_MAX || !warned.insert(host.to_owned()) {
        return;
    }
    tracing::warn!(
        host,
        version,
        lattice = shared.lattice,
        "a host of other software is in this lattice: control requests, links and configurations are shared with it, calls \
         between it and the hosts of Trellis are not possible, and what it writes may undo what was written here at the same \
         moment; keep such a lattice only while you move over"
    );
}
