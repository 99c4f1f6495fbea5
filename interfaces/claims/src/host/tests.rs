//! Host certificates: who may issue them, for which lattice, and what they let a host run.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::json;

use super::*;
use crate::account::NewAccountToken;
use crate::forge::{HOUR, NOW, forge, header, new_key, new_public, payload_of, trusting};

fn new_certificate() -> NewHostCertificate {
    NewHostCertificate {
        subject: new_public(KeyKind::Host),
        lattice: "default".to_owned(),
        may_run: vec!["orders".to_owned(), "shortlink".to_owned()],
        validity: HOUR,
    }
}

#[test]
fn accounts_and_operators_can_issue_certificates() {
    for kind in [KeyKind::Account, KeyKind::Operator] {
        let authority = new_key(kind);
        let new = new_certificate();
        let token = HostCertificate::issue(&new, &authority, NOW).unwrap();
        let roots = trusting(&[&authority]);
        let certificate = HostCertificate::verify(&token, "default", &roots, NOW).unwrap();
        assert_eq!(certificate.subject, new.subject);
        assert_eq!(certificate.may_run, new.may_run);
        assert_eq!(certificate.validity, HOUR);
        assert_eq!(HostCertificate::decode_unverified(&token), Ok(certificate));
    }
}

#[test]
fn a_host_may_run_what_is_listed_and_nothing_else() {
    let mut certificate = HostCertificate::decode_unverified(
        &HostCertificate::issue(&new_certificate(), &new_key(KeyKind::Account), NOW).unwrap(),
    )
    .unwrap();
    assert!(certificate.may_run("orders"));
    assert!(!certificate.may_run("orders2"));
    assert!(!certificate.may_run("*"));
    certificate.may_run = vec![MAY_RUN_ANY.to_owned()];
    assert!(certificate.may_run("anything"));
    certificate.may_run.clear();
    assert!(!certificate.may_run("orders"));
}

#[test]
fn the_certificate_of_another_lattice_is_refused() {
    let authority = new_key(KeyKind::Account);
    let token = HostCertificate::issue(&new_certificate(), &authority, NOW).unwrap();
    assert_eq!(
        HostCertificate::verify(&token, "production", &trusting(&[&authority]), NOW),
        Err(TokenError::WrongSubject {
            expected: "lattice production".to_owned(),
            found: "lattice default".to_owned()
        })
    );
}

#[test]
fn a_stranger_can_certify_nobody() {
    let (authority, stranger) = (new_key(KeyKind::Account), new_key(KeyKind::Account));
    let token = HostCertificate::issue(&new_certificate(), &stranger, NOW).unwrap();
    assert!(matches!(
        HostCertificate::verify(&token, "default", &trusting(&[&authority]), NOW),
        Err(TokenError::UntrustedIssuer { .. })
    ));
}

#[test]
fn an_account_that_an_operator_vouches_for_cannot_certify_hosts() {
    let (operator, account) = (new_key(KeyKind::Operator), new_key(KeyKind::Account));
    let vouching = NewAccountToken {
        subject: account.public().clone(),
        name: String::new(),
        validity: HOUR,
    }
    .sign(&operator, NOW)
    .unwrap();
    let token = HostCertificate::issue(&new_certificate(), &account, NOW).unwrap();
    let mut payload = payload_of(&token);
    payload["trellis"]["account_token"] = json!(vouching);
    payload["wascap"] = json!({"account_token": vouching});
    let token = forge(&account, &header(), &payload);
    assert!(matches!(
        HostCertificate::verify(&token, "default", &trusting(&[&operator]), NOW),
        Err(TokenError::UntrustedIssuer { .. })
    ));
}

#[test]
fn a_host_cannot_certify_itself() {
    let host = new_key(KeyKind::Host);
    assert!(matches!(
        HostCertificate::issue(&new_certificate(), &host, NOW),
        Err(SignError::WrongKeyKind { .. })
    ));
    let authority = new_key(KeyKind::Account);
    let token = HostCertificate::issue(&new_certificate(), &authority, NOW).unwrap();
    let mut payload = payload_of(&token);
    payload["iss"] = json!(host.public());
    assert!(matches!(
        HostCertificate::verify(
            &forge(&host, &header(), &payload),
            "default",
            &trusting(&[&authority]),
            NOW
        ),
        Err(TokenError::WrongPrefix { claim: "iss", .. })
    ));
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = new_key(KeyKind::Account);
    let token = HostCertificate::issue(&new_certificate(), &authority, NOW).unwrap();
    let tomorrow = UnixTime::from_secs(NOW.as_secs() + 86_400);
    assert_eq!(
        HostCertificate::verify(&token, "default", &trusting(&[&authority]), tomorrow),
        Err(TokenError::Expired { at: HOUR.expires })
    );
}

#[test]
fn an_actors_token_is_no_certificate_and_the_other_way_round() {
    let authority = new_key(KeyKind::Account);
    let roots = trusting(&[&authority]);
    let certificate = HostCertificate::issue(&new_certificate(), &authority, NOW).unwrap();
    assert!(matches!(
        crate::ActorToken::verify(&certificate, &roots, NOW),
        Err(TokenError::WrongPrefix { claim: "sub", .. })
    ));
    let mut payload = payload_of(&certificate);
    payload["sub"] = json!(new_public(KeyKind::Module));
    assert!(matches!(
        HostCertificate::verify(
            &forge(&authority, &header(), &payload),
            "default",
            &roots,
            NOW
        ),
        Err(TokenError::WrongPrefix { claim: "sub", .. })
    ));
}

#[test]
fn names_that_are_no_subject_token_are_refused_on_both_sides() {
    let authority = new_key(KeyKind::Account);
    let roots = trusting(&[&authority]);
    for bad in ["", "a.b", ">", "a b", "orders*"] {
        let mut new = new_certificate();
        new.lattice = bad.to_owned();
        assert!(matches!(
            HostCertificate::issue(&new, &authority, NOW),
            Err(SignError::InvalidField { .. })
        ));
        let token = HostCertificate::issue(&new_certificate(), &authority, NOW).unwrap();
        let mut payload = payload_of(&token);
        payload["trellis"]["may_run"] = json!([bad]);
        assert!(matches!(
            HostCertificate::verify(
                &forge(&authority, &header(), &payload),
                "default",
                &roots,
                NOW
            ),
            Err(TokenError::Malformed { .. })
        ));
    }
}
