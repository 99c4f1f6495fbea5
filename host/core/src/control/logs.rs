//! The log of an actor: `wash logs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trellis_protocol::control::ReadLogs;
use trellis_protocol::control::observe::{LOGS_INTERFACE, LogRecord, RECENT_LINES_MAX};
use trellis_protocol::{EntityId, Refusal, RefusalCode};

use super::watch::{Sender, check_leave, not_here, series, within};
use super::{Answer, Asked, refused};
use crate::host::{HostInner, OPERATOR_ID};
use crate::observe::logs::{FOLLOWERS_MAX, Follower, Line};
use crate::observe::shown::rfc3339;

pub(super) fn logs(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let request: ReadLogs = asked.parse()?;
    let id = request.component_id.clone();
    let shared = asked.shared;
    let within = within(request.within_ms, Duration::ZERO);
    let follower = open(shared, &request).map_err(|refusal| {
        tracing::warn!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %id, %refusal, "an operator was not let read a log");
        refused(refusal.to_string())
    })?;
    tracing::info!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %id, within_ms = within.as_millis(), "an operator reads the log of an actor");
    let accepted = format!("the log of `{id}` on this host");
    let until = Instant::now() + within;
    let writer = Writer {
        actor: id,
        host: Arc::clone(&shared.id),
        last: request.after,
    };
    Ok(series(&shared.guests, accepted, move |sender| {
        tell(writer, follower, sender, until)
    }))
}

/// Whoever only wants the lines that are kept takes a reader's place as well, for as long as it takes to send them.
fn open(shared: &HostInner, request: &ReadLogs) -> Result<Follower, Refusal> {
    let id = &request.component_id;
    check_leave(shared, id, LOGS_INTERFACE)?;
    let observe = shared.router.observe();
    // An actor that was stopped is still read about: its last lines may say why.
    let observed = match shared.router.actor(id) {
        Some(actor) => Some(Arc::clone(actor.observed(&shared.router))),
        None => observe.find(id).filter(|observed| observed.log.is_used()),
    };
    let observed = observed.ok_or_else(|| match shared.router.provider(id) {
        Some(_) => Refusal::new(
            RefusalCode::UnknownOperation,
            format!("`{id}` is a provider, whose output is in the log of its host alone"),
        ),
        None => not_here(shared, id),
    })?;
    let lines = request.lines.unwrap_or(RECENT_LINES_MAX) as usize;
    let follower = observe.follow(&observed, lines, request.after);
    follower.ok_or_else(|| {
        Refusal::new(
            RefusalCode::Overloaded,
            format!("{FOLLOWERS_MAX} readers follow logs of this host already"),
        )
        .with_remedy("wait for one of them to end, a minute at most")
    })
}

async fn tell(mut writer: Writer, mut follower: Follower, mut sender: Sender, until: Instant) {
    let mut is_heard = true;
    for line in std::mem::take(&mut follower.kept) {
        is_heard = is_heard && sender.record(writer.record(&line)).await;
    }
    if is_heard && until > Instant::now() {
        let telling = async {
            while let Some(line) = follower.further.recv().await {
                if !sender.record(writer.record(&line)).await {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout_at(until, telling).await;
    }
    // What is missing is told to whoever goes on after the last line.
    sender.end(0).await;
}

/// Makes records of lines, and notices gaps in their numbers.
struct Writer {
    actor: EntityId,
    host: Arc<str>,
    last: Option<u64>,
}

impl Writer {
    fn record(&mut self, line: &Line) -> LogRecord {
        let missing = |last: u64| line.sequence.saturating_sub(last.saturating_add(1));
        let dropped = self.last.replace(line.sequence).map_or(0, missing);
        LogRecord {
            time: rfc3339(line.at),
            sequence: line.sequence,
            level: line.level.to_owned(),
            actor: self.actor.to_string(),
            host: self.host.to_string(),
            invocation_id: Some(line.invocation.to_string()),
            trace_id: line.trace.as_deref().map(str::to_owned),
            stream: line.stream,
            context: line.context.as_deref().map(str::to_owned),
            message: line.message.to_string(),
            dropped,
        }
    }
}
