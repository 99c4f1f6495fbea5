//! Tokens: what a registry asks for, and where they come from.
//!
//! A registry that wants to know who asks answers 401 with a challenge (RFC 9110, section 11): `Basic`, or `Bearer` with the
//! server that makes tokens (`realm`). That server is given the credentials of the registry that named it, as every
//! client of registries does, but over TLS only where the registry itself is.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use reqwest::header::{AUTHORIZATION, GetAll, HeaderValue};
use reqwest::{Method, Url};
use trellis_protocol::control::RegistryCredential;

use super::client::Repository;
use crate::error::RegistryError;

/// Largest answer of a server of tokens, in bytes.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// How long a token lives that does not say so, by the protocol.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// Longest that a token is used, whatever it says.
const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// A token is not used in its last moments.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// Most tokens that are kept. Beyond that, all are forgotten.
const TOKENS_MAX: usize = 1024;

/// Most challenges that are looked at in one answer.
const CHALLENGES_MAX: usize = 8;

/// What is going to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Only reading.
    Pull,
    /// Writing, too.
    Push,
}

/// Tokens by registry, repository and action.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<(String, String, Action), Token>);

struct Token {
    authorization: HeaderValue,
    until: Instant,
}

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The best of those that an answer holds.
    pub(super) fn best(values: GetAll<'_, HeaderValue>) -> Option<Self> {
        let mut found = None;
        for value in values.iter().take(CHALLENGES_MAX) {
            match value.to_str().ok().and_then(Self::parse) {
                Some(bearer @ Self::Bearer { .. }) => return Some(bearer),
                Some(basic) => found = Some(basic),
                None => {}
            }
        }
        found
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = None;
        let mut service = None;
        let mut rest = rest;
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
        })
    }
}

/// The first `name=value` or `name="value"` of a list.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.trim_start_matches([',', ' ', '\t']).split_once('=')?;
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name.trim(), rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

impl Repository<'_> {
    fn key(&self) -> (String, String, Action) {
        (self.registry.to_owned(), self.name.clone(), self.action)
    }

    /// What was good for the last request.
    pub(super) fn known_token(&self) -> Option<HeaderValue> {
        let tokens = &self.registries.tokens;
        let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.0.get(&self.key())?;
        (token.until > Instant::now()).then(|| token.authorization.clone())
    }

    pub(super) fn forget_token(&self) {
        let tokens = &self.registries.tokens;
        let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.0.remove(&self.key());
    }

    fn keep_token(&self, authorization: HeaderValue, lifetime: Duration) {
        let lifetime = lifetime
            .min(TOKEN_LIFETIME_MAX)
            .saturating_sub(TOKEN_MARGIN);
        let tokens = &self.registries.tokens;
        let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.0.len() >= TOKENS_MAX {
            tokens.0.clear();
        }
        let until = Instant::now() + lifetime;
        tokens.0.insert(
            self.key(),
            Token {
                authorization,
                until,
            },
        );
    }

    /// What answers a challenge. `None` where that takes credentials that we lack.
    pub(super) async fn authorize(
        &self,
        challenge: &Challenge,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credential = self.registries.credential(self.registry);
        let given = credential.as_ref().and_then(|credential| {
            let token = credential.token.as_ref()?;
            secret(&format!("Bearer {token}"))
        });
        if let Some(authorization) = given {
            return Ok(Some(authorization));
        }
        let basic = credential.as_ref().and_then(basic);
        match challenge {
            Challenge::Basic => {
                if let Some(authorization) = &basic {
                    self.keep_token(authorization.clone(), TOKEN_LIFETIME_MAX);
                }
                Ok(basic)
            }
            Challenge::Bearer { realm, service } => {
                self.token(realm, service.as_deref(), basic).await.map(Some)
            }
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        basic: Option<HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        const WHAT: &str = "token";
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| self.misbehaved("its server of tokens has no address"))?;
        if url.scheme() == "http" && self.url("")?.scheme() == "https" {
            return Err(self.misbehaved(
                "its server of tokens does not speak TLS, though the registry itself does",
            ));
        }
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut()
            .append_pair("scope", &format!("repository:{}:{actions}", self.name));
        let mut request = self.request(Method::GET, url);
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = self.head(request, WHAT).await?;
        let response = self.succeeded(response, WHAT).await?;
        let body = self.body(response, TOKEN_BYTES_MAX, WHAT).await?;
        let unusable = || self.misbehaved("its server of tokens answers with something else");
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let authorization = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty())
            .and_then(|token| secret(&format!("Bearer {token}")))
            .ok_or_else(unusable)?;
        let lifetime = answer
            .expires_in
            .map_or(TOKEN_LIFETIME, Duration::from_secs);
        self.keep_token(authorization.clone(), lifetime.max(TOKEN_LIFETIME));
        Ok(authorization)
    }
}

fn basic(credential: &RegistryCredential) -> Option<HeaderValue> {
    let (name, password) = (credential.username.as_ref()?, credential.password.as_ref()?);
    let encoded = BASE64.encode(format!("{name}:{password}").as_bytes());
    secret(&format!("Basic {encoded}"))
}

/// A header that is never shown. `None` if the text cannot be one.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (text, expected) in [
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/t",service="s, t",scope="repository:x:pull""#,
                bearer("https://a/t", Some("s, t")),
            ),
            (
                r#"bearer service=s , realm=https://a/t"#,
                bearer("https://a/t", Some("s")),
            ),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None)),
            ("Bearer", None),
            (r#"Bearer realm="open"#, None),
            (r#"Bearer realm="open\"#, None),
            ("Negotiate abc", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=https://a"),
        );
        let best = Challenge::best(headers.get_all(WWW_AUTHENTICATE));
        assert!(matches!(best, Some(Challenge::Bearer { .. })));
    }

    #[test]
    fn a_password_is_never_shown() {
        let credential: RegistryCredential =
            serde_json::from_str(r#"{"username":"u","password":"sesame"}"#).unwrap();
        let header = basic(&credential).unwrap();
        assert_eq!(header, "Basic dTpzZXNhbWU=");
        assert!(!format!("{header:?}").contains("dTpz"));
    }
}
