//! From a request to a reply: finds the route, asks `links`, and puts what it says into HTTP's words.

use serde::Serialize;

use crate::body::BodyError;
use crate::click;
use crate::code::Code;
use crate::links::{self, LinkError, Shortened};
use crate::problem::{Kind, Problem};
use crate::reply::Reply;
use crate::route::{self, Route, Unrouted};
use crate::settings::{Settings, SettingsError};
use crate::submission::{self, SubmissionError};
use crate::url::HttpUrl;
use crate::world::{CodeRefusal, LogLevel, World};

const JSON: &str = "application/json";

/// From this status on, it is not the client's fault and goes to the log.
const SERVER_ERROR_MIN: u16 = 500;

#[derive(Serialize)]
struct Description {
    name: &'static str,
    version: &'static str,
    shorten: &'static str,
    follow: &'static str,
    stats: &'static str,
}

#[derive(Serialize)]
struct Created<'a> {
    code: &'a str,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Counted<'a> {
    code: &'a str,
    url: &'a str,
    clicks: u64,
}

/// Answers one request. `body` is called where a body is wanted, at most once.
pub(crate) fn answer(
    world: &impl World,
    method: &str,
    path_with_query: &str,
    body: impl FnOnce() -> Result<Vec<u8>, BodyError>,
) -> Reply {
    let answered = match route::find(method, path_with_query) {
        Ok(Route::Describe) => Ok(describe()),
        Ok(Route::Shorten) => shorten(world, body),
        Ok(Route::Follow(code)) => {
            let target = links::follow(world, &code);
            if let Ok(Some(_)) = &target {
                click::tell(world, &code);
            }
            redirect(&code, target)
        }
        Ok(Route::Peek(code)) => redirect(&code, links::peek(world, &code)),
        Ok(Route::Stats(code)) => stats(world, &code),
        Err(unrouted) => Err(unrouted.into()),
    };
    answered.unwrap_or_else(|problem| {
        if problem.kind.status() >= SERVER_ERROR_MIN {
            world.log(LogLevel::Error, &problem.detail);
        }
        problem.into_reply()
    })
}

fn describe() -> Reply {
    let description = Description {
        name: "shortlink",
        version: env!("CARGO_PKG_VERSION"),
        shorten: "POST /links {\"url\": \"https://…\"}",
        follow: "GET /<code>",
        stats: "GET /<code>/stats",
    };
    Reply::json(200, JSON, &description)
}

/// The answer is the same whether or not the link was there before: who shortens a URL does not learn that somebody
/// else has.
fn shorten(
    world: &impl World,
    body: impl FnOnce() -> Result<Vec<u8>, BodyError>,
) -> Result<Reply, Problem> {
    let url = submission::parse(&body()?)?;
    let settings = Settings::read(world)?;
    let Shortened { code, fingerprint } = links::shorten(world, &url, settings.code_length)?;
    let short_url = settings.base_url.map(|base| format!("{base}/{code}"));
    world.log(
        LogLevel::Info,
        &format!("{code} leads to the url {}", hex(&fingerprint)),
    );
    let created = Created {
        code: code.as_str(),
        url: url.as_str(),
        short_url: short_url.as_deref(),
    };
    let reply = Reply::json(201, JSON, &created);
    let location = short_url.unwrap_or_else(|| format!("/{code}"));
    Ok(reply.with_field("location", location))
}

fn redirect(code: &Code, target: Result<Option<HttpUrl>, LinkError>) -> Result<Reply, Problem> {
    let url = target?.ok_or_else(|| unknown(code))?;
    Ok(Reply::empty(302)
        .with_field("location", url.as_str())
        // A click that a cache answers is a click nobody counts.
        .with_field("cache-control", "no-store"))
}

fn stats(world: &impl World, code: &Code) -> Result<Reply, Problem> {
    let stats = links::stats(world, code)?.ok_or_else(|| unknown(code))?;
    let counted = Counted {
        code: code.as_str(),
        url: stats.url.as_str(),
        clicks: stats.clicks,
    };
    Ok(Reply::json(200, JSON, &counted).with_field("cache-control", "no-store"))
}

fn unknown(code: &Code) -> Problem {
    Problem::new(Kind::UnknownCode, format!("no link has the code `{code}`"))
}

/// The first bytes of a fingerprint, enough to find equal ones in a log.
fn hex(fingerprint: &[u8]) -> String {
    const BYTES_SHOWN: usize = 8;
    fingerprint
        .iter()
        .take(BYTES_SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl From<Unrouted> for Problem {
    fn from(unrouted: Unrouted) -> Self {
        match unrouted {
            Unrouted::UnknownPath => {
                Self::new(Kind::UnknownPath, "`GET /` tells which paths there are")
            }
            Unrouted::MethodNotAllowed { allow } => Self {
                allow: Some(allow),
                ..Self::new(
                    Kind::MethodNotAllowed,
                    format!("the methods of this path are {allow}"),
                )
            },
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge => Kind::BodyTooLarge,
            BodyError::Broken(_) => Kind::UnreadableBody,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SubmissionError> for Problem {
    fn from(error: SubmissionError) -> Self {
        let kind = match error {
            SubmissionError::Json(_) => Kind::UnreadableBody,
            SubmissionError::NoUrl | SubmissionError::Url(_) => Kind::InvalidUrl,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        let kind = match error {
            SettingsError::Unavailable { .. } => Kind::ConfigurationUnavailable,
            SettingsError::Invalid { .. } => Kind::Misconfigured,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        let kind = match error {
            LinkError::Store(_) => Kind::StoreUnavailable,
            LinkError::NoFreeCode | LinkError::Refused(CodeRefusal::Exhausted) => Kind::NoFreeCode,
            LinkError::Refused(_) | LinkError::NoCode => Kind::CodeMakerRefused,
            LinkError::Damaged(_) => Kind::DamagedLink,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests;
