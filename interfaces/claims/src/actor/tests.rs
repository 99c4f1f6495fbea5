//! Actor tokens: what is signed is read back, and each refusal tried as an attack. Chains have a file of their own.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::forge::{HOUR, NOW, forge, header, new_key, new_public, payload_of, trusting, unsigned};
use crate::token::{CLOCK_TOLERANCE, EXPIRES_MAX, TOKEN_BYTES_MAX};

pub(super) fn new_token() -> NewActorToken {
    NewActorToken {
        subject: new_public(KeyKind::Module),
        name: "shortlink".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 3,
        tags: vec!["demo".to_owned()],
        call_alias: Some("demo/shortlink".to_owned()),
        capabilities: ["wasi:http", "wasi:keyvalue/store"]
            .map(|text| text.parse().unwrap())
            .into_iter()
            .collect(),
        content_hash: ContentHash::from_bytes([7; 32]),
        validity: HOUR,
        account_token: None,
    }
}

/// A good token whose payload was changed and signed again by its own account.
fn changed(change: impl FnOnce(&mut Value)) -> Result<ActorClaims, TokenError> {
    let account = new_key(KeyKind::Account);
    let mut payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    change(&mut payload);
    let token = forge(&account, &header(), &payload);
    ActorToken::verify(&token, &trusting(&[&account]), NOW)
}

fn verified_at(now: UnixTime) -> Result<ActorClaims, TokenError> {
    let account = new_key(KeyKind::Account);
    let token = new_token().sign(&account, NOW).unwrap();
    ActorToken::verify(&token, &trusting(&[&account]), now)
}

#[test]
fn what_was_signed_is_what_is_verified() {
    let account = new_key(KeyKind::Account);
    let new = new_token();
    let token = new.sign(&account, NOW).unwrap();
    let claims = ActorToken::verify(&token, &trusting(&[&account]), NOW).unwrap();
    assert_eq!(
        claims,
        ActorClaims {
            issuer: account.public().clone(),
            subject: new.subject,
            name: new.name,
            version: new.version,
            revision: new.revision,
            tags: new.tags,
            call_alias: new.call_alias,
            capabilities: new.capabilities,
            content_hash: new.content_hash,
            issued_at: NOW,
            validity: HOUR,
            token_id: claims.token_id.clone(),
            account_token: None,
            account_validity: None,
        }
    );
    assert_eq!(ActorToken::decode_unverified(&token), Ok(claims));
}

#[test]
fn the_payload_is_written_like_this() {
    let account = new_key(KeyKind::Account);
    let new = new_token();
    let payload = payload_of(&new.sign(&account, NOW).unwrap());
    assert_eq!(
        payload,
        json!({
            "iss": account.public(), "sub": new.subject, "jti": payload["jti"],
            "iat": 1_800_000_000_u64, "nbf": 1_800_000_000_u64, "exp": 1_800_003_600_u64,
            "wascap": {
                "name": "shortlink", "ver": "0.1.0", "rev": 3, "tags": ["demo"], "call_alias": "demo/shortlink",
                "caps": ["wasi:http", "wasi:keyvalue/store"], "hash": new.content_hash.to_string(),
            }
        })
    );
}

#[test]
fn two_tokens_never_share_an_id() {
    let account = new_key(KeyKind::Account);
    let [first, second] = [(); 2].map(|()| payload_of(&new_token().sign(&account, NOW).unwrap()));
    assert_ne!(first["jti"], second["jti"]);
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let claims = changed(|payload| {
        payload["new"] = json!({"a": [1, 2]});
        payload["wascap"]["new"] = json!(null);
        payload["aud"] = json!(["somebody"]);
    });
    assert_eq!(claims.map(|claims| claims.name), Ok("shortlink".to_owned()));
}

#[test]
fn a_stranger_is_not_trusted() {
    let (account, stranger) = (new_key(KeyKind::Account), new_key(KeyKind::Account));
    let token = new_token().sign(&stranger, NOW).unwrap();
    let untrusted = Err(TokenError::UntrustedIssuer {
        issuer: stranger.public().clone(),
    });
    assert_eq!(
        ActorToken::verify(&token, &trusting(&[&account]), NOW),
        untrusted
    );
    assert_eq!(
        ActorToken::verify(&token, &TrustRoots::default(), NOW),
        untrusted
    );
}

#[test]
fn a_stranger_in_the_name_of_a_trusted_account_is_refused() {
    let (account, stranger) = (new_key(KeyKind::Account), new_key(KeyKind::Account));
    let payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    let token = forge(&stranger, &header(), &payload);
    assert_eq!(
        ActorToken::verify(&token, &trusting(&[&account]), NOW),
        Err(TokenError::BadSignature {
            issuer: account.public().clone()
        })
    );
}

#[test]
fn a_payload_changed_after_signing_is_refused() {
    let account = new_key(KeyKind::Account);
    let token = new_token().sign(&account, NOW).unwrap();
    let mut payload = payload_of(&token);
    payload["wascap"]["caps"] = json!(["wasi:http", "wasi:keyvalue", "wasi:sockets"]);
    let signature = token.rsplit('.').next().unwrap();
    let token = format!("{}.{signature}", unsigned(&header(), &payload.to_string()));
    assert!(matches!(
        ActorToken::verify(&token, &trusting(&[&account]), NOW),
        Err(TokenError::BadSignature { .. })
    ));
}

#[test]
fn a_token_without_a_signature_is_refused_whatever_its_algorithm() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let payload = payload_of(&new_token().sign(&account, NOW).unwrap()).to_string();
    for algorithm in ["none", "None", "NONE", "", "HS256", "Ed25519", "ES256"] {
        let token = format!("{}.", unsigned(&json!({"alg": algorithm}), &payload));
        assert_eq!(
            ActorToken::verify(&token, &roots, NOW),
            Err(TokenError::WrongAlgorithm {
                found: algorithm.to_owned()
            })
        );
    }
    let token = format!("{}.", unsigned(&header(), &payload));
    assert!(matches!(
        ActorToken::verify(&token, &roots, NOW),
        Err(TokenError::Malformed { .. })
    ));
}

#[test]
fn a_public_key_cannot_be_used_as_a_shared_secret() {
    use jwt_simple::algorithms::{HS256Key, MACLike as _};
    use jwt_simple::claims::JWTClaims;

    let account = new_key(KeyKind::Account);
    let payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    let claims: JWTClaims<Value> = serde_json::from_value(payload).unwrap();
    let token = HS256Key::from_bytes(&account.public().to_bytes())
        .authenticate(claims)
        .unwrap();
    assert_eq!(
        ActorToken::verify(&token, &trusting(&[&account]), NOW),
        Err(TokenError::WrongAlgorithm {
            found: "HS256".to_owned()
        })
    );
}

#[test]
fn a_critical_extension_that_nobody_knows_is_refused() {
    let account = new_key(KeyKind::Account);
    let payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    let header = json!({"alg": "EdDSA", "typ": "JWT", "crit": ["b64"]});
    let token = forge(&account, &header, &payload);
    assert!(matches!(
        ActorToken::verify(&token, &trusting(&[&account]), NOW),
        Err(TokenError::Malformed { .. })
    ));
}

#[test]
fn a_token_is_good_until_its_expiry_and_the_tolerance() {
    let last = HOUR.expires.saturating_add(CLOCK_TOLERANCE);
    let after = last.saturating_add(Duration::from_secs(1));
    assert!(verified_at(last).is_ok());
    assert_eq!(
        verified_at(after),
        Err(TokenError::Expired { at: HOUR.expires })
    );
}

#[test]
fn a_token_is_good_from_its_beginning_less_the_tolerance() {
    let first = NOW.saturating_sub(CLOCK_TOLERANCE);
    let before = first.saturating_sub(Duration::from_secs(1));
    assert!(verified_at(first).is_ok());
    assert_eq!(
        verified_at(before),
        Err(TokenError::NotYetValid { from: NOW })
    );
}

#[test]
fn a_beginning_in_the_future_is_respected() {
    let from = NOW.as_secs() + 60;
    assert_eq!(
        changed(|payload| payload["nbf"] = json!(from)),
        Err(TokenError::NotYetValid {
            from: UnixTime::from_secs(from)
        })
    );
    assert_eq!(
        changed(|payload| {
            payload["nbf"] = json!(0);
            payload["iat"] = json!(from);
        }),
        Err(TokenError::NotYetValid {
            from: UnixTime::from_secs(from)
        })
    );
}

#[test]
fn an_expiry_that_overflows_the_librarys_clock_is_no_way_in() {
    // The library's clock ends at 2^32 seconds: none of these may wrap around to another time there.
    for exp in [u64::MAX, (1 << 32) + 1, 1 << 63] {
        let claims = changed(|payload| payload["exp"] = json!(exp)).unwrap();
        assert_eq!(claims.validity.expires, UnixTime::from_secs(exp));
    }
    for iat in [u64::MAX, 1 << 32] {
        assert_eq!(
            changed(|payload| payload["iat"] = json!(iat)),
            Err(TokenError::NotYetValid {
                from: UnixTime::from_secs(iat)
            })
        );
    }
}

#[test]
fn a_token_without_an_end_is_refused() {
    for end in [None, Some(Value::Null)] {
        let result = changed(|payload| {
            let fields = payload.as_object_mut().unwrap();
            fields.remove("exp");
            fields.extend(end.map(|end| ("exp".to_owned(), end)));
        });
        assert!(
            matches!(
                result,
                Err(TokenError::MissingExpiry | TokenError::Malformed { .. })
            ),
            "{result:?}"
        );
    }
}

#[test]
fn a_missing_field_is_named() {
    for claim in ["iss", "sub", "iat", "jti"] {
        let result = changed(|payload| drop(payload.as_object_mut().unwrap().remove(claim)));
        assert_eq!(result, Err(TokenError::Missing { claim }));
    }
    for field in ["name", "ver", "rev", "hash"] {
        let result = changed(|payload| {
            drop(payload["wascap"].as_object_mut().unwrap().remove(field));
        });
        assert!(
            matches!(&result, Err(TokenError::Malformed { fault }) if fault.contains(field)),
            "{result:?}"
        );
    }
}

#[test]
fn times_that_are_no_whole_numbers_are_refused() {
    for time in [json!(-1), json!(1.5e9), json!(1e300), json!("1800000000")] {
        assert!(matches!(
            changed(|payload| payload["exp"] = time),
            Err(TokenError::Malformed { .. })
        ));
    }
}

#[test]
fn keys_of_the_wrong_kind_are_refused() {
    let account = new_public(KeyKind::Account);
    assert_eq!(
        changed(|payload| payload["sub"] = json!(account)),
        Err(TokenError::WrongPrefix {
            claim: "sub",
            expected: "a module (M)",
            found: KeyKind::Account
        })
    );
    for kind in [KeyKind::Operator, KeyKind::User, KeyKind::Module] {
        let key = new_key(kind);
        let mut payload = payload_of(&new_token().sign(&new_key(KeyKind::Account), NOW).unwrap());
        payload["iss"] = json!(key.public());
        assert_eq!(
            ActorToken::verify(
                &forge(&key, &header(), &payload),
                &TrustRoots::default(),
                NOW
            ),
            Err(TokenError::WrongPrefix {
                claim: "iss",
                expected: "an account (A)",
                found: kind
            })
        );
    }
    let curve = nkeys::XKey::new().public_key();
    for no_key in [json!("A"), json!(""), json!(curve)] {
        assert!(matches!(
            changed(|payload| payload["sub"] = no_key),
            Err(TokenError::InvalidKey { claim: "sub", .. })
        ));
    }
}

#[test]
fn grants_hashes_and_texts_that_cannot_be_meant_are_refused() {
    let bad = [
        ("caps", json!(["wasi:*"])),
        ("caps", json!(["wasi:http@0.2.0"])),
        ("caps", json!("wasi:http")),
        ("hash", json!("sha256:00")),
        ("rev", json!(-1)),
        ("name", json!("\u{1b}[31mtrusted\u{1b}[0m")),
        ("tags", json!(["a\nb"])),
        ("call_alias", json!("a".repeat(257))),
    ];
    for (field, value) in bad {
        let result = changed(|payload| payload["wascap"][field] = value);
        let Err(error @ TokenError::Malformed { .. }) = result else {
            panic!("{field} was accepted");
        };
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn a_field_given_twice_is_refused() {
    let account = new_key(KeyKind::Account);
    let payload = payload_of(&new_token().sign(&account, NOW).unwrap()).to_string();
    let twice = payload.replacen('{', r#"{"exp":9999999999,"#, 1);
    let signed = unsigned(&header(), &twice);
    let signature = BASE64URL_NOPAD.encode(&account.sign_bytes(signed.as_bytes()));
    assert!(matches!(
        ActorToken::verify(
            &format!("{signed}.{signature}"),
            &trusting(&[&account]),
            NOW
        ),
        Err(TokenError::Malformed { .. })
    ));
}

#[test]
fn a_token_as_large_as_can_be_is_read_and_a_larger_one_is_not() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let mut payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    let mut of_size = |len: usize| {
        payload["padding"] = json!("");
        let empty = forge(&account, &header(), &payload).len();
        // Four characters of base64 for three of padding, give or take the remainder.
        for padding in (len - empty) * 3 / 4 - 4.. {
            payload["padding"] = json!("p".repeat(padding));
            let token = forge(&account, &header(), &payload);
            if token.len() >= len {
                return token;
            }
        }
        unreachable!()
    };
    let largest = of_size(TOKEN_BYTES_MAX - 1);
    assert!(largest.len() <= TOKEN_BYTES_MAX);
    assert!(ActorToken::verify(&largest, &roots, NOW).is_ok());
    let too_large = of_size(TOKEN_BYTES_MAX + 1);
    let refused = Err(TokenError::TooLarge {
        len: too_large.len(),
    });
    assert_eq!(ActorToken::verify(&too_large, &roots, NOW), refused);
    assert_eq!(ActorToken::decode_unverified(&too_large), refused);
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    let roots = TrustRoots::default();
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "é.é.é", "\0"] {
        assert!(ActorToken::verify(text, &roots, NOW).is_err(), "{text:?}");
        assert!(ActorToken::decode_unverified(text).is_err(), "{text:?}");
    }
    let nested = "[".repeat(10_000);
    let token = format!("{}.e30", unsigned(&header(), &nested));
    assert!(ActorToken::verify(&token, &roots, NOW).is_err());
}

#[test]
fn a_token_cut_or_changed_anywhere_is_refused_without_a_panic() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let token = new_token().sign(&account, NOW).unwrap();
    for at in 0..token.len() {
        assert!(ActorToken::verify(&token[..at], &roots, NOW).is_err());
        let _ = ActorToken::decode_unverified(&token[..at]);
        let mut changed = token.clone();
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        assert!(ActorToken::verify(&changed, &roots, NOW).is_err(), "{at}");
        let _ = ActorToken::decode_unverified(&changed);
    }
}

#[test]
fn nothing_is_signed_that_would_be_refused() {
    let account = new_key(KeyKind::Account);
    let sign = |change: fn(&mut NewActorToken)| {
        let mut new = new_token();
        change(&mut new);
        new.sign(&account, NOW)
    };
    assert!(matches!(
        sign(|new| new.validity.expires = new.validity.not_before),
        Err(SignError::NeverValid { .. })
    ));
    assert!(matches!(
        sign(|new| new.validity = Validity {
            not_before: UnixTime::from_secs(0),
            expires: NOW
        }),
        Err(SignError::NeverValid { .. })
    ));
    assert!(sign(|new| new.validity.expires = EXPIRES_MAX).is_ok());
    assert!(matches!(
        sign(|new| {
            new.validity.expires = EXPIRES_MAX.saturating_add(Duration::from_secs(1));
        }),
        Err(SignError::ExpiresTooLate { .. })
    ));
    assert!(matches!(
        sign(|new| new.name = "a\tb".to_owned()),
        Err(SignError::InvalidField { .. })
    ));
    assert!(matches!(
        sign(|new| new.tags = vec!["t".repeat(200); 400]),
        Err(SignError::TooLarge { .. })
    ));
    assert!(matches!(
        sign(|new| new.subject = new_public(KeyKind::Host)),
        Err(SignError::WrongKeyKind {
            role: "the subject",
            ..
        })
    ));
    assert!(matches!(
        new_token().sign(&new_key(KeyKind::Operator), NOW),
        Err(SignError::WrongKeyKind {
            role: "the signer",
            ..
        })
    ));
}

#[test]
fn an_eternal_looking_time_does_not_overflow_the_check() {
    let validity = Validity {
        not_before: UnixTime::from_secs(0),
        expires: UnixTime::from_secs(u64::MAX),
    };
    assert_eq!(validity.check(UnixTime::from_secs(u64::MAX)), Ok(()));
    assert_eq!(validity.check(UnixTime::from_secs(0)), Ok(()));
}
