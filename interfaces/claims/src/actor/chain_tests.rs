//! Chains of trust: an operator vouches for the account that signed, and each way in which that can be pretended.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use serde_json::json;

use super::tests::new_token;
use super::*;
use crate::account::{AccountToken, NewAccountToken};
use crate::forge::{HOUR, NOW, forge, header, new_key, payload_of, trusting};

fn vouch(operator: &SigningKey, account: &SigningKey, validity: Validity) -> String {
    NewAccountToken {
        subject: account.public().clone(),
        name: "team".to_owned(),
        validity,
    }
    .sign(operator, validity.not_before)
    .unwrap()
}

#[test]
fn an_operators_word_is_read_as_it_was_given() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let token = vouch(&operator, &account, HOUR);
    let claims = AccountToken::verify(&token, &trusting(&[&operator]), NOW).unwrap();
    assert_eq!(claims.issuer, *operator.public());
    assert_eq!(claims.subject, *account.public());
    assert_eq!(claims.name, "team");
    assert_eq!(claims.validity, HOUR);
    assert_eq!(AccountToken::decode_unverified(&token), Ok(claims));
}

#[test]
fn a_trusted_accounts_own_account_token_is_not_looked_at() {
    let account = new_key(KeyKind::Account);
    let mut payload = payload_of(&new_token().sign(&account, NOW).unwrap());
    payload["wascap"]["account_token"] = json!("no.to.ken");
    let token = forge(&account, &header(), &payload);
    let claims = ActorToken::verify(&token, &trusting(&[&account]), NOW).unwrap();
    assert_eq!(claims.account_validity, None);
    assert_eq!(claims.valid_until(), HOUR.expires);
}

#[test]
fn an_operators_word_makes_an_account_trusted() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let mut new = new_token();
    new.account_token = Some(vouch(&operator, &account, HOUR));
    let token = new.sign(&account, NOW).unwrap();
    let claims = ActorToken::verify(&token, &trusting(&[&operator]), NOW).unwrap();
    assert_eq!(claims.account_validity, Some(HOUR));
    assert_eq!(claims.issuer, *account.public());
}

#[test]
fn claims_end_with_the_operators_word() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let minute = Validity::starting(NOW, Duration::from_secs(60));
    let mut new = new_token();
    new.account_token = Some(vouch(&operator, &account, minute));
    let token = new.sign(&account, NOW).unwrap();
    let roots = trusting(&[&operator]);
    let claims = ActorToken::verify(&token, &roots, NOW).unwrap();
    assert_eq!(claims.valid_until(), minute.expires);
    assert_eq!(claims.check_time(NOW), Ok(()));

    let later = NOW.saturating_add(Duration::from_secs(600));
    let broken = TokenError::BrokenChain {
        issuer: account.public().clone(),
        cause: Box::new(TokenError::Expired { at: minute.expires }),
    };
    assert_eq!(claims.check_time(later), Err(broken.clone()));
    assert_eq!(ActorToken::verify(&token, &roots, later), Err(broken));
}

/// What is said of a token whose account brings `vouching`, where the operator alone is trusted.
fn chained(operator: &SigningKey, account: &SigningKey, vouching: &str) -> TokenError {
    let mut payload = payload_of(&new_token().sign(account, NOW).unwrap());
    payload["wascap"]["account_token"] = json!(vouching);
    let token = forge(account, &header(), &payload);
    match ActorToken::verify(&token, &trusting(&[operator]), NOW) {
        Err(TokenError::BrokenChain { issuer, cause }) => {
            assert_eq!(issuer, *account.public());
            *cause
        }
        other => panic!("not a broken chain: {other:?}"),
    }
}

#[test]
fn each_way_to_break_a_chain_is_refused() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));

    let stranger = new_key(KeyKind::Operator);
    assert_eq!(
        chained(&operator, &account, &vouch(&stranger, &account, HOUR)),
        TokenError::UntrustedIssuer {
            issuer: stranger.public().clone()
        }
    );

    let pretended = payload_of(&vouch(&operator, &account, HOUR));
    assert_eq!(
        chained(
            &operator,
            &account,
            &forge(&stranger, &header(), &pretended)
        ),
        TokenError::BadSignature {
            issuer: operator.public().clone()
        }
    );

    let other = new_key(KeyKind::Account);
    assert_eq!(
        chained(&operator, &account, &vouch(&operator, &other, HOUR)),
        TokenError::WrongSubject {
            expected: account.public().to_string(),
            found: other.public().to_string()
        }
    );

    let past = Validity {
        not_before: UnixTime::from_secs(1_000),
        expires: UnixTime::from_secs(2_000),
    };
    assert_eq!(
        chained(&operator, &account, &vouch(&operator, &account, past)),
        TokenError::Expired { at: past.expires }
    );

    let ahead = Validity::starting(
        NOW.saturating_add(Duration::from_secs(600)),
        Duration::from_secs(600),
    );
    assert_eq!(
        chained(&operator, &account, &vouch(&operator, &account, ahead)),
        TokenError::NotYetValid {
            from: ahead.not_before
        }
    );

    assert!(matches!(
        chained(&operator, &account, "no.to.ken"),
        TokenError::Malformed { .. }
    ));
}

#[test]
fn an_account_cannot_vouch_for_itself_or_another() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let mut payload = payload_of(&vouch(&operator, &account, HOUR));
    payload["iss"] = json!(account.public());
    assert!(matches!(
        chained(&operator, &account, &forge(&account, &header(), &payload)),
        TokenError::WrongPrefix { claim: "iss", .. }
    ));
}

#[test]
fn the_token_of_another_account_is_noticed_when_signing() {
    let (operator, account, other) = (
        new_key(KeyKind::Operator),
        new_key(KeyKind::Account),
        new_key(KeyKind::Account),
    );
    let mut new = new_token();
    new.account_token = Some(vouch(&operator, &other, HOUR));
    assert!(matches!(
        new.sign(&account, NOW),
        Err(SignError::AccountToken { .. })
    ));
}
