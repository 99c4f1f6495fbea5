//! What a name may look like: WIT labels, tokens of a NATS subject, and text for people.
//!
//! WIT's rule is the component model's: words joined by single hyphens, each word all lower or all upper case letters
//! and digits, the first one beginning with a letter. Namespaces and packages have lower case words only.

/// Longest name of an actor, host or lattice, in bytes: one NATS subject token each.
pub(crate) const ID_BYTES_MAX: usize = 128;

/// Longest text for people in a token (a name, a tag, an alias, a version), in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256;

/// Whether `label` is a WIT label as an interface has it: `incoming-handler`, `a2-HTTP`.
pub(crate) fn is_wit_label(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_alphabetic())
        && label.split('-').all(|word| {
            !word.is_empty()
                && (word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                    || word
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()))
        })
}

/// Whether `label` is a WIT label as a namespace or a package has it: lower case throughout.
pub(crate) fn is_wit_package_label(label: &str) -> bool {
    is_wit_label(label) && !label.bytes().any(|b| b.is_ascii_uppercase())
}

/// Whether `id` can name an actor or a lattice: one NATS token of letters, digits, `_` and `-`.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What is wrong with `text`, if it should not be shown on a terminal or written into a log.
///
/// Tokens come from strangers and are printed before anybody trusts them (`wash claims inspect`): control characters
/// could rewrite the screen, and bidirectional overrides could make one name look like another.
pub(crate) fn fault_in_text(text: &str) -> Option<&'static str> {
    if text.len() > TEXT_BYTES_MAX {
        return Some("longer than 256 bytes");
    }
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.contains(hidden)
        .then_some("contains a control character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wit_labels_are_kebab_case() {
        for good in ["a", "wasi", "incoming-handler", "a-B", "a0-000-3d4a-54FF"] {
            assert!(is_wit_label(good), "{good}");
        }
        for bad in [
            "", "-", "a-", "-a", "a--b", "aB", "0", "0-a", "a_b", "é", "a.b",
        ] {
            assert!(!is_wit_label(bad), "{bad}");
        }
    }

    #[test]
    fn packages_are_lower_case() {
        assert!(is_wit_package_label("key-value"));
        assert!(!is_wit_package_label("KEY-value"));
    }

    #[test]
    fn an_id_is_one_subject_token_of_at_most_128_bytes() {
        assert!(is_id(&"a".repeat(ID_BYTES_MAX)));
        assert!(!is_id(&"a".repeat(ID_BYTES_MAX + 1)));
        for bad in ["", "a.b", "*", ">", "a b", "ä"] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn text_that_could_deceive_a_terminal_is_faulted() {
        assert_eq!(fault_in_text("Bestellungen, größer"), None);
        assert_eq!(fault_in_text(&"a".repeat(TEXT_BYTES_MAX)), None);
        for bad in [
            "\u{1b}[2J",
            "a\nb",
            "a\u{202e}b",
            &"a".repeat(TEXT_BYTES_MAX + 1),
        ] {
            assert!(fault_in_text(bad).is_some(), "{bad:?}");
        }
    }
}
