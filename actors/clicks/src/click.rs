//! What a message says: which code was followed.

use serde::Deserialize;

/// Most symbols in a code, as `shortlink` has them.
const LENGTH_MAX: usize = 32;

/// Longest body that is looked at, in bytes.
const BODY_BYTES_MAX: usize = 1024;

/// A code that was followed: 1 to 32 ASCII letters and digits, hence safe in a key of any store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code(String);

#[derive(Deserialize)]
struct Click<'a> {
    code: &'a str,
}

impl Code {
    /// The code that a message's body names; `None` where it names none.
    pub(crate) fn of_message(body: &[u8]) -> Option<Self> {
        if body.len() > BODY_BYTES_MAX {
            return None;
        }
        let click: Click<'_> = serde_json::from_slice(body).ok()?;
        Self::parse(click.code)
    }

    /// Checks a text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let shaped = (1..=LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|symbol| symbol.is_ascii_alphanumeric());
        shaped.then(|| Self(text.to_owned()))
    }

    /// The code's symbols.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_code() {
        let code = |body: &str| Code::of_message(body.as_bytes());
        assert_eq!(code(r#"{"code":"abc1"}"#), Code::parse("abc1"));
        assert_eq!(code(r#"{"code":"x","later":[1]}"#), Code::parse("x"));
        for body in [
            "",
            "abc1",
            "{}",
            r#"{"code":1}"#,
            r#"{"code":""}"#,
            r#"{"code":"a.b"}"#,
            r#"{"code":"../x"}"#,
        ] {
            assert_eq!(code(body), None, "{body}");
        }
    }

    #[test]
    fn a_code_of_32_symbols_is_the_longest_and_a_large_body_is_not_read() {
        assert!(Code::parse(&"a".repeat(32)).is_some());
        assert!(Code::parse(&"a".repeat(33)).is_none());
        let large = format!(r#"{{"code":"a","rest":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
        assert_eq!(Code::of_message(large.as_bytes()), None);
    }
}
