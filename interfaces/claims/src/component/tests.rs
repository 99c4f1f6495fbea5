//! The front door: good components pass, and every attack on the pair of component and token is refused by its name.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use wasm_encoder::{Component, CustomSection, NestedComponentSection};

use super::*;
use crate::actor::NewActorToken;
use crate::forge::{HOUR, NOW, new_key, new_public, trusting};
use crate::key::{KeyKind, SigningKey};
use crate::section::{SECTION_NAME, content_hash, embed};

fn component_saying(text: &str) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&CustomSection {
        name: "content".into(),
        data: text.as_bytes().into(),
    });
    component.finish()
}

fn token_for(component: &[u8], account: &SigningKey) -> String {
    NewActorToken {
        subject: new_public(KeyKind::Module),
        name: "hello".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 0,
        tags: Vec::new(),
        call_alias: None,
        capabilities: ["wasi:http".parse().unwrap()].into_iter().collect(),
        content_hash: content_hash(component).unwrap(),
        validity: HOUR,
        account_token: None,
    }
    .sign(account, NOW)
    .unwrap()
}

#[test]
fn a_signed_component_is_believed() {
    let account = new_key(KeyKind::Account);
    let original = component_saying("hello");
    let token = token_for(&original, &account);
    let signed = embed(&original, &token).unwrap();
    let verified = verify_component(&signed, &trusting(&[&account]), NOW).unwrap();
    assert_eq!(verified.token, token);
    assert_eq!(verified.content_hash, content_hash(&original).unwrap());
    assert_eq!(verified.claims.name, "hello");
}

#[test]
fn a_component_can_be_signed_again() {
    let account = new_key(KeyKind::Account);
    let once = component_saying("hello");
    let once = embed(&once, &token_for(&once, &account)).unwrap();
    let token = token_for(&once, &account);
    let twice = embed(&once, &token).unwrap();
    let verified = verify_component(&twice, &trusting(&[&account]), NOW).unwrap();
    assert_eq!(verified.token, token);
}

#[test]
fn an_unsigned_component_is_refused_with_advice() {
    let account = new_key(KeyKind::Account);
    let error =
        verify_component(&component_saying("hello"), &trusting(&[&account]), NOW).unwrap_err();
    assert_eq!(error, ClaimsError::Unsigned);
    assert!(error.to_string().contains("wash claims sign"));
}

#[test]
fn the_token_of_another_component_is_refused() {
    let account = new_key(KeyKind::Account);
    let (hello, evil) = (component_saying("hello"), component_saying("evil"));
    let signed = embed(&evil, &token_for(&hello, &account)).unwrap();
    assert_eq!(
        verify_component(&signed, &trusting(&[&account]), NOW),
        Err(ClaimsError::HashMismatch {
            claimed: content_hash(&hello).unwrap(),
            actual: content_hash(&evil).unwrap()
        })
    );
}

#[test]
fn a_byte_changed_after_signing_is_refused_wherever_it_is() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let original = component_saying("hello");
    let signed = embed(&original, &token_for(&original, &account)).unwrap();
    for at in 0..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        assert!(verify_component(&changed, &roots, NOW).is_err(), "{at}");
    }
    // Inside the content, where no parser would notice.
    let mut changed = signed;
    changed[original.len() - 1] ^= 1;
    assert!(matches!(
        verify_component(&changed, &roots, NOW),
        Err(ClaimsError::HashMismatch { .. })
    ));
}

#[test]
fn a_component_cut_anywhere_is_refused_without_a_panic() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let original = component_saying("hello");
    let signed = embed(&original, &token_for(&original, &account)).unwrap();
    for end in 0..signed.len() {
        assert!(verify_component(&signed[..end], &roots, NOW).is_err());
    }
}

#[test]
fn a_section_added_after_signing_is_refused() {
    let account = new_key(KeyKind::Account);
    let original = component_saying("hello");
    let mut signed = embed(&original, &token_for(&original, &account)).unwrap();
    signed.extend([0, 2, 1, b'x']);
    assert!(matches!(
        verify_component(&signed, &trusting(&[&account]), NOW),
        Err(ClaimsError::HashMismatch { .. })
    ));
}

#[test]
fn a_second_token_is_refused_even_if_both_are_good() {
    let account = new_key(KeyKind::Account);
    let original = component_saying("hello");
    let signed = embed(&original, &token_for(&original, &account)).unwrap();
    let twice = [&signed[..], &signed[original.len()..]].concat();
    assert!(matches!(
        verify_component(&twice, &trusting(&[&account]), NOW),
        Err(ClaimsError::Section(SectionError::Duplicate { .. }))
    ));
}

#[test]
fn a_signed_component_inside_another_signs_nothing() {
    let account = new_key(KeyKind::Account);
    let mut inner = Component::new();
    let token = token_for(&Component::new().finish(), &account);
    inner.section(&CustomSection {
        name: SECTION_NAME.into(),
        data: token.as_bytes().into(),
    });
    let mut outer = Component::new();
    outer.section(&NestedComponentSection(&inner));
    assert!(matches!(
        verify_component(&outer.finish(), &trusting(&[&account]), NOW),
        Err(ClaimsError::Section(SectionError::Nested { .. }))
    ));
}

#[test]
fn a_component_of_a_stranger_and_an_expired_one_are_refused() {
    let account = new_key(KeyKind::Account);
    let original = component_saying("hello");
    let signed = embed(&original, &token_for(&original, &account)).unwrap();
    assert!(matches!(
        verify_component(&signed, &TrustRoots::default(), NOW),
        Err(ClaimsError::Token(TokenError::UntrustedIssuer { .. }))
    ));
    let tomorrow = UnixTime::from_secs(NOW.as_secs() + 86_400);
    assert!(matches!(
        verify_component(&signed, &trusting(&[&account]), tomorrow),
        Err(ClaimsError::Token(TokenError::Expired { .. }))
    ));
}

#[test]
fn every_refusal_has_a_code_of_its_own() {
    let hash = crate::ContentHash::from_bytes([0; 32]);
    let issuer = new_public(KeyKind::Account);
    let errors = [
        ClaimsError::Unsigned,
        ClaimsError::HashMismatch {
            claimed: hash,
            actual: hash,
        },
        SectionError::NotWasm.into(),
        SectionError::Duplicate { offset: 0 }.into(),
        SectionError::Nested { offset: 0 }.into(),
        TokenError::MissingExpiry.into(),
        TokenError::Expired { at: NOW }.into(),
        TokenError::NotYetValid { from: NOW }.into(),
        TokenError::BadSignature {
            issuer: issuer.clone(),
        }
        .into(),
        TokenError::UntrustedIssuer { issuer }.into(),
    ];
    let codes: std::collections::BTreeSet<_> = errors.iter().map(ClaimsError::code).collect();
    assert_eq!(codes.len(), errors.len());
}
