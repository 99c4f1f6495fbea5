//! `wash claims`: sign a component file, or look at what one says of itself.

use std::time::Duration;

use trellis_claims::{
    ActorClaims, ActorToken, ClaimsError, KeyKind, PublicKey, SectionError, SigningKey, TrustRoots,
    UnixTime, extract, verify_component,
};

use crate::cli::{Claims, ClaimsInspect, ClaimsSign, Signing};
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::keys::{self, KeySource, KeyStore};
use crate::output::{self, Report};
use crate::signing::{self, Statement, read_component, sign_file, signed_path};

/// Longest account token file that is read, in bytes: a token's own limit and a newline.
const ACCOUNT_TOKEN_BYTES_MAX: usize = 64 * 1024 + 2;

pub(super) fn run(command: Claims, environment: &mut Environment) -> Result<Report, Failure> {
    match command {
        Claims::Sign(args) => sign(*args, environment),
        Claims::Inspect(args) => inspect(&args, environment),
    }
}

fn sign(args: ClaimsSign, environment: &mut Environment) -> Result<Report, Failure> {
    // A file that is no component is said before any key is made for it.
    let component = read_component(&args.component)?;
    trellis_claims::content_hash(&component).map_err(|source| signing::SigningError::Section {
        path: args.component.clone(),
        source,
    })?;
    let hand = Hand::of(&args.signing, &args.name, environment)?;
    let destination = match &args.signing.destination {
        Some(path) => path.clone(),
        None => {
            let stem = args.component.file_stem().unwrap_or_default();
            signed_path(
                args.component.parent().unwrap_or(".".as_ref()),
                &stem.to_string_lossy(),
            )
        }
    };
    let statement = Statement {
        name: args.name,
        version: args.version,
        revision: args.revision,
        tags: args.tag,
        call_alias: args.call_alias,
        capabilities: args.cap.into_iter().collect(),
        subject: hand.subject,
        lifetime: hand.lifetime,
        account_token: hand.account_token,
    };
    let signed = sign_file(&args.component, &destination, statement, &hand.issuer)?;
    Ok(signing::report(&signed))
}

/// Who signs, for whom, and for how long: what `build` and `claims sign` share.
pub(super) struct Hand {
    pub(super) issuer: SigningKey,
    pub(super) subject: PublicKey,
    pub(super) lifetime: Duration,
    pub(super) account_token: Option<String>,
}

impl Hand {
    pub(super) fn of(
        args: &Signing,
        actor: &str,
        environment: &mut Environment,
    ) -> Result<Self, Failure> {
        // The store is only looked for where a key is to come from it.
        let issuer = match &args.issuer {
            Some(text) => {
                keys::signing_key(&KeySource::parse(text)?, KeyKind::Account, environment)?
            }
            None => KeyStore::of(environment)?.account()?,
        };
        let subject = match &args.subject {
            Some(text) => keys::public_key(&KeySource::parse(text)?, KeyKind::Module, environment)?,
            None => KeyStore::of(environment)?.module(actor)?.public().clone(),
        };
        let account_token = match &args.account_token {
            Some(path) => Some(read_account_token(path)?),
            None => None,
        };
        Ok(Self {
            issuer,
            subject,
            lifetime: Duration::from_secs(u64::from(args.expires_in_days) * 24 * 60 * 60),
            account_token,
        })
    }
}

fn read_account_token(path: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::local(format!(
            "cannot read the account token {}: {error}",
            path.display()
        ))
    })?;
    if text.len() > ACCOUNT_TOKEN_BYTES_MAX {
        return Err(Failure::local(format!(
            "cannot use {} as an account token: it has {} bytes, at most {ACCOUNT_TOKEN_BYTES_MAX} are accepted",
            path.display(),
            text.len()
        )));
    }
    Ok(text.trim().to_owned())
}

fn inspect(args: &ClaimsInspect, environment: &mut Environment) -> Result<Report, Failure> {
    let component = read_component(&args.component)?;
    let file = args.component.display();
    let token = match extract(&component) {
        Ok(Some(token)) => token,
        Ok(None) => {
            return Ok(without_claims(
                format!(
                    "{file} has no claims: it is unsigned; sign it with `wash build` or `wash claims sign`"
                ),
                &ClaimsError::Unsigned,
            ));
        }
        Err(error) if is_no_component(&error) => {
            return Err(Failure::local(format!("cannot use {file}: {error}")));
        }
        Err(error) => {
            return Ok(without_claims(
                format!("the claims of {file} do not hold: {error}"),
                &error.into(),
            ));
        }
    };
    if args.jwt_only {
        return Ok(Report::new(format!("{}\n", output::printable(token))).with("token", token));
    }
    let claims = match ActorToken::decode_unverified(token) {
        Ok(claims) => claims,
        Err(error) => {
            return Ok(without_claims(
                format!("the claims of {file} do not hold: {}", chain(&error)),
                &error.into(),
            ));
        }
    };
    let verdict = Verdict::on(&component, &claims);
    let own = own_account(environment);
    let is_own = own.as_ref() == Some(&claims.issuer);
    let report = Report::new(describe(&claims, &verdict, is_own))
        .with("claims", to_json(&claims))
        .with("verdict", verdict.to_json(is_own));
    Ok(match verdict.0 {
        Ok(()) => report,
        Err(_) => report.failing(Failure::refused(format!(
            "the claims of {file} do not hold; hosts refuse to run it"
        ))),
    })
}

/// The report on a component of which no claims can be shown.
fn without_claims(message: String, error: &ClaimsError) -> Report {
    Report::raw(Vec::new())
        .with(
            "verdict",
            serde_json::json!({
                "holds": false,
                "reason": chain(error),
                "code": error.code(),
            }),
        )
        .failing(Failure::refused(message))
}

/// Whether a file cannot be read as a component at all, so that nothing can be said of its claims.
const fn is_no_component(error: &SectionError) -> bool {
    matches!(
        error,
        SectionError::NotWasm
            | SectionError::CoreModule
            | SectionError::UnknownFormat { .. }
            | SectionError::Truncated { .. }
            | SectionError::BadSize { .. }
            | SectionError::BadNesting { .. }
            | SectionError::TooDeep { .. }
    )
}

/// Whether a component is what its claims say, whoever the issuer is.
struct Verdict(Result<(), ClaimsError>);

impl Verdict {
    fn on(component: &[u8], claims: &ActorClaims) -> Self {
        // Trusting the issuer for this one question leaves all others: signature, times, hash.
        let mut roots = TrustRoots::default();
        // A weak key is no root, and then verification says so of the issuer.
        let _ = roots.insert(claims.issuer.clone());
        Self(verify_component(component, &roots, UnixTime::now()).map(drop))
    }

    fn to_json(&self, issuer_is_own_account: bool) -> serde_json::Value {
        let mut verdict = serde_json::json!({
            "holds": self.0.is_ok(),
            "issuer_is_own_account": issuer_is_own_account,
        });
        if let Err(error) = &self.0 {
            verdict["reason"] = chain(error).into();
            verdict["code"] = error.code().into();
        }
        verdict
    }
}

/// The developer's account, if there is one whose key can be used. Looking at claims makes no key and needs none.
fn own_account(environment: &mut Environment) -> Option<PublicKey> {
    KeyStore::of(environment)
        .and_then(|store| store.existing_account())
        .unwrap_or_default()
}

fn describe(claims: &ActorClaims, verdict: &Verdict, is_own: bool) -> String {
    let mut rows = vec![
        ("Actor", claims.name.clone()),
        ("Version", claims.version.clone()),
        ("Revision", claims.revision.to_string()),
        ("Subject", claims.subject.to_string()),
        (
            "Issuer",
            if is_own {
                format!("{} (your account)", claims.issuer)
            } else {
                claims.issuer.to_string()
            },
        ),
    ];
    if !claims.tags.is_empty() {
        rows.push(("Tags", claims.tags.join(", ")));
    }
    if let Some(alias) = &claims.call_alias {
        rows.push(("Call alias", alias.clone()));
    }
    rows.extend([
        ("Not before", claims.validity.not_before.to_string()),
        ("Expires", claims.validity.expires.to_string()),
        ("Content", claims.content_hash.to_string()),
    ]);
    if claims.capabilities.is_empty() {
        rows.push(("Granted", "nothing".to_owned()));
    }
    for (index, capability) in claims.capabilities.iter().enumerate() {
        let title = if index == 0 { "Granted" } else { "" };
        rows.push((title, capability.to_string()));
    }
    rows.push((
        "Verdict",
        match &verdict.0 {
            Ok(()) => "holds: signed by the issuer, unchanged, valid now".to_owned(),
            Err(error) => format!("DOES NOT HOLD: {}", chain(error)),
        },
    ));
    output::pairs(
        rows.into_iter()
            .map(|(title, value)| (title.to_owned(), value)),
    )
}

fn to_json(claims: &ActorClaims) -> serde_json::Value {
    let capabilities: Vec<_> = claims
        .capabilities
        .iter()
        .map(ToString::to_string)
        .collect();
    serde_json::json!({
        "issuer": claims.issuer,
        "subject": claims.subject,
        "name": claims.name,
        "version": claims.version,
        "revision": claims.revision,
        "tags": claims.tags,
        "call_alias": claims.call_alias,
        "capabilities": capabilities,
        "content_hash": claims.content_hash,
        "issued_at": claims.issued_at.to_string(),
        "not_before": claims.validity.not_before.to_string(),
        "expires": claims.validity.expires.to_string(),
        "token_id": claims.token_id,
    })
}
