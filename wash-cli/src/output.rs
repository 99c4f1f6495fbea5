//! What a command has to say, and the one place that writes it to stdout.
//!
//! stdout is data: a table or a sentence for people, or one JSON object for programs (`--output json`). Notes, progress
//! and errors go to stderr. A failed command writes nothing to stdout, except in JSON mode the object
//! `{"success": false, "error": "…", "code": "…"}`, whose codes are those of [`FailureKind::word`](crate::exit::FailureKind::word).
//! Some commands have something to show all the same: `claims inspect` and `inspect`, where claims do not hold, `doctor`,
//! where something is broken. They print their report, and in JSON mode its keys beside those three.
//!
//! Every other JSON object has `"success": true`, and the keys of its command: the table is in `docs/wash.md`. Keys may be
//! added; none changes its meaning.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Failure;
use crate::progress;

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// One JSON object, for programs.
    Json,
}

/// What a command has to say, in both forms.
#[derive(Debug, Clone, Default)]
pub struct Report {
    text: Vec<u8>,
    aside: Option<String>,
    fields: Map<String, Value>,
    silent: bool,
    failure: Option<Failure>,
}

impl Report {
    /// A report that says this to people.
    pub fn new(text: impl Into<String>) -> Self {
        Self::raw(text.into().into_bytes())
    }

    /// A report whose text is data as it is, down to the missing final newline.
    pub fn raw(bytes: Vec<u8>) -> Self {
        Self {
            text: bytes,
            ..Self::default()
        }
    }

    /// The same, but this is what it says to people.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into().into_bytes();
        self
    }

    /// Nothing: what there was to say has been said while the command ran.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    /// Makes this the report of a command that fails, but has something to show: it is written, and then the command
    /// ends as this failure does.
    #[must_use]
    pub fn failing(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }

    /// How the command fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Adds what people are told on stderr beside the data, and programs are not.
    #[must_use]
    pub fn aside(mut self, text: impl Into<String>) -> Self {
        self.aside = Some(text.into());
        self
    }

    /// Adds a key to the JSON object.
    ///
    /// A value that is no JSON (a map whose keys are no strings) becomes `null`; none of ours is one.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.fields.insert(key.to_owned(), value);
        self
    }

    /// Adds a key to the JSON object if there is a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds each key of an object; anything else adds nothing.
    #[must_use]
    pub fn with_all(mut self, object: impl Serialize) -> Self {
        if let Ok(Value::Object(fields)) = serde_json::to_value(object) {
            self.fields.extend(fields);
        }
        self
    }

    /// What the JSON object holds, success aside.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// The text for stderr.
    #[must_use]
    pub fn render_aside(&self, format: Format) -> Option<&str> {
        self.aside.as_deref().filter(|_| format == Format::Table)
    }

    /// The bytes for stdout.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        match format {
            _ if self.silent => Vec::new(),
            Format::Table => self.text.clone(),
            Format::Json => {
                let mut fields = self.fields.clone();
                match &self.failure {
                    None => drop(fields.insert("success".to_owned(), Value::Bool(true))),
                    Some(failure) => fields.extend(failure_fields(failure)),
                }
                json_line(&Value::Object(fields))
            }
        }
    }
}

/// The bytes for stdout after a failure: in JSON mode the object, else none.
#[must_use]
pub fn render_failure(failure: &Failure, format: Format) -> Vec<u8> {
    match format {
        Format::Table => Vec::new(),
        Format::Json => json_line(&Value::Object(failure_fields(failure).collect())),
    }
}

/// The keys that every failed command has in JSON.
fn failure_fields(failure: &Failure) -> impl Iterator<Item = (String, Value)> {
    [
        ("success", Value::Bool(false)),
        ("error", failure.message().into()),
        ("code", failure.kind().word().into()),
    ]
    .into_iter()
    .chain(failure.reason().map(|reason| ("reason", reason.into())))
    .map(|(key, value)| (key.to_owned(), value))
}

fn json_line(value: &Value) -> Vec<u8> {
    let mut text = json_text(value).into_bytes();
    text.push(b'\n');
    text
}

/// JSON that means the same to programs and is fit for a terminal: what [`printable`] hides is escaped here as well.
#[must_use]
pub fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(is_hidden) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // The writer has escaped what is below a blank, so that what is left stands within strings, and is no surrogate pair.
        match is_hidden(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

/// What could move the cursor, or turn the reading direction.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes to stdout. Whoever closed the other end has read enough, so a broken pipe is no error.
///
/// # Errors
/// The operating system's, as for a full disk.
pub fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says something to people, on stderr.
pub fn note(text: &str) {
    // Nobody is left to tell if stderr is gone.
    let _ = progress::aside(|| writeln!(io::stderr(), "{text}"));
}

/// A table without borders: a header in capitals, columns two blanks apart, and no blanks at the ends of lines.
#[must_use]
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare_table();
    table.set_header(header.iter().map(|title| title.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    finish(table)
}

/// A table of names and values.
#[must_use]
pub fn pairs(rows: impl IntoIterator<Item = (String, String)>) -> String {
    let mut table = bare_table();
    for (name, value) in rows {
        table.add_row([printable(&name), printable(&value)]);
    }
    finish(table)
}

fn bare_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn finish(mut table: Table) -> String {
    table.discover_columns();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Seconds as a person says them, in the two largest units.
#[must_use]
pub fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// Text that came from others, fit for a terminal: what could move the cursor or turn the reading direction is shown
/// by its code point instead.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As [`printable`], but lines stay lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks() {
        let text = table(
            &["id", "name"],
            [
                vec!["a".into(), "long name".into()],
                vec!["bbbb".into(), "x".into()],
            ],
        );
        assert_eq!(text, "ID    NAME\na     long name\nbbbb  x\n");
    }

    #[test]
    fn text_of_others_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}"), "a\\u{1b}[2Jb\\u{202e}");
        assert_eq!(printable("größer"), "größer");
    }

    #[test]
    fn text_of_others_cannot_do_so_in_json_either_and_means_the_same() {
        let value = serde_json::json!({"a\u{9b}2J": "\u{1b}\u{7f}\u{202e}größer\n"});
        let text = json_text(&value);
        assert_eq!(text, r#"{"a\u009b2J":"\u001b\u007f\u202egrößer\n"}"#);
        assert_eq!(serde_json::from_str(&text).ok(), Some(value));
    }

    #[test]
    fn a_report_is_one_json_object_with_success() {
        let report = Report::new("text\n")
            .with("b", 2)
            .with_some("none", None::<u8>);
        assert_eq!(report.render(Format::Json), b"{\"b\":2,\"success\":true}\n");
        assert_eq!(report.render(Format::Table), b"text\n");
    }

    #[test]
    fn a_failing_report_is_shown_and_says_in_json_that_it_failed() {
        let report = Report::new("text\n")
            .with("b", 2)
            .failing(Failure::refused("no"));
        assert_eq!(
            report.render(Format::Json),
            b"{\"b\":2,\"code\":\"refused\",\"error\":\"no\",\"success\":false}\n"
        );
        assert_eq!(report.render(Format::Table), b"text\n");
    }

    #[test]
    fn a_failure_is_silent_on_stdout_but_in_json() {
        let failure = Failure::refused("no");
        assert!(render_failure(&failure, Format::Table).is_empty());
        assert_eq!(
            render_failure(&failure, Format::Json),
            b"{\"code\":\"refused\",\"error\":\"no\",\"success\":false}\n"
        );
    }

    #[test]
    fn uptimes_have_two_units() {
        let shown = [0, 59, 60, 3_661, 90_061].map(uptime);
        assert_eq!(shown, ["0s", "59s", "1m 0s", "1h 1m", "1d 1h"]);
    }
}
