//! Lines for people: the time, the level, the text, then what it is about.
//!
//! ```text
//! 14:07:44.123  WARN the provider did not let go of a link  provider_id=kv link=default
//! ```

use std::fmt;

use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{MESSAGE, StoreFields, gather};

/// Where the time of day stands in an RFC 3339 time, to the millisecond.
const TIME_OF_DAY: std::ops::Range<usize> = 11..23;

const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Lines for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Human;

impl<S> FormatEvent<S, StoreFields> for Human
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
        let colour = writer.has_ansi_escapes();
        let (dim, plain) = if colour { (DIM, PLAIN) } else { ("", "") };
        let level = *event.metadata().level();
        let paint = if colour { colour_of(level) } else { "" };
        let mut gathered = gather(context, event);
        let message = gathered.take(MESSAGE);

        let time = time.get(TIME_OF_DAY).unwrap_or(&time);
        write!(writer, "{dim}{time}{plain} {paint}{level:>5}{plain} ")?;
        if let Some(message) = &message {
            write_value(&mut writer, message)?;
        }
        let mut gap = "  ";
        for (name, value) in gathered {
            write!(writer, "{gap}{dim}{name}={plain}")?;
            write_value(&mut writer, &value)?;
            gap = " ";
        }
        writeln!(writer)
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

/// Writes a value so that it stays on its line and orders no terminal about.
fn write_value(writer: &mut Writer<'_>, value: &Value) -> fmt::Result {
    let Value::String(text) = value else {
        return write!(writer, "{value}");
    };
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            write!(writer, "{}", character.escape_default())?;
        } else {
            writer.write_char(character)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::fields::tests::lines_of;

    #[test]
    fn a_line_is_the_text_and_then_what_it_is_about_with_the_spans_around_it() {
        let text = lines_of(Human, || {
            let _span = tracing::info_span!("invocation", actor_id = "hello").entered();
            tracing::warn!(status = 503, "refused");
        });
        assert_eq!(&text[12..], "  WARN refused  actor_id=hello status=503\n");
        assert_eq!(text.as_bytes()[8], b'.', "{text}");
    }

    #[test]
    fn no_field_begins_another_line_or_orders_a_terminal_about() {
        let text = lines_of(Human, || {
            tracing::info!(said = "a\r\nb\u{1b}[2J\tc", "x\ny")
        });
        assert_eq!(&text[12..], "  INFO x\\ny  said=a\\r\\nb\\u{1b}[2J\tc\n");
    }
}
