//! Waiting for what becomes of a command. A host acknowledges first and works then; the outcome is an event.
//!
//! Events are news that anybody who may publish can tell, so nothing here is proof. Only those of the host that has the
//! command count, which keeps apart what several hosts do at once. Subscribe before sending the command.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use trellis_lattice::client::Events;
use trellis_protocol::control::{HostInventory, Map};
use trellis_protocol::event::{Event, EventData};

use crate::connection::Lattice;
use crate::exit::{Failure, FailureKind};
use crate::output::{self, printable};
use crate::placement::Host;
use crate::progress::Progress;

/// What an event says about the command waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is about something else.
    Other,
    /// Work goes on.
    Progress(String),
    /// Done.
    Done,
    /// It failed, in the host's words.
    Failed {
        /// What it says.
        words: String,
        /// Its stable code for that, where it gave one.
        code: Option<String>,
    },
}

impl Verdict {
    const fn failed(words: String, code: Option<String>) -> Self {
        Self::Failed { words, code }
    }
}

/// How often the wait looks whether the connection was lost and made anew.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How an inventory shows that something was reached.
type Reached<'a> = dyn Fn(&HostInventory) -> bool + 'a;

/// What is waited for, and where.
pub struct Awaited<'a> {
    lattice: &'a Lattice,
    host: &'a Host,
    what: &'a str,
    reached: Option<Box<Reached<'a>>>,
}

impl<'a> Awaited<'a> {
    /// The outcome of `what` (`starting hello`) on a host.
    #[must_use]
    pub fn new(lattice: &'a Lattice, host: &'a Host, what: &'a str) -> Self {
        Self {
            lattice,
            host,
            what,
            reached: None,
        }
    }

    /// How an inventory shows that it was reached. Asked only where the connection was lost in between: then the event may
    /// have been told while nobody listened.
    #[must_use]
    pub fn or_in(mut self, reached: impl Fn(&HostInventory) -> bool + 'a) -> Self {
        self.reached = Some(Box::new(reached));
        self
    }

    async fn is_reached(&self) -> bool {
        let Some(reached) = &self.reached else {
            return false;
        };
        let asked = self.lattice.client().inventory(&self.host.id).await;
        asked.is_ok_and(|inventory| reached(&inventory))
    }
}

/// Waits until `judge` says that an event of this host is the outcome of `what` (`starting hello`).
///
/// # Errors
/// Refused with the host's words, or timed out with what to look at.
pub async fn wait(
    events: &mut Events,
    lattice: &Lattice,
    host: &Host,
    what: &str,
    judge: impl Fn(&Event) -> Verdict,
) -> Result<(), Failure> {
    wait_for(events, &Awaited::new(lattice, host, what), judge).await
}

/// Waits until `judge` says that an event of the host is the outcome.
///
/// # Errors
/// Refused with the host's words, or timed out with what to look at.
pub async fn wait_for(
    events: &mut Events,
    awaited: &Awaited<'_>,
    judge: impl Fn(&Event) -> Verdict,
) -> Result<(), Failure> {
    let Awaited {
        lattice,
        host,
        what,
        ..
    } = awaited;
    let within = lattice.outcome_timeout();
    let deadline = Instant::now() + within;
    let progress = Progress::start(format!("{what} on {host}"));
    let mut connects = lattice.connects();
    loop {
        let look = (Instant::now() + LOOK_EVERY).min(deadline);
        let event = match timeout_at(look, events.next()).await {
            Ok(Some(Ok(event))) => event,
            // Whoever publishes nonsense on these subjects must not end the wait.
            Ok(Some(Err(_))) => continue,
            Ok(None) => {
                return Err(Failure::new(
                    FailureKind::Unreachable,
                    format!(
                        "lost the connection while waiting for {what} on host {host}; it may go on: see `wash get inventory`"
                    ),
                ));
            }
            Err(_) if Instant::now() >= deadline => return Err(timed_out(what, host, within)),
            Err(_) => {
                let now = lattice.connects();
                if now != connects {
                    connects = now;
                    if awaited.is_reached().await {
                        return Ok(());
                    }
                }
                continue;
            }
        };
        if event.source != host.id {
            continue;
        }
        match judge(&event) {
            Verdict::Other => {}
            Verdict::Progress(message) => progress.say(message),
            Verdict::Done => return Ok(()),
            Verdict::Failed { words, code } => {
                let failure = Failure::refused(format!("{what} on host {host} failed: {words}"));
                return Err(failure.because(code));
            }
        }
    }
}

/// Whether an event tells that an actor has reached `max_instances` on a host, and with this reference.
pub fn judge_scaled(event: &Event, id: &str, reference: &str, max_instances: u32) -> Verdict {
    match event.typed() {
        Ok(Some(EventData::ComponentScaled(scaled))) if scaled.component_id == id => {
            if scaled.image_ref != reference && scaled.max_instances > 0 {
                Verdict::failed(
                    format!(
                        "it keeps running {}; replace it with `wash scale component … --allow-update`",
                        printable(&scaled.image_ref)
                    ),
                    None,
                )
            } else if scaled.max_instances == max_instances {
                Verdict::Done
            } else {
                // The outcome of somebody else's command, which came first.
                Verdict::Other
            }
        }
        Ok(Some(EventData::ComponentScaleFailed(failed)))
            if failed.component_id == id && failed.image_ref == reference =>
        {
            Verdict::failed(failed.error, failed.code)
        }
        _ => progress(event, "component_id", id),
    }
}

/// Whether an event tells that an actor runs this reference now, however many at once.
pub fn judge_updated(event: &Event, id: &str, reference: &str) -> Verdict {
    match event.typed() {
        Ok(Some(EventData::ComponentScaled(scaled)))
            if scaled.component_id == id
                && scaled.image_ref == reference
                && scaled.max_instances > 0 =>
        {
            Verdict::Done
        }
        Ok(Some(EventData::ComponentScaleFailed(failed)))
            if failed.component_id == id && failed.image_ref == reference =>
        {
            Verdict::failed(failed.error, failed.code)
        }
        _ => progress(event, "component_id", id),
    }
}

/// Whether an event tells that a provider has started.
pub fn judge_provider_started(event: &Event, id: &str) -> Verdict {
    match event.typed() {
        Ok(Some(EventData::ProviderStarted(started))) if started.provider_id == id => Verdict::Done,
        Ok(Some(EventData::ProviderStartFailed(failed))) if failed.provider_id == id => {
            Verdict::failed(failed.error, failed.code)
        }
        _ => progress(event, "provider_id", id),
    }
}

/// Whether an event tells that a provider has stopped.
pub fn judge_provider_stopped(event: &Event, id: &str) -> Verdict {
    match event.typed() {
        Ok(Some(EventData::ProviderStopped(stopped))) if stopped.provider_id == id => Verdict::Done,
        _ => progress(event, "provider_id", id),
    }
}

/// Whether an event tells that its host has stopped.
pub fn judge_host_stopped(event: &Event) -> Verdict {
    match event.typed() {
        Ok(Some(EventData::HostStopped(_))) => Verdict::Done,
        _ => Verdict::Other,
    }
}

/// Events that are no outcome but about the same thing tell how far the work is: `component_fetching`.
fn progress(event: &Event, key: &str, id: &str) -> Verdict {
    let text = |key: &str| event.data.get(key).and_then(|value| value.as_str());
    let number = |key: &str| event.data.get(key).and_then(serde_json::Value::as_u64);
    let Some((_, step)) = event
        .name
        .split_once('_')
        .filter(|(noun, step)| matches!(*noun, "component" | "provider") && step.ends_with("ing"))
    else {
        return Verdict::Other;
    };
    if text(key) != Some(id) {
        return Verdict::Other;
    }
    let mut said = format!("{id}: {}", printable(&step.replace('_', " ")));
    match (number("received_bytes"), number("total_bytes")) {
        (Some(received), Some(total)) => {
            said.push_str(&format!(", {} of {}", size(received), size(total)));
        }
        (Some(received), None) => said.push_str(&format!(", {}", size(received))),
        _ => {}
    }
    if let Some(reason) = text("reason") {
        let attempt =
            number("attempt").map_or_else(String::new, |attempt| format!(" (attempt {attempt})"));
        said.push_str(&format!(", again{attempt}: {}", printable(reason)));
    }
    Verdict::Progress(said)
}

/// Bytes as a person says them.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let bytes_f = bytes as f64;
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes_f / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes_f / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes_f / 1_073_741_824.0),
    }
}

/// Pairs of a command line as a map; `None` where there are none.
#[must_use]
pub fn annotations(pairs: &[(String, String)]) -> Option<Map> {
    (!pairs.is_empty()).then(|| pairs.iter().cloned().collect())
}

/// What a host said beside yes: told on stderr at once, and returned for JSON.
pub fn remark(message: &str) -> Option<String> {
    if message.is_empty() {
        return None;
    }
    output::note(&format!("note: the host says: {}", printable(message)));
    Some(message.to_owned())
}

fn timed_out(what: &str, host: &Host, within: Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!(
            "no outcome of {what} on host {host} within {} ms; it may still come: see `wash get inventory`, or be more patient with --timeout-ms",
            within.as_millis()
        ),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::SystemTime;

    use trellis_protocol::event::{self, ComponentScaleFailed, ComponentScaled};

    use super::*;

    fn event(data: &EventData) -> Event {
        let bytes = event::encode(data, "NA", SystemTime::UNIX_EPOCH, uuid::Uuid::nil());
        Event::parse(&bytes).unwrap()
    }

    fn scaled(id: &str, reference: &str, max_instances: u32) -> Event {
        event(&EventData::ComponentScaled(ComponentScaled {
            component_id: id.into(),
            image_ref: reference.into(),
            max_instances,
            ..ComponentScaled::default()
        }))
    }

    #[test]
    fn the_event_for_this_actor_and_number_is_the_outcome() {
        assert_eq!(
            judge_scaled(&scaled("a", "r", 5), "a", "r", 5),
            Verdict::Done
        );
        assert_eq!(
            judge_scaled(&scaled("b", "r", 5), "a", "r", 5),
            Verdict::Other
        );
        assert_eq!(
            judge_scaled(&scaled("a", "r", 4), "a", "r", 5),
            Verdict::Other
        );
    }

    #[test]
    fn another_reference_that_stays_is_a_failure_that_says_how_to_replace_it() {
        let verdict = judge_scaled(&scaled("a", "old", 5), "a", "new", 5);
        assert!(
            matches!(&verdict, Verdict::Failed { words, .. } if words.contains("old") && words.contains("--allow-update"))
        );
    }

    #[test]
    fn a_failure_is_told_in_the_hosts_words() {
        let failed = event(&EventData::ComponentScaleFailed(ComponentScaleFailed {
            component_id: "a".into(),
            image_ref: "r".into(),
            error: "it is unsigned".into(),
            code: Some("claims-unsigned".into()),
            ..ComponentScaleFailed::default()
        }));
        assert_eq!(
            judge_scaled(&failed, "a", "r", 5),
            Verdict::failed("it is unsigned".into(), Some("claims-unsigned".into()))
        );
        assert_eq!(judge_scaled(&failed, "a", "other", 5), Verdict::Other);
    }

    #[test]
    fn other_events_about_the_same_actor_are_progress() {
        let event = |name: &str, data: serde_json::Value| Event {
            name: name.into(),
            source: "NA".into(),
            id: String::new(),
            time: String::new(),
            data,
        };
        let compiling = event(
            "component_compiling",
            serde_json::json!({"component_id": "a"}),
        );
        assert_eq!(
            judge_scaled(&compiling, "a", "r", 5),
            Verdict::Progress("a: compiling".into())
        );
        assert_eq!(judge_scaled(&compiling, "b", "r", 5), Verdict::Other);
        let fetching = event(
            "component_fetching",
            serde_json::json!({
                "component_id": "a", "received_bytes": 1536, "total_bytes": 3_145_728,
                "attempt": 2, "reason": "timed out",
            }),
        );
        assert_eq!(
            judge_updated(&fetching, "a", "r"),
            Verdict::Progress(
                "a: fetching, 1.5 KiB of 3.0 MiB, again (attempt 2): timed out".into()
            )
        );
    }

    #[test]
    fn sizes_have_a_unit() {
        let shown = [0, 1_023, 1_024, 5_242_880, 3_221_225_472].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
