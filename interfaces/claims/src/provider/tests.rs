#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_750_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn token(subject: &SigningKey) -> NewProviderToken {
    let target = Target {
        hash: ContentHash::from_bytes([7; 32]),
        bytes: 12,
    };
    NewProviderToken {
        subject: subject.public().clone(),
        name: "keyvalue-redis".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 3,
        vendor: "Example".to_owned(),
        serves: ["wasi:keyvalue"]
            .iter()
            .map(|c| c.parse().unwrap())
            .collect(),
        calls: ["wasi:keyvalue/watcher"]
            .iter()
            .map(|c| c.parse().unwrap())
            .collect(),
        targets: BTreeMap::from([("x86_64-linux".parse().unwrap(), target)]),
        config_schema: Some("{}".to_owned()),
        validity: Validity::starting(NOW, DAY),
        account_token: None,
    }
}

fn roots(account: &SigningKey) -> TrustRoots {
    let mut roots = TrustRoots::default();
    roots.insert(account.public().clone()).unwrap();
    roots
}

#[test]
fn a_token_is_read_as_it_was_signed() {
    let account = SigningKey::generate(KeyKind::Account);
    let provider = SigningKey::generate(KeyKind::Provider);
    let new = token(&provider);
    let text = new.sign(&account, NOW).unwrap();
    let claims = ProviderToken::verify(&text, &roots(&account), NOW).unwrap();
    assert_eq!(claims.issuer, *account.public());
    assert_eq!(claims.subject, new.subject);
    assert_eq!(claims.vendor, "Example");
    assert_eq!(claims.serves, new.serves);
    assert_eq!(claims.calls, new.calls);
    assert_eq!(claims.targets, new.targets);
    assert_eq!(claims.config_schema, new.config_schema);
}

#[test]
fn nobody_else_and_no_other_time_is_believed() {
    let account = SigningKey::generate(KeyKind::Account);
    let other = SigningKey::generate(KeyKind::Account);
    let provider = SigningKey::generate(KeyKind::Provider);
    let text = token(&provider).sign(&account, NOW).unwrap();
    let verify = |roots: &TrustRoots, now| ProviderToken::verify(&text, roots, now);
    assert!(matches!(
        verify(&roots(&other), NOW),
        Err(TokenError::UntrustedIssuer { .. })
    ));
    assert!(matches!(
        verify(&roots(&account), NOW.saturating_add(2 * DAY)),
        Err(TokenError::Expired { .. })
    ));
    let mut changed = text.clone();
    changed.insert(text.len() - 3, if text.ends_with('A') { 'B' } else { 'A' });
    assert!(ProviderToken::verify(&changed, &roots(&account), NOW).is_err());
}

#[test]
fn an_operator_can_vouch_for_the_account() {
    let operator = SigningKey::generate(KeyKind::Operator);
    let account = SigningKey::generate(KeyKind::Account);
    let provider = SigningKey::generate(KeyKind::Provider);
    let vouching = crate::NewAccountToken {
        subject: account.public().clone(),
        name: String::new(),
        validity: Validity::starting(NOW, DAY),
    };
    let new = NewProviderToken {
        account_token: Some(vouching.sign(&operator, NOW).unwrap()),
        ..token(&provider)
    };
    let text = new.sign(&account, NOW).unwrap();
    let claims = ProviderToken::verify(&text, &roots(&operator), NOW).unwrap();
    assert_eq!(
        claims.account_validity.unwrap(),
        Validity::starting(NOW, DAY)
    );
}

#[test]
fn an_actors_key_or_no_target_is_refused() {
    let account = SigningKey::generate(KeyKind::Account);
    let module = SigningKey::generate(KeyKind::Module);
    assert!(matches!(
        token(&module).sign(&account, NOW),
        Err(SignError::WrongKeyKind { .. })
    ));
    let provider = SigningKey::generate(KeyKind::Provider);
    let none = NewProviderToken {
        targets: BTreeMap::new(),
        ..token(&provider)
    };
    assert!(matches!(
        none.sign(&account, NOW),
        Err(SignError::InvalidField { .. })
    ));
    let many = NewProviderToken {
        targets: (0..=TARGETS_MAX)
            .map(|index| {
                let target = Target {
                    hash: ContentHash::from_bytes([7; 32]),
                    bytes: 12,
                };
                (
                    Platform::new(&format!("a{index}"), "linux").unwrap(),
                    target,
                )
            })
            .collect(),
        ..token(&provider)
    };
    assert!(matches!(
        many.sign(&account, NOW),
        Err(SignError::InvalidField { .. })
    ));
}

#[test]
fn a_platform_is_an_architecture_and_a_system() {
    let platform: Platform = "x86_64-linux".parse().unwrap();
    assert_eq!((platform.arch(), platform.os()), ("x86_64", "linux"));
    assert_eq!(platform.to_string(), "x86_64-linux");
    assert_eq!(Platform::here().to_string().parse(), Ok(Platform::here()));
    for bad in [
        "",
        "x86_64",
        "-",
        "x86-",
        "../x-linux",
        "X86-linux",
        "a-b-c",
    ] {
        assert!(bad.parse::<Platform>().is_err(), "{bad}");
    }
}
