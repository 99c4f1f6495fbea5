//! Cross-origin resource sharing: what pages of other origins may do with a link's responses (the Fetch standard).
//!
//! Off unless `cors_allowed_origins` is set. Preflight requests are answered here and never reach an actor.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use trellis_provider_sdk::Body;
use trellis_provider_sdk::http::empty;
use trellis_provider_sdk::{ConfigError, Settings};

use crate::problem::Problem;

const ORIGINS: &str = "cors_allowed_origins";
const METHODS: &str = "cors_allowed_methods";
const HEADERS: &str = "cors_allowed_headers";
const EXPOSED: &str = "cors_exposed_headers";
const MAX_AGE: &str = "cors_max_age_secs";

/// Methods that a preflight allows where the link names none.
const METHODS_DEFAULT: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// Longest time, in seconds, that a browser may be told to remember a preflight.
const MAX_AGE_SECS_MAX: u64 = 86_400;

#[derive(Debug)]
enum Origins {
    Any,
    /// In lower case.
    These(Vec<String>),
}

/// What pages of other origins may do.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Origins,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

impl Cors {
    /// Reads the `cors_…` keys.
    pub(crate) fn parse(settings: &Settings<'_>) -> Result<Option<Self>, ConfigError> {
        if settings.text(ORIGINS).is_none() {
            return match [METHODS, HEADERS, EXPOSED, MAX_AGE]
                .into_iter()
                .find(|key| settings.text(key).is_some())
            {
                Some(key) => Err(ConfigError::new(
                    key,
                    format!("has no meaning without `{ORIGINS}`"),
                )),
                None => Ok(None),
            };
        }
        let origins = if settings.list(ORIGINS).any(|origin| origin == "*") {
            Origins::Any
        } else {
            Origins::These(
                settings
                    .list(ORIGINS)
                    .map(origin)
                    .collect::<Result<_, _>>()?,
            )
        };
        let max_age = match settings.text(MAX_AGE) {
            None => None,
            Some(_) => Some(HeaderValue::from(settings.number(
                MAX_AGE,
                0..=MAX_AGE_SECS_MAX,
                0,
            )?)),
        };
        Ok(Some(Self {
            origins,
            methods: tokens(settings, METHODS, |part| {
                Method::from_bytes(part.as_bytes()).is_ok()
            })?
            .unwrap_or(HeaderValue::from_static(METHODS_DEFAULT)),
            headers: tokens(settings, HEADERS, is_field_name)?,
            exposed: tokens(settings, EXPOSED, is_field_name)?,
            max_age,
        }))
    }

    /// The answer to a preflight, or nothing where the request is none.
    pub(crate) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Result<Response<Body>, Problem>> {
        let is_preflight = *method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        if self.allowed(headers.get(ORIGIN)).is_none() {
            return Some(Err(Problem::origin_not_allowed()));
        }
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(allowed) = &self.headers {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
        if let Some(max_age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        Some(Ok(response))
    }

    /// Adds to a response, whoever gave it, what the browser of an allowed origin asks for.
    pub(crate) fn decorate(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        if matches!(self.origins, Origins::These(_)) {
            response.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(allowed) = self.allowed(origin) else {
            return;
        };
        response
            .entry(ACCESS_CONTROL_ALLOW_ORIGIN)
            .or_insert(allowed);
        if let Some(exposed) = &self.exposed {
            response
                .entry(ACCESS_CONTROL_EXPOSE_HEADERS)
                .or_insert_with(|| exposed.clone());
        }
    }

    /// What to allow for a request's origin.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match &self.origins {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(origins) => origins
                .iter()
                .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
                .then(|| origin.clone()),
        }
    }
}

/// An origin as browsers send it: scheme, host and perhaps a port, no path.
fn origin(text: &str) -> Result<String, ConfigError> {
    let proper = text.split_once("://").is_some_and(|(scheme, authority)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && !authority.contains('@')
            && authority
                .parse::<http::uri::Authority>()
                .is_ok_and(|parsed| parsed.as_str() == authority)
    });
    if proper {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(ConfigError::new(
            ORIGINS,
            "must be `*` or origins such as `https://example.com`, separated by commas",
        ))
    }
}

fn is_field_name(part: &str) -> bool {
    part == "*" || HeaderName::from_bytes(part.as_bytes()).is_ok()
}

/// A list for a field's value.
fn tokens(
    settings: &Settings<'_>,
    key: &str,
    is_proper: impl Fn(&str) -> bool,
) -> Result<Option<HeaderValue>, ConfigError> {
    let parts: Vec<&str> = settings.list(key).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    parts
        .iter()
        .all(|part| is_proper(part))
        .then(|| HeaderValue::from_str(&parts.join(", ")).ok())
        .flatten()
        .map(Some)
        .ok_or_else(|| ConfigError::new(key, "must be names separated by commas, or `*`"))
}

#[cfg(test)]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Option<Cors>, ConfigError> {
        let values = values(pairs);
        Cors::parse(&Settings::new(
            &values,
            &[ORIGINS, METHODS, HEADERS, EXPOSED, MAX_AGE],
        )?)
    }

    #[test]
    fn nothing_configured_is_no_sharing() {
        assert!(matches!(parse(&[]), Ok(None)));
    }

    #[test]
    fn methods_without_origins_are_a_mistake() {
        assert_eq!(
            parse(&[(METHODS, "GET")]).map(|_| ()).map_err(|e| e.key),
            Err(METHODS.to_owned())
        );
    }

    #[test]
    fn origins_have_a_scheme_and_no_path() {
        for text in [
            "*",
            "https://a.example",
            "http://localhost:3000,https://b",
            "HTTPS://A",
        ] {
            assert!(parse(&[(ORIGINS, text)]).is_ok(), "{text}");
        }
        for text in ["a.example", "https://a/", "https://u@a", "://a", "https://"] {
            assert!(parse(&[(ORIGINS, text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_would_break_a_field_are_refused() {
        for value in ["x y", "a\nb", "ä"] {
            assert!(parse(&[(ORIGINS, "*"), (HEADERS, value)]).is_err());
            assert!(parse(&[(ORIGINS, "*"), (METHODS, value)]).is_err());
        }
        assert!(parse(&[(ORIGINS, "*"), (MAX_AGE, "86401")]).is_err());
        assert!(parse(&[(ORIGINS, "*"), (MAX_AGE, "86400")]).is_ok());
    }
}
