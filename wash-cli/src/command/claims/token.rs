//! `wash claims token`: tokens that stand by themselves.

use std::time::Duration;

use trellis_claims::host::MAY_RUN_ANY;
use trellis_claims::{
    HostCertificate, KeyKind, NewAccountToken, NewActorToken, NewHostCertificate, PublicKey,
    SignError, UnixTime, Validity, content_hash,
};

use super::{account, read_account_token};
use crate::cli::{ClaimsToken, TokenAccount, TokenComponent, TokenHost, TokenLife, TokenProvider};
use crate::command::par;
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::keys::{self, KeySource, KeyStore};
use crate::output::Report;
use crate::settings::Settings;
use crate::signing::{SigningError, read_component};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(
    command: ClaimsToken,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    match command {
        ClaimsToken::Component(args) => component(*args, environment),
        ClaimsToken::Account(args) => of_account(&args, environment),
        ClaimsToken::Host(args) => host(args, settings, environment),
        ClaimsToken::Provider(args) => provider(&args),
    }
}

fn component(args: TokenComponent, environment: &mut Environment) -> Result<Report, Failure> {
    let component = read_component(&args.component)?;
    let content_hash = content_hash(&component).map_err(|source| SigningError::Section {
        path: args.component.clone(),
        source,
    })?;
    let issuer = account(args.issuer.as_deref(), environment)?;
    let subject = match &args.subject {
        Some(text) => keys::public_key(&KeySource::parse(text)?, KeyKind::Module, environment)?,
        None => {
            let store = KeyStore::of(environment)?;
            store.module(&args.saying.name)?.public().clone()
        }
    };
    let account_token = match &args.account_token {
        Some(path) => Some(read_account_token(path)?),
        None => None,
    };
    let (now, validity) = validity(&args.life);
    let new = NewActorToken {
        subject,
        name: args.saying.name,
        version: args.saying.version,
        revision: args.saying.revision,
        tags: args.saying.tag,
        call_alias: args.saying.call_alias,
        capabilities: args.saying.cap.into_iter().collect(),
        content_hash,
        validity,
        account_token,
    };
    let token = new.sign(&issuer, now).map_err(|error| refused(&error))?;
    Ok(
        report("component", &token, issuer.public(), &new.subject, validity)
            .with("name", new.name)
            .with("content_hash", new.content_hash),
    )
}

fn of_account(args: &TokenAccount, environment: &mut Environment) -> Result<Report, Failure> {
    let source = KeySource::parse(&args.issuer)?;
    let operator = keys::signing_key(&source, KeyKind::Operator, environment)?;
    let subject = match &args.subject {
        Some(text) => keys::public_key(&KeySource::parse(text)?, KeyKind::Account, environment)?,
        None => KeyStore::of(environment)?.account()?.public().clone(),
    };
    let (now, validity) = validity(&args.life);
    let new = NewAccountToken {
        subject,
        name: args.name.clone(),
        validity,
    };
    let token = new.sign(&operator, now).map_err(|error| refused(&error))?;
    Ok(report("account", &token, operator.public(), &new.subject, validity).with("name", new.name))
}

fn host(
    args: TokenHost,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let authority = match &args.issuer {
        // An operator may sign as well as an account.
        Some(text) => {
            let source = KeySource::parse(text)?;
            keys::signing_key(&source, KeyKind::Account, environment)
                .or_else(|_| keys::signing_key(&source, KeyKind::Operator, environment))?
        }
        None => account(None, environment)?,
    };
    let subject = keys::public_key(
        &KeySource::parse(&args.subject)?,
        KeyKind::Host,
        environment,
    )?;
    let may_run = if args.may_run.is_empty() {
        vec![MAY_RUN_ANY.to_owned()]
    } else {
        args.may_run
    };
    let (now, validity) = validity(&args.life);
    let new = NewHostCertificate {
        subject,
        lattice: settings.lattice.to_string(),
        may_run,
        validity,
    };
    let token = HostCertificate::issue(&new, &authority, now).map_err(|error| refused(&error))?;
    Ok(
        report("host", &token, authority.public(), &new.subject, validity)
            .with("lattice", new.lattice)
            .with("may_run", new.may_run),
    )
}

fn provider(args: &TokenProvider) -> Result<Report, Failure> {
    par::token_of(&args.archive)
}

fn validity(life: &TokenLife) -> (UnixTime, Validity) {
    let now = UnixTime::now();
    let from = now.saturating_add(DAY * u32::from(life.not_before_in_days));
    let validity = Validity::starting(from, DAY * u32::from(life.expires_in_days));
    (now, validity)
}

fn report(
    kind: &str,
    token: &str,
    issuer: &PublicKey,
    subject: &PublicKey,
    validity: Validity,
) -> Report {
    Report::new(format!("{token}\n"))
        .with("token", token)
        .with("kind", kind)
        .with("issuer", issuer)
        .with("subject", subject)
        .with("not_before", validity.not_before.to_string())
        .with("expires", validity.expires.to_string())
}

fn refused(error: &SignError) -> Failure {
    Failure::local(format!("cannot make the token: {}", chain(error)))
}
