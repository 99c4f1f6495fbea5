//! An HTTP response before it is sent.

use serde::Serialize;

/// Status, fields and body. `content-length` is added when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// Fields, names in lower case, values of printable ASCII.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The body, whole.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A reply whose body is `value` as JSON, of the media type `media`.
    pub(crate) fn json(status: u16, media: &str, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value)
            .expect("the documents here have string keys and nothing that fails to serialise");
        // A body that ends its line is kinder to terminals.
        body.push(b'\n');
        Self {
            status,
            fields: vec![("content-type", media.to_owned())],
            body,
        }
    }

    /// The same reply with one more field.
    pub(crate) fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}
