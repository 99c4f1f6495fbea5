//! What went wrong, in words: a registry's own, shortened, and those of the layers below.

use std::error::Error as _;
use std::io;

/// How much of a registry's own words is repeated, in characters.
const REASON_CHARS_MAX: usize = 200;

/// What a registry says about an error, by the protocol or in any other words.
pub(super) fn reason_in(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => envelope.errors.first().map_or_else(String::new, |entry| {
            shortened(&match entry.message.as_str() {
                "" => entry.code.clone(),
                message => format!("{}: {message}", entry.code),
            })
        }),
        // A page for browsers helps nobody.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => shortened(String::from_utf8_lossy(body).trim()),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars()
        .take(REASON_CHARS_MAX)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// The innermost causes say what happened; the outer ones that something did.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    // A cause is often repeated by the one around it.
    let mut last: Vec<String> = Vec::new();
    for word in words {
        if !last.iter().any(|known| known.contains(&word)) {
            last.push(word);
        }
    }
    match last.is_empty() {
        true => shortened(&error.to_string()),
        false => shortened(&last.join(": ")),
    }
}

/// An error of TLS somewhere below. Those of I/O hide what they wrap from the chain of causes.
pub(super) fn tls_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => tls_error(wrapped),
        None => tls_error(error.source()?),
    }
}

/// Whether what came was no HTTP.
pub(super) fn is_nonsense(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
            return hyper.is_parse() || hyper.is_parse_too_large();
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_shortened_and_has_no_control_characters() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31mway"}]}"#;
        assert_eq!(reason_in(body), "DENIED: no [31mway");
        assert_eq!(reason_in(br#"{"errors":[]}"#), "");
        assert_eq!(reason_in(b" <html>busy</html>"), "");
        assert_eq!(reason_in("ü".repeat(1000).as_bytes()).chars().count(), 200);
    }
}
