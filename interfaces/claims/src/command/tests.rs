//! Commands' and links' tokens: their exact bytes, who may sign them, and what they cannot be used for.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::account::NewAccountToken;
use crate::forge::{HOUR, NOW, forge, header, new_key, payload_of, trusting};
use crate::key::SigningKey;
use crate::token::SignError;

const SUBJECT: &str = "wasmbus.ctl.v1.default.link.del";
const BODY: &[u8] = br#"{"source_id":"a"}"#;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW.as_secs()) + Duration::from_millis(millis)
}

fn later(secs: u64) -> UnixTime {
    UnixTime::from_secs(NOW.as_secs() + secs)
}

fn signer(account: SigningKey) -> CommandSigner {
    CommandSigner::new(Arc::new(account), None).unwrap()
}

fn fixed_account() -> SigningKey {
    let secret = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let seed = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::Account, secret)
        .unwrap()
        .seed()
        .unwrap();
    SigningKey::from_seed(&seed).unwrap()
}

fn unlink() -> LinkStatement {
    LinkStatement::Delete {
        source: "shortlink".to_owned(),
        name: "default".to_owned(),
        package: "wasi:keyvalue".to_owned(),
    }
}

/// What is signed of a token: everything but the signature, which is another one each time.
fn signed_part(token: &str) -> &str {
    token.rsplit_once('.').unwrap().0
}

fn payload(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap()
}

#[test]
fn the_bytes_of_a_command_are_these() {
    let hand = signer(fixed_account());
    let roots = trusting(&[&fixed_account()]);
    let token = hand
        .sign_command_as("id-1".to_owned(), "default", SUBJECT, BODY, at(123))
        .unwrap();
    assert_eq!(
        payload(&token),
        r#"{"iat":1800000000,"exp":1800000060,"nbf":1800000000,"iss":"AAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3QPZV","sub":"AAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3QPZV","jti":"id-1","trellis":{"command":{"lattice":"default","subject":"wasmbus.ctl.v1.default.link.del","body":"sha256:e7661f0f2bdd04f2e6179213a61359b7439b6518c393561d357cdaff57ad7313"}}}"#
    );
    assert_eq!(signed_part(&token), signed_part(COMMAND));
    let claims = CommandToken::verify(COMMAND, &roots, NOW).unwrap();
    claims.check("default", SUBJECT, BODY).unwrap();
    assert_eq!(claims.token_id, "id-1");
}

/// A command as another implementation would have to make it.
const COMMAND: &str = include_str!("../../vectors/command.jwt");

#[test]
fn the_bytes_of_a_link_and_of_its_deletion_are_these() {
    let hand = signer(fixed_account());
    let roots = trusting(&[&fixed_account()]);
    let put = LinkStatement::Put { fields: [0xab; 32] };
    for (statement, vector) in [(put, LINK), (unlink(), UNLINK)] {
        let token = hand
            .sign_link_as("id-2".to_owned(), "default", &statement, at(123))
            .unwrap();
        assert_eq!(signed_part(&token), signed_part(vector), "{token}");
        let claims = LinkToken::verify(vector, "default", &roots, NOW).unwrap();
        assert_eq!(claims.statement, statement);
        assert_eq!(claims.at_ms, 1_800_000_000_123);
    }
    assert!(payload(LINK).ends_with(
        r#""trellis":{"link":{"lattice":"default","at":1800000000123,"fields":"sha256:abababababababababababababababababababababababababababababababab"}}}"#
    ));
    assert!(payload(UNLINK).ends_with(
        r#""trellis":{"unlink":{"lattice":"default","at":1800000000123,"source":"shortlink","name":"default","package":"wasi:keyvalue"}}}"#
    ));
}

const LINK: &str = include_str!("../../vectors/link.jwt");

const UNLINK: &str = include_str!("../../vectors/unlink.jwt");

#[test]
fn a_command_is_for_one_lattice_subject_and_body() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let token = signer(account)
        .sign_command("default", SUBJECT, BODY, at(0))
        .unwrap();
    let claims = CommandToken::verify(&token, &roots, NOW).unwrap();
    assert_eq!(claims.check("default", SUBJECT, BODY), Ok(()));
    for (lattice, subject, body) in [
        ("other", SUBJECT, BODY),
        ("default", "wasmbus.ctl.v1.default.link.put", BODY),
        ("default", SUBJECT, b"{}".as_slice()),
    ] {
        assert!(matches!(
            claims.check(lattice, subject, body),
            Err(TokenError::WrongSubject { .. })
        ));
    }
}

#[test]
fn a_command_holds_for_a_minute_and_the_tolerance_at_both_ends() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let token = signer(account)
        .sign_command("default", SUBJECT, BODY, at(0))
        .unwrap();
    let verify = |now| CommandToken::verify(&token, &roots, now);
    let early = UnixTime::from_secs(NOW.as_secs() - 30);
    assert!(verify(early).is_ok() && verify(later(90)).is_ok());
    assert_eq!(
        verify(later(91)),
        Err(TokenError::Expired { at: later(60) })
    );
    assert!(matches!(
        verify(UnixTime::from_secs(NOW.as_secs() - 31)),
        Err(TokenError::NotYetValid { .. })
    ));
}

#[test]
fn a_command_that_lives_for_more_than_two_minutes_is_refused() {
    let account = new_key(KeyKind::Account);
    let roots = trusting(&[&account]);
    let token = signer(fixed_account())
        .sign_command("default", SUBJECT, BODY, at(0))
        .unwrap();
    let living = |secs: u64| {
        let mut payload = payload_of(&token);
        payload["iss"] = json!(account.public());
        payload["sub"] = json!(account.public());
        payload["exp"] = json!(NOW.as_secs() + secs);
        CommandToken::verify(&forge(&account, &header(), &payload), &roots, NOW)
    };
    assert!(living(120).is_ok());
    assert_eq!(
        living(121),
        Err(TokenError::LivesTooLong {
            secs: 121,
            max: 120
        })
    );
}

#[test]
fn an_account_is_believed_by_itself_or_by_its_operator() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let vouching = NewAccountToken {
        subject: account.public().clone(),
        name: String::new(),
        validity: HOUR,
    }
    .sign(&operator, NOW)
    .unwrap();
    let by_operator = trusting(&[&operator]);
    let stranger = trusting(&[&new_key(KeyKind::Account)]);
    let account = Arc::new(account);
    let hand = CommandSigner::new(Arc::clone(&account), Some(vouching.clone())).unwrap();
    let command = hand.sign_command("default", SUBJECT, BODY, at(0)).unwrap();
    assert!(CommandToken::verify(&command, &by_operator, NOW).is_ok());
    assert!(CommandToken::verify(&command, &stranger, NOW).is_err());
    let link = hand.sign_link("default", &unlink(), at(0)).unwrap();
    let claims = LinkToken::verify(&link, "default", &by_operator, NOW).unwrap();
    assert_eq!(claims.valid_until(), HOUR.expires, "as long as the account");
    let alone = CommandSigner::new(account, None).unwrap();
    let command = alone.sign_command("default", SUBJECT, BODY, at(0)).unwrap();
    assert!(matches!(
        CommandToken::verify(&command, &by_operator, NOW),
        Err(TokenError::UntrustedIssuer { .. })
    ));
    let another = Arc::new(new_key(KeyKind::Account));
    assert!(matches!(
        CommandSigner::new(another, Some(vouching)),
        Err(SignError::AccountToken { .. })
    ));
}

#[test]
fn only_accounts_command() {
    for kind in [KeyKind::Operator, KeyKind::Host, KeyKind::User] {
        assert!(matches!(
            CommandSigner::new(Arc::new(new_key(kind)), None),
            Err(SignError::WrongKeyKind { .. })
        ));
    }
}

#[test]
fn no_token_stands_for_one_of_another_sort() {
    let account = fixed_account();
    let roots = trusting(&[&account]);
    let hand = signer(account);
    let command = hand.sign_command("default", SUBJECT, BODY, at(0)).unwrap();
    let link = hand.sign_link("default", &unlink(), at(0)).unwrap();
    assert!(CommandToken::verify(&link, &roots, NOW).is_err());
    assert!(LinkToken::verify(&command, "default", &roots, NOW).is_err());
    for token in [&command, &link] {
        assert!(crate::ActorToken::verify(token, &roots, NOW).is_err());
        assert!(crate::AccountToken::verify(token, &roots, NOW).is_err());
        assert!(crate::HostCertificate::verify(token, "default", &roots, NOW).is_err());
    }
    let mut both: Value = payload_of(&command);
    both["trellis"]["link"] = payload_of(
        &hand
            .sign_link("default", &LinkStatement::Put { fields: [1; 32] }, at(0))
            .unwrap(),
    )["trellis"]["link"]
        .clone();
    both["trellis"]["unlink"] = payload_of(&link)["trellis"]["unlink"].clone();
    let both = forge(&fixed_account(), &header(), &both);
    let read = LinkToken::verify(&both, "default", &roots, NOW);
    assert!(
        read.is_err()
            || read.is_ok_and(|claims| matches!(claims.statement, LinkStatement::Put { .. })),
        "what two objects say is one thing or nothing"
    );
}

#[test]
fn a_command_about_another_account_is_refused() {
    let (account, another) = (new_key(KeyKind::Account), new_key(KeyKind::Account));
    let token = signer(fixed_account())
        .sign_command("default", SUBJECT, BODY, at(0))
        .unwrap();
    let mut payload = payload_of(&token);
    payload["iss"] = json!(account.public());
    payload["sub"] = json!(another.public());
    let token = forge(&account, &header(), &payload);
    assert!(matches!(
        CommandToken::verify(&token, &trusting(&[&account]), NOW),
        Err(TokenError::WrongSubject { .. })
    ));
}

#[test]
fn a_link_of_another_lattice_or_with_two_times_is_refused() {
    let account = fixed_account();
    let roots = trusting(&[&account]);
    let token = signer(account)
        .sign_link("default", &unlink(), at(0))
        .unwrap();
    assert!(LinkToken::verify(&token, "default", &roots, NOW).is_ok());
    assert!(matches!(
        LinkToken::verify(&token, "production", &roots, NOW),
        Err(TokenError::WrongSubject { .. })
    ));
    let mut payload = payload_of(&token);
    payload["trellis"]["unlink"]["at"] = json!((NOW.as_secs() + 1) * 1000);
    let token = forge(&fixed_account(), &header(), &payload);
    assert!(matches!(
        LinkToken::verify(&token, "default", &roots, NOW),
        Err(TokenError::Malformed { .. })
    ));
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    let roots = trusting(&[&fixed_account()]);
    let token = signer(fixed_account())
        .sign_command("default", SUBJECT, BODY, at(0))
        .unwrap();
    for cut in 0..token.len() {
        assert!(CommandToken::verify(&token[..cut], &roots, NOW).is_err());
    }
    for place in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let read = CommandToken::verify(&changed, &roots, NOW);
        // The last character of a part has bits that stand for nothing.
        assert!(read.is_err() || changed == token, "{place}");
    }
}
