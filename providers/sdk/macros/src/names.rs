//! From WIT's kebab case to Rust's cases, around Rust's keywords.

use proc_macro2::{Ident, Span};

/// Keywords of Rust, of every edition up to 2024 and reserved ones, that may stand as raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// Words that may not even stand raw, and the one name that `async_trait` writes without its path.
const NEVER: &[&str] = &["self", "Self", "super", "crate", "_", "Box"];

/// `list-keys` becomes `list_keys`; `type` becomes `r#type`, `self` becomes `self_`.
pub(crate) fn snake(name: &str) -> Ident {
    ident(&name.to_lowercase().replace('-', "_"))
}

/// `key-response` becomes `KeyResponse`.
pub(crate) fn camel(name: &str) -> Ident {
    ident(&camel_text(name))
}

/// The same as text.
pub(crate) fn camel_text(name: &str) -> String {
    name.split('-')
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first
                .into_iter()
                .chain(chars.map(|c| c.to_ascii_lowercase()))
        })
        .collect()
}

/// `look-alikes` becomes `LOOK_ALIKES`.
pub(crate) fn constant(name: &str) -> Ident {
    ident(&name.to_uppercase().replace('-', "_"))
}

fn ident(text: &str) -> Ident {
    let span = Span::call_site();
    if NEVER.contains(&text) {
        Ident::new(&format!("{text}_"), span)
    } else if KEYWORDS.contains(&text) {
        Ident::new_raw(text, span)
    } else {
        Ident::new(text, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_case_becomes_each_of_rusts_cases() {
        assert_eq!(snake("list-keys"), "list_keys");
        assert_eq!(camel("key-response"), "KeyResponse");
        assert_eq!(camel("HTTP-request"), "HttpRequest");
        assert_eq!(constant("look-alikes"), "LOOK_ALIKES");
    }

    #[test]
    fn keywords_become_raw_or_get_an_underscore() {
        assert_eq!(snake("type"), "r#type");
        assert_eq!(snake("gen"), "r#gen");
        assert_eq!(snake("self"), "self_");
        assert_eq!(camel("self"), "Self_");
        assert_eq!(camel("box"), "Box_");
    }
}
