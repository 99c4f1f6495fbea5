//! `wash claims`: sign a component file, look at what one says of itself, or make a token by itself.

mod token;
pub(super) mod verdict;

use std::time::Duration;

use trellis_claims::{ClaimsError, KeyKind, PublicKey, SigningKey, extract};

use crate::cli::{Claims, ClaimsInspect, ClaimsSign, Signing};
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::keys::{self, KeySource, KeyStore};
use crate::output::{self, Report};
use crate::settings::Settings;
use crate::signing::{self, Statement, read_component, sign_file, signed_path};
use verdict::{Said, Saying};

/// Longest account token file that is read, in bytes: a token's own limit and a newline.
const ACCOUNT_TOKEN_BYTES_MAX: usize = 64 * 1024 + 2;

pub(super) fn run(
    command: Claims,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    match command {
        Claims::Sign(args) => sign(*args, environment),
        Claims::Inspect(args) => inspect(&args, environment),
        Claims::Token(command) => token::run(command, settings, environment),
    }
}

fn sign(args: ClaimsSign, environment: &mut Environment) -> Result<Report, Failure> {
    // A file that is no component is said before any key is made for it.
    let component = read_component(&args.component)?;
    trellis_claims::content_hash(&component).map_err(|source| signing::SigningError::Section {
        path: args.component.clone(),
        source,
    })?;
    let hand = Hand::of(&args.signing, &args.saying.name, environment)?;
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
        name: args.saying.name,
        version: args.saying.version,
        revision: args.saying.revision,
        tags: args.saying.tag,
        call_alias: args.saying.call_alias,
        capabilities: args.saying.cap.into_iter().collect(),
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
        let issuer = account(args.issuer.as_deref(), environment)?;
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

/// The account that signs: the one that is named, or the developer's own. The store is only looked for where the key
/// is to come from it.
pub(super) fn account(
    named: Option<&str>,
    environment: &mut Environment,
) -> Result<SigningKey, Failure> {
    Ok(match named {
        Some(text) => keys::signing_key(&KeySource::parse(text)?, KeyKind::Account, environment)?,
        None => KeyStore::of(environment)?.account()?,
    })
}

pub(super) fn read_account_token(path: &std::path::Path) -> Result<String, Failure> {
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
    if args.jwt_only {
        return token_of(&component, &file.to_string());
    }
    let said = match Saying::of(&component) {
        Ok(Saying::Claims(said)) => said,
        Ok(Saying::Nothing) => {
            return Ok(without_claims(
                format!(
                    "{file} has no claims: it is unsigned; sign it with `wash build` or `wash claims sign`"
                ),
                &ClaimsError::Unsigned,
            ));
        }
        Ok(Saying::Unreadable(error)) => {
            return Ok(without_claims(
                format!("the claims of {file} do not hold: {}", chain(&error)),
                &error,
            ));
        }
        Err(error) => return Err(Failure::local(format!("cannot use {file}: {error}"))),
    };
    let Said { claims, verdict } = *said;
    let is_own = verdict::own_account(environment).as_ref() == Some(&claims.issuer);
    let report = Report::new(output::pairs(verdict::rows(&claims, &verdict, is_own)))
        .with("claims", verdict::to_json(&claims))
        .with("verdict", verdict.to_json(is_own));
    Ok(match verdict.0 {
        Ok(()) => report,
        Err(_) => report.failing(Failure::refused(format!(
            "the claims of {file} do not hold; hosts refuse to run it"
        ))),
    })
}

/// The token of a component as it is.
pub(super) fn token_of(component: &[u8], what: &str) -> Result<Report, Failure> {
    match extract(component) {
        Ok(Some(token)) => {
            Ok(Report::new(format!("{}\n", output::printable(token))).with("token", token))
        }
        Ok(None) => Err(Failure::refused(format!(
            "{what} has no claims: it is unsigned; sign it with `wash build` or `wash claims sign`"
        ))),
        Err(error) => Err(Failure::local(format!("cannot use {what}: {error}"))),
    }
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
