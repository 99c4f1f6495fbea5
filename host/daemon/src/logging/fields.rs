//! The fields of an event and of the spans around it, gathered with their types.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The name under which an event's text is recorded.
pub(super) const MESSAGE: &str = "message";

/// Fields in the order in which they were recorded; a later one of the same name takes the earlier one's place.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(super) fn put(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Writes them as one JSON object on one line.
    pub(super) fn write_json(&self, writer: &mut dyn fmt::Write) -> fmt::Result {
        let mut before = '{';
        for (name, value) in &self.0 {
            // A string as JSON has its quotes and escapes.
            let name = Value::String(name.clone());
            write!(writer, "{before}{name}:{value}")?;
            before = ',';
        }
        writer.write_str(if self.0.is_empty() { "{}" } else { "}" })
    }

    /// Reads what [`Self::write_json`] wrote.
    fn read_json(&mut self, text: &str) {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
            return;
        };
        for (name, value) in fields {
            self.put(name, value);
        }
    }
}

impl IntoIterator for Fields {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Keeps a span's fields as they are, as JSON, so that each format can write them its own way.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreFields;

/// What [`StoreFields`] leaves in a span.
pub(super) type Stored = FormattedFields<StoreFields>;

impl<'writer> FormatFields<'writer> for StoreFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut gathered = Gather::default();
        fields.record(&mut gathered);
        gathered.0.write_json(&mut writer)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut gathered = Gather::default();
        gathered.0.read_json(&current.fields);
        fields.record(&mut gathered);
        let mut text = String::new();
        gathered.0.write_json(&mut text)?;
        current.fields = text;
        Ok(())
    }
}

/// The fields of the spans around an event, outermost first, then the event's own: the nearest of a name counts.
pub(super) fn gather<S>(
    context: &FmtContext<'_, S, StoreFields>,
    event: &tracing::Event<'_>,
) -> Fields
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let mut gathered = Gather::default();
    if let Some(scope) = context.event_scope() {
        for span in scope.from_root() {
            if let Some(stored) = span.extensions().get::<Stored>() {
                gathered.0.read_json(&stored.fields);
            }
        }
    }
    event.record(&mut gathered);
    gathered.0
}

#[derive(Debug, Default)]
struct Gather(Fields);

impl Gather {
    fn put(&mut self, field: &Field, value: Value) {
        // Records of the crate `log` bring fields of the bridge's own, which say nothing that the line does not.
        if !field.name().starts_with("log.") {
            self.0.put(field.name(), value);
        }
    }
}

impl Visit for Gather {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Not every number of this kind is one in JSON.
        let value = serde_json::Number::from_f64(value)
            .map_or_else(|| Value::String(value.to_string()), Value::Number);
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::fmt::FormatEvent;

    use super::StoreFields;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in a format, without colours.
    pub(in crate::logging) fn lines_of<F>(format: F, log: impl FnOnce()) -> String
    where
        F: FormatEvent<Registry, StoreFields> + Send + Sync + 'static,
    {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .fmt_fields(StoreFields)
            .event_format(format)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }
}
