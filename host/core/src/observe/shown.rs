//! What a spy saw, made readable: bytes become JSON by their WIT type, and credentials become [`HIDDEN`].
//!
//! Credentials are known by the name of what holds them: a field of HTTP, a parameter of a query, a field of a record, the
//! first of a pair. A secret under an innocent name is not known as one, so leave to spy is leave to see what is said.

use std::sync::Arc;

use rmp::Marker;
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trellis_protocol::control::SpyRecord;
use trellis_protocol::control::observe::{HIDDEN, SHOWN_BYTES_MAX, Shown, ShownHttp};
use trellis_protocol::shape::{FunctionShape, Shape};
use trellis_protocol::value;
use trellis_provider_sdk::{HttpRequest, HttpResponse};

use super::span::trace_id;
use super::tap::{Payload, Sighting};

/// Words that make a name one of something secret.
const SECRET_WORDS: &[&str] = &[
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "secret",
    "secrets",
    "seed",
    "session",
    "sessionid",
    "sig",
    "signature",
    "token",
    "tokens",
];

/// Words that do so before `key`.
const KEY_WORDS: &[&str] = &["access", "api", "auth", "private", "secret", "signing"];

/// Whether a name is one of something secret: `Set-Cookie`, `access_token`, `apiKey`.
pub(super) fn is_secret(name: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars().take(256) {
        if !character.is_alphanumeric() || (character.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = character.is_lowercase();
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    let is_key = |pair: &[String]| pair[1] == "key" && KEY_WORDS.contains(&pair[0].as_str());
    words
        .iter()
        .any(|word| SECRET_WORDS.contains(&word.as_str()))
        || words.windows(2).any(is_key)
}

/// The head of a request.
pub(super) fn request_head(request: &HttpRequest) -> ShownHttp {
    let uri = request.uri();
    let authority = uri.authority().map(|authority| {
        let authority = authority.as_str();
        match authority.rsplit_once('@') {
            Some((_, host)) => format!("{HIDDEN}@{host}"),
            None => authority.to_owned(),
        }
    });
    ShownHttp {
        method: Some(request.method().to_string()),
        authority,
        path: Some(cut(&path(uri), SHOWN_BYTES_MAX / 2).to_owned()),
        status: None,
        headers: fields(request.headers()),
    }
}

/// The head of a response.
pub(super) fn response_head(response: &HttpResponse) -> ShownHttp {
    ShownHttp {
        status: Some(response.status().as_u16()),
        headers: fields(response.headers()),
        ..ShownHttp::default()
    }
}

fn path(uri: &http::Uri) -> String {
    let Some(query) = uri.query() else {
        return uri.path().to_owned();
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{}?{}", uri.path(), shown.join("&"))
}

fn fields(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    let mut bytes = 0;
    for (name, value) in headers {
        let text = if is_secret(name.as_str()) || value.is_sensitive() {
            HIDDEN.to_owned()
        } else {
            let text = String::from_utf8_lossy(value.as_bytes());
            cut(&text, SHOWN_BYTES_MAX / 4).to_owned()
        };
        bytes += name.as_str().len() + text.len();
        if bytes > SHOWN_BYTES_MAX {
            let more = headers.len() - shown.len();
            shown.push(("…".to_owned(), format!("{more} more")));
            break;
        }
        shown.push((name.to_string(), text));
    }
    shown
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A sighting as a spy is told of it. The shape is the function's, where this host knows it.
pub(crate) fn record(
    sighting: &Sighting,
    shape: Option<&FunctionShape>,
    host: &Arc<str>,
    dropped: u64,
) -> SpyRecord {
    let shape = shape.filter(|shape| shape.type_hash() == sighting.type_hash);
    let (outcome, refusal) = match &sighting.refusal {
        Some((code, message)) => (code.as_str(), Some(message.clone())),
        None => ("ok", None),
    };
    let operation = match &*sighting.operation.function {
        "" => sighting.operation.interface.to_string(),
        _ => sighting.operation.to_string(),
    };
    let traceparent = sighting.traceparent.as_deref();
    SpyRecord {
        time: rfc3339(sighting.at),
        invocation_id: sighting.id.map_or(String::new(), |id| id.to_string()),
        trace_id: traceparent.and_then(trace_id).map(str::to_owned),
        direction: sighting.direction,
        source: sighting.source.to_string(),
        target: sighting
            .target
            .as_ref()
            .map_or(String::new(), ToString::to_string),
        operation,
        link: sighting.link.to_string(),
        host: host.to_string(),
        depth: sighting.depth,
        outcome: outcome.to_owned(),
        refusal,
        micros: u64::try_from(sighting.took.as_micros()).unwrap_or(u64::MAX),
        request: sighting
            .request
            .as_ref()
            .map(|payload| shown(payload, |bytes| params(shape, bytes))),
        response: sighting
            .response
            .as_ref()
            .map(|payload| shown(payload, |bytes| result(shape, bytes))),
        dropped,
    }
}

/// A time as records carry it; empty for one that has no such form.
pub(crate) fn rfc3339(at: std::time::SystemTime) -> String {
    OffsetDateTime::from(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// Something read: with names, or without because its type is not known.
enum Read {
    Typed(Value),
    Untyped(Value),
}

fn shown(payload: &Payload, read: impl FnOnce(&[u8]) -> Option<Read>) -> Shown {
    let bytes = match payload {
        Payload::Http(head) => return Shown::Http(head.clone()),
        Payload::TooLarge(bytes) => {
            return Shown::Opaque {
                bytes: *bytes as u64,
            };
        }
        Payload::Encoded(bytes) => bytes,
    };
    let opaque = Shown::Opaque {
        bytes: bytes.len() as u64,
    };
    if value::check(bytes).is_err() {
        return opaque;
    }
    let Some(read) = read(bytes) else {
        return opaque;
    };
    let value = match &read {
        Read::Typed(value) | Read::Untyped(value) => value,
    };
    let text = value.to_string();
    if text.len() > SHOWN_BYTES_MAX {
        return Shown::Cut {
            text: cut(&text, SHOWN_BYTES_MAX).to_owned(),
            bytes: text.len() as u64,
        };
    }
    match read {
        Read::Typed(value) => Shown::Value(value),
        Read::Untyped(value) => Shown::Untyped(value),
    }
}

fn params(shape: Option<&FunctionShape>, bytes: &[u8]) -> Option<Read> {
    let typed = shape.and_then(|shape| {
        let mut reader = Reader { rest: bytes };
        let params = shape.params();
        if reader.array_length()? != params.len() {
            return None;
        }
        let values = params.iter().map(|(name, shape)| {
            let value = reader.value(Some(shape))?;
            Some(hidden_if(is_secret(name), value))
        });
        values.collect::<Option<Vec<_>>>().map(Value::Array)
    });
    typed.map(Read::Typed).or_else(|| untyped(bytes))
}

fn result(shape: Option<&FunctionShape>, bytes: &[u8]) -> Option<Read> {
    let typed = shape.and_then(|shape| Reader { rest: bytes }.value(shape.result()));
    match shape {
        Some(_) => typed.map(Read::Typed).or_else(|| untyped(bytes)),
        None => untyped(bytes),
    }
}

fn untyped(bytes: &[u8]) -> Option<Read> {
    Reader { rest: bytes }.value(None).map(Read::Untyped)
}

fn hidden_if(is_secret: bool, value: Value) -> Value {
    if is_secret && !value.is_null() {
        return Value::from(HIDDEN);
    }
    value
}

/// Reads bytes that `value::check` has passed, so that nesting is bounded. Whatever does not fit its type ends the reading.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        let number = taken
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(number)
    }

    fn length(&mut self, bytes: usize) -> Option<usize> {
        usize::try_from(self.number(bytes)?).ok()
    }

    fn marker(&mut self) -> Option<Marker> {
        Some(Marker::from_u8(*self.take(1)?.first()?))
    }

    fn peek(&self) -> Option<Marker> {
        self.rest.first().map(|byte| Marker::from_u8(*byte))
    }

    fn array_length(&mut self) -> Option<usize> {
        match self.marker()? {
            Marker::FixArray(length) => Some(usize::from(length)),
            Marker::Array16 => self.length(2),
            Marker::Array32 => self.length(4),
            _ => None,
        }
    }

    fn map_length(&mut self) -> Option<usize> {
        match self.marker()? {
            Marker::FixMap(length) => Some(usize::from(length)),
            Marker::Map16 => self.length(2),
            Marker::Map32 => self.length(4),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = match self.marker()? {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return None,
        };
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// A case with its payload: a map of one.
    fn case(&mut self) -> Option<&'a str> {
        (self.map_length()? == 1).then_some(())?;
        self.text()
    }

    fn value(&mut self, shape: Option<&Shape>) -> Option<Value> {
        let Some(shape) = shape else {
            return self.any();
        };
        match shape {
            Shape::Option(content) if content.may_be_nil() => {
                let length = self.array_length()?;
                let values = (0..length).map(|_| self.value(Some(content)));
                values.collect::<Option<Vec<_>>>().map(Value::Array)
            }
            Shape::Option(content) => match self.peek()? {
                Marker::Null => self.any(),
                _ => self.value(Some(content)),
            },
            Shape::List(element) if !shape.is_byte_list() => {
                let length = self.array_length()?;
                let values = (0..length).map(|_| self.value(Some(element)));
                values.collect::<Option<Vec<_>>>().map(Value::Array)
            }
            Shape::Result { ok, err } => {
                let (case, shape) = match self.case()? {
                    "Ok" => ("ok", ok),
                    "Err" => ("err", err),
                    _ => return None,
                };
                let value = self.value(shape.as_deref())?;
                Some(object([(case.to_owned(), value)]))
            }
            Shape::Tuple(shapes) => {
                (self.array_length()? == shapes.len()).then_some(())?;
                let values = shapes.iter().map(|shape| self.value(Some(shape)));
                values.collect::<Option<Vec<_>>>().map(pair)
            }
            Shape::Record(fields) => {
                (self.array_length()? == fields.len()).then_some(())?;
                let values = fields.iter().map(|(name, shape)| {
                    let value = self.value(Some(shape))?;
                    Some((name.clone(), hidden_if(is_secret(name), value)))
                });
                values.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            Shape::Variant(cases) => {
                if matches!(
                    self.peek()?,
                    Marker::FixMap(_) | Marker::Map16 | Marker::Map32
                ) {
                    let name = self.case()?;
                    let (_, shape) = cases.iter().find(|(case, _)| case == name)?;
                    let value = self.value(shape.as_ref())?;
                    let value = hidden_if(is_secret(name), value);
                    return Some(object([(name.to_owned(), value)]));
                }
                self.text().map(Value::from)
            }
            // What the rest looks like can be read off the bytes.
            _ => self.any(),
        }
    }

    /// A value of any type.
    fn any(&mut self) -> Option<Value> {
        Some(match self.peek()? {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                Value::from(self.text()?)
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                let length = self.array_length()?;
                let values = (0..length).map(|_| self.any());
                pair(values.collect::<Option<Vec<_>>>()?)
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                let length = self.map_length()?;
                let entries = (0..length).map(|_| {
                    let name = self.text()?;
                    let value = self.any()?;
                    Some((name.to_owned(), hidden_if(is_secret(name), value)))
                });
                Value::Object(entries.collect::<Option<Map<_, _>>>()?)
            }
            _ => return self.scalar(),
        })
    }

    fn scalar(&mut self) -> Option<Value> {
        Some(match self.marker()? {
            Marker::Null => Value::Null,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(number) => Value::from(number),
            Marker::FixNeg(number) => Value::from(number),
            Marker::U8 => Value::from(self.number(1)?),
            Marker::U16 => Value::from(self.number(2)?),
            Marker::U32 => Value::from(self.number(4)?),
            Marker::U64 => Value::from(self.number(8)?),
            Marker::I8 => Value::from(self.number(1)? as u8 as i8),
            Marker::I16 => Value::from(self.number(2)? as u16 as i16),
            Marker::I32 => Value::from(self.number(4)? as u32 as i32),
            Marker::I64 => Value::from(self.number(8)? as i64),
            Marker::F32 => float(f64::from(f32::from_bits(self.number(4)? as u32))),
            Marker::F64 => float(f64::from_bits(self.number(8)?)),
            Marker::Bin8 => self.bytes(1)?,
            Marker::Bin16 => self.bytes(2)?,
            Marker::Bin32 => self.bytes(4)?,
            _ => return None,
        })
    }

    /// Bytes: as text where they are some, else in base64.
    fn bytes(&mut self, length_bytes: usize) -> Option<Value> {
        let length = self.length(length_bytes)?;
        let bytes = self.take(length)?;
        let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        Some(match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_plain) => Value::from(text),
            _ => {
                let text = data_encoding::BASE64.encode(bytes);
                object([("base64".to_owned(), Value::from(text))])
            }
        })
    }
}

fn object<const N: usize>(entries: [(String, Value); N]) -> Value {
    Value::Object(Map::from_iter(entries))
}

/// The second of a pair is hidden where the first is the name of something secret, as in lists of headers.
fn pair(mut values: Vec<Value>) -> Value {
    if let [Value::String(name), value] = values.as_mut_slice()
        && is_secret(name)
    {
        *value = Value::from(HIDDEN);
    }
    Value::Array(values)
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number)
}

#[cfg(test)]
mod tests;
