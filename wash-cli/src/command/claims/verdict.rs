//! What can be said of a component's claims: what they say, and whether they hold.

use trellis_claims::{
    ActorClaims, ActorToken, ClaimsError, PublicKey, SectionError, TrustRoots, UnixTime, extract,
    verify_component,
};

use crate::environment::Environment;
use crate::exit::chain;
use crate::keys::KeyStore;

/// What a component says of itself, as far as that can be read.
pub(in crate::command) enum Saying {
    /// Nothing: it is unsigned.
    Nothing,
    /// It cannot be told what.
    Unreadable(ClaimsError),
    /// This, which may hold or not.
    Claims(Box<Said>),
}

/// Claims, and whether they hold.
pub(in crate::command) struct Said {
    pub(in crate::command) claims: ActorClaims,
    pub(in crate::command) verdict: Verdict,
}

impl Saying {
    /// Reads the claims of a component.
    ///
    /// # Errors
    /// Where the bytes cannot be read as a component at all, so that nothing can be said of its claims.
    pub(in crate::command) fn of(component: &[u8]) -> Result<Self, SectionError> {
        let token = match extract(component) {
            Ok(Some(token)) => token,
            Ok(None) => return Ok(Self::Nothing),
            Err(error) if is_no_component(&error) => return Err(error),
            Err(error) => return Ok(Self::Unreadable(error.into())),
        };
        Ok(match ActorToken::decode_unverified(token) {
            Ok(claims) => Self::Claims(Box::new(Said {
                verdict: Verdict::on(component, &claims),
                claims,
            })),
            Err(error) => Self::Unreadable(error.into()),
        })
    }
}

/// Whether a file cannot be read as a component at all.
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
pub(in crate::command) struct Verdict(pub(in crate::command) Result<(), ClaimsError>);

impl Verdict {
    fn on(component: &[u8], claims: &ActorClaims) -> Self {
        // Trusting the issuer for this one question leaves all others: signature, times, hash.
        let mut roots = TrustRoots::default();
        // A weak key is no root, and then verification says so of the issuer.
        let _ = roots.insert(claims.issuer.clone());
        Self(verify_component(component, &roots, UnixTime::now()).map(drop))
    }

    pub(in crate::command) fn to_json(&self, issuer_is_own_account: bool) -> serde_json::Value {
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
pub(in crate::command) fn own_account(environment: &mut Environment) -> Option<PublicKey> {
    KeyStore::of(environment)
        .and_then(|store| store.existing_account())
        .unwrap_or_default()
}

/// The claims and the verdict as rows for people.
pub(in crate::command) fn rows(
    claims: &ActorClaims,
    verdict: &Verdict,
    is_own: bool,
) -> Vec<(String, String)> {
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
    rows.into_iter()
        .map(|(title, value)| (title.to_owned(), value))
        .collect()
}

pub(in crate::command) fn to_json(claims: &ActorClaims) -> serde_json::Value {
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
