//! A short code, and the keys under which the store keeps what belongs to it.

use std::fmt;

/// Most symbols in a code. A longer path segment is no code, and no reason to ask the store.
const LENGTH_MAX: usize = 32;

/// Paths of our own that look like codes.
const RESERVED: &[&str] = &["links"];

/// Why a text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeError {
    /// It is empty, too long, or has other symbols than letters and digits.
    Shape,
    /// It is a path of our own.
    Reserved,
}

/// One to 32 ASCII letters and digits, hence safe in a path and in a key of any store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code(String);

impl Code {
    /// Checks `text`, which comes from a client or from the code maker.
    ///
    /// # Errors
    ///
    /// See [`CodeError`].
    pub(crate) fn parse(text: &str) -> Result<Self, CodeError> {
        let shaped = (1..=LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|symbol| symbol.is_ascii_alphanumeric());
        if !shaped {
            return Err(CodeError::Shape);
        }
        if RESERVED.contains(&text) {
            return Err(CodeError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// The code's symbols.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Key of the URL the code stands for.
    pub(crate) fn link_key(&self) -> String {
        format!("link.{}", self.0)
    }

    /// Key of the counter that says who claimed the code first.
    pub(crate) fn claim_key(&self) -> String {
        format!("claim.{}", self.0)
    }

    /// Key of the counter of clicks.
    pub(crate) fn clicks_key(&self) -> String {
        format!("clicks.{}", self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_digits_up_to_32_are_a_code() {
        assert!(Code::parse("a").is_ok());
        assert!(Code::parse("YufMUKt").is_ok());
        assert!(Code::parse(&"7".repeat(32)).is_ok());
    }

    #[test]
    fn anything_else_is_not() {
        let long = "7".repeat(33);
        for text in ["", "a.b", "a b", "a/b", "*", ">", "é", "%41", long.as_str()] {
            assert_eq!(Code::parse(text), Err(CodeError::Shape), "{text:?}");
        }
    }

    #[test]
    fn a_path_of_our_own_is_never_a_code() {
        assert_eq!(Code::parse("links"), Err(CodeError::Reserved));
    }
}
