//! The section walk against hostile files, and against an independent reader of components.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use wasm_encoder::{Component, CustomSection, Module, ModuleSection, NestedComponentSection};
use wasmparser::{Parser, Payload};

use super::*;

fn custom<'a>(name: &'a str, data: &'a [u8]) -> CustomSection<'a> {
    CustomSection {
        name: name.into(),
        data: data.into(),
    }
}

fn module_with(section: &CustomSection<'_>) -> Module {
    let mut module = Module::new();
    module.section(section);
    module
}

/// A component with a module, a nested component and somebody else's custom section.
fn component() -> Component {
    let mut nested = Component::new();
    nested.section(&custom("name", b"inner"));
    let mut component = Component::new();
    component
        .section(&ModuleSection(&module_with(&custom("producers", b"x"))))
        .section(&NestedComponentSection(&nested))
        .section(&custom("other-token", b"a.b.c"));
    component
}

fn nested(component: Component, levels: usize) -> Component {
    (0..levels).fold(component, |inner, _| {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        outer
    })
}

/// Names and contents of the custom sections at the top level, by somebody else's parser.
fn custom_sections(component: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut depth = 0;
    let mut sections = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::CustomSection(section) if depth == 0 => {
                sections.push((section.name().to_owned(), section.data().to_vec()));
            }
            _ => {}
        }
    }
    sections
}

#[test]
fn what_is_embedded_is_extracted() {
    let signed = embed(&component().finish(), "a.b.c").unwrap();
    assert_eq!(extract(&signed), Ok(Some("a.b.c")));
}

#[test]
fn a_component_without_the_section_has_no_token() {
    assert_eq!(extract(&component().finish()), Ok(None));
    assert_eq!(extract(&Component::new().finish()), Ok(None));
}

#[test]
fn another_parser_finds_the_section_and_everything_else_unchanged() {
    let signed = embed(&component().finish(), "a.b.c").unwrap();
    assert_eq!(
        custom_sections(&signed),
        [
            ("other-token".to_owned(), b"a.b.c".to_vec()),
            (SECTION_NAME.to_owned(), b"a.b.c".to_vec()),
        ]
    );
}

#[test]
fn the_bytes_of_the_section_are_these() {
    let signed = embed(&Component::new().finish(), "t").unwrap();
    assert_eq!(signed, b"\0asm\x0d\0\x01\0\x00\x10\x0etrellis-claimst");
}

#[test]
fn embedding_again_replaces_the_token() {
    let original = component().finish();
    let first = embed(&original, "first").unwrap();
    let second = embed(&first, "second, longer").unwrap();
    assert_eq!(extract(&second), Ok(Some("second, longer")));
    assert_eq!(second, embed(&original, "second, longer").unwrap());
}

#[test]
fn the_hash_is_that_of_the_unsigned_bytes_wherever_the_section_stands() {
    let original = component().finish();
    let expected = ContentHash::from_bytes(Sha256::digest(&original).into());
    assert_eq!(content_hash(&original), Ok(expected));
    assert_eq!(content_hash(&embed(&original, "t").unwrap()), Ok(expected));

    let mut section = vec![0, 16, 14];
    section.extend(b"trellis-claimst");
    let first = [&original[..8], &section, &original[8..]].concat();
    assert_eq!(extract(&first), Ok(Some("t")));
    assert_eq!(content_hash(&first), Ok(expected));
}

#[test]
fn the_hash_covers_what_other_makers_put_in() {
    let mut other = component();
    other.section(&custom("note", b""));
    assert_ne!(
        content_hash(&component().finish()),
        content_hash(&other.finish())
    );
}

#[test]
fn padded_sizes_are_read() {
    let mut file = Component::new().finish();
    file.extend([CUSTOM_SECTION, 0x90, 0x80, 0x80, 0x80, 0x00, 14]);
    file.extend(b"trellis-claimst");
    assert_eq!(extract(&file), Ok(Some("t")));
    assert_eq!(
        content_hash(&file),
        content_hash(&Component::new().finish())
    );
}

#[test]
fn two_sections_are_refused() {
    let mut twice = component();
    twice
        .section(&custom(SECTION_NAME, b"one"))
        .section(&custom(SECTION_NAME, b"two"));
    let twice = twice.finish();
    assert!(matches!(
        extract(&twice),
        Err(SectionError::Duplicate { .. })
    ));
    assert!(matches!(
        content_hash(&twice),
        Err(SectionError::Duplicate { .. })
    ));
    assert!(matches!(
        embed(&twice, "t"),
        Err(SectionError::Duplicate { .. })
    ));
}

#[test]
fn a_section_in_a_nested_module_is_refused() {
    let mut outer = Component::new();
    outer.section(&ModuleSection(&module_with(&custom(SECTION_NAME, b"t"))));
    let outer = outer.finish();
    assert!(matches!(extract(&outer), Err(SectionError::Nested { .. })));
    assert!(matches!(
        embed(&outer, "t"),
        Err(SectionError::Nested { .. })
    ));
}

#[test]
fn a_section_in_a_nested_component_is_refused_at_every_depth() {
    for levels in 1..=NESTING_MAX {
        let mut inner = Component::new();
        inner.section(&custom(SECTION_NAME, b"t"));
        let outer = nested(inner, levels).finish();
        assert!(matches!(extract(&outer), Err(SectionError::Nested { .. })));
    }
}

#[test]
fn nesting_is_followed_to_its_limit_and_no_further() {
    let deepest = nested(Component::new(), NESTING_MAX).finish();
    assert_eq!(extract(&deepest), Ok(None));
    let deeper = nested(Component::new(), NESTING_MAX + 1).finish();
    assert!(matches!(
        extract(&deeper),
        Err(SectionError::TooDeep { .. })
    ));
    let absurd = nested(Component::new(), 2_000).finish();
    assert!(matches!(
        extract(&absurd),
        Err(SectionError::TooDeep { .. })
    ));
}

#[test]
fn what_is_no_component_is_told_apart() {
    assert_eq!(extract(b""), Err(SectionError::NotWasm));
    assert_eq!(extract(b"#!/bin/sh"), Err(SectionError::NotWasm));
    assert_eq!(extract(b"\0as"), Err(SectionError::Truncated { offset: 3 }));
    assert_eq!(
        extract(&Module::new().finish()),
        Err(SectionError::CoreModule)
    );
    assert_eq!(
        extract(b"\0asm\x0e\0\x01\0"),
        Err(SectionError::UnknownFormat {
            version: [0x0e, 0, 1, 0]
        })
    );
}

#[test]
fn a_module_where_a_component_is_announced_is_refused() {
    let mut file = Component::new().finish();
    file.extend([COMPONENT_SECTION, 8]);
    file.extend(Module::new().finish());
    assert_eq!(extract(&file), Err(SectionError::BadNesting { offset: 10 }));
}

#[test]
fn sizes_beyond_32_bits_are_refused() {
    for size in [
        &[0x80, 0x80, 0x80, 0x80, 0x10][..],
        &[0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
    ] {
        let mut file = Component::new().finish();
        file.push(CUSTOM_SECTION);
        file.extend(size);
        assert_eq!(extract(&file), Err(SectionError::BadSize { offset: 9 }));
    }
}

#[test]
fn the_largest_size_is_read_as_more_than_there_is() {
    let mut file = Component::new().finish();
    file.extend([CUSTOM_SECTION, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(extract(&file), Err(SectionError::Truncated { offset: 14 }));
}

#[test]
fn a_name_longer_than_its_section_is_refused() {
    let mut file = Component::new().finish();
    // The name would reach into the next section.
    file.extend([CUSTOM_SECTION, 3, 14]);
    file.extend(b"trellis-claimst");
    assert_eq!(extract(&file), Err(SectionError::Truncated { offset: 11 }));
}

#[test]
fn the_largest_token_is_embedded_and_one_byte_more_is_not() {
    let original = component().finish();
    let largest = "t".repeat(TOKEN_BYTES_MAX);
    let signed = embed(&original, &largest).unwrap();
    assert_eq!(extract(&signed), Ok(Some(largest.as_str())));

    let too_large = SectionError::TokenTooLarge {
        len: TOKEN_BYTES_MAX + 1,
    };
    assert_eq!(
        embed(&original, &format!("{largest}t")),
        Err(too_large.clone())
    );
    let mut smuggled = component();
    smuggled.section(&custom(SECTION_NAME, &vec![b't'; TOKEN_BYTES_MAX + 1]));
    assert_eq!(extract(&smuggled.finish()), Err(too_large));
}

#[test]
fn a_token_that_is_no_text_is_refused() {
    let mut file = component();
    file.section(&custom(SECTION_NAME, &[0xff]));
    assert_eq!(extract(&file.finish()), Err(SectionError::NotText));
}

#[test]
fn a_component_cut_anywhere_never_panics_and_is_never_taken_for_signed() {
    let signed = embed(&component().finish(), "a.b.c").unwrap();
    for end in 0..signed.len() {
        assert!(!matches!(extract(&signed[..end]), Ok(Some(_))), "{end}");
        let _ = content_hash(&signed[..end]);
        let _ = embed(&signed[..end], "t");
    }
}

#[test]
fn a_changed_byte_anywhere_never_panics() {
    let signed = embed(&component().finish(), "a.b.c").unwrap();
    for at in 0..signed.len() {
        for byte in 0..=u8::MAX {
            let mut changed = signed.clone();
            changed[at] = byte;
            let _ = extract(&changed);
            let _ = content_hash(&changed);
            let _ = embed(&changed, "t");
        }
    }
}
