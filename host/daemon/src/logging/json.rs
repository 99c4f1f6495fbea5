//! One JSON object a line, all fields beside each other.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::HOST_ID;
use super::fields::{Fields, MESSAGE, StoreFields, gather};

/// The field of the host.
const HOST: &str = "host_id";

/// What a line says of itself. A field of such a name gets [`SUFFIX`].
const OWN: [&str; 3] = ["time", "level", "target"];

const SUFFIX: char = '_';

/// Lines for programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json {
    /// Whose the line is, where it does not say so.
    host: fn() -> Option<&'static str>,
}

impl Json {
    /// Lines of the host that this process runs.
    pub(super) fn of_process() -> Self {
        Self {
            host: || HOST_ID.get().map(|id| &**id),
        }
    }
}

impl<S> FormatEvent<S, StoreFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, StoreFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let mut gathered = gather(context, event);
        let message = gathered.take(MESSAGE);

        let mut line = Fields::default();
        line.put("time", time);
        line.put("level", metadata.level().as_str());
        line.put("target", metadata.target());
        line.put(MESSAGE, message.unwrap_or_default());
        if !gathered.has(HOST)
            && let Some(host) = (self.host)()
        {
            line.put(HOST, host);
        }
        for (mut name, value) in gathered {
            if OWN.contains(&name.as_str()) {
                name.push(SUFFIX);
            }
            line.put(name, value);
        }
        line.write_json(&mut writer)?;
        writeln!(writer)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::logging::fields::tests::lines_of;

    fn json(log: impl FnOnce()) -> Vec<Value> {
        let format = Json {
            host: || Some("NHOST"),
        };
        let text = lines_of(format, log);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn the_fields_of_a_line_and_of_the_spans_around_it_are_flat() {
        let lines = json(|| {
            let outer = tracing::info_span!(
                "invocation",
                actor_id = "hello",
                trace_id = tracing::field::Empty
            );
            outer.record("trace_id", "0af7");
            let _outer = outer.entered();
            let _inner = tracing::info_span!("call", depth = 1, actor_id = "other").entered();
            tracing::info!(count = 3, ratio = 0.5, "served");
        });
        let line = &lines[0];
        assert_eq!(line["message"], "served");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["actor_id"], "other", "the nearest counts");
        assert_eq!(line["trace_id"], "0af7");
        assert_eq!(line["depth"], 1);
        assert_eq!(line["count"], 3);
        assert_eq!(line["ratio"], 0.5);
        assert_eq!(line["host_id"], "NHOST");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_line_that_names_its_host_keeps_it_and_no_field_takes_the_place_of_the_lines_own() {
        let lines = json(|| {
            tracing::warn!(
                host_id = "NOTHER",
                level = "odd",
                target = "odd",
                time = 1,
                "x"
            );
        });
        let line = &lines[0];
        assert_eq!(line["host_id"], "NOTHER");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["level_"], "odd");
        assert_eq!(line["target_"], "odd");
        assert_eq!(line["time_"], 1);
    }

    #[test]
    fn whatever_a_field_says_is_one_line_of_json() {
        let lines = json(|| {
            tracing::info!(
                said = "a\n{\"b\":1}\u{1b}[2J",
                "one\ntwo {nan}",
                nan = f64::NAN
            )
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["said"], "a\n{\"b\":1}\u{1b}[2J");
        assert_eq!(lines[0]["message"], "one\ntwo NaN");
    }
}
