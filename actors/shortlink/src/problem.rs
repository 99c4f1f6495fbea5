//! Refusals as RFC 9457 has them: `application/problem+json` with `type`, `title`, `status` and `detail`.

use serde::Serialize;

use crate::reply::Reply;

/// What went wrong: decides status, type and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is not JSON, or broke off.
    UnreadableBody,
    /// The body holds no URL that can be shortened.
    InvalidUrl,
    /// Nothing is ever at this path.
    UnknownPath,
    /// No link has this code.
    UnknownCode,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// The body is too large.
    BodyTooLarge,
    /// What the store holds for this code is no link.
    DamagedLink,
    /// A configuration value makes no sense.
    Misconfigured,
    /// The configuration could not be read.
    ConfigurationUnavailable,
    /// The code maker refused, or what it made is no code.
    CodeMakerRefused,
    /// Every code that was tried is taken.
    NoFreeCode,
    /// The key-value store refused or failed.
    StoreUnavailable,
}

impl Kind {
    /// Status, last part of the type, and title.
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnreadableBody => (400, "unreadable-body", "The body could not be read as JSON"),
            Self::InvalidUrl => (422, "invalid-url", "The URL cannot be shortened"),
            Self::UnknownPath => (404, "unknown-path", "There is nothing at this path"),
            Self::UnknownCode => (404, "unknown-code", "No link has this code"),
            Self::MethodNotAllowed => (
                405,
                "method-not-allowed",
                "The method is not allowed at this path",
            ),
            Self::BodyTooLarge => (413, "body-too-large", "The body is too large"),
            Self::DamagedLink => (500, "damaged-link", "The stored link is damaged"),
            Self::Misconfigured => (500, "misconfigured", "The link shortener is misconfigured"),
            Self::ConfigurationUnavailable => (
                503,
                "configuration-unavailable",
                "The configuration could not be read",
            ),
            Self::CodeMakerRefused => (502, "code-maker-refused", "The code maker made no code"),
            Self::NoFreeCode => (503, "no-free-code", "No free code was found"),
            Self::StoreUnavailable => (
                503,
                "store-unavailable",
                "The key-value store did not answer the request",
            ),
        }
    }

    /// The status code that goes with it.
    pub(crate) fn status(self) -> u16 {
        self.facts().0
    }
}

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What went wrong.
    pub(crate) kind: Kind,
    /// What went wrong this time, for people.
    pub(crate) detail: String,
    /// For [`Kind::MethodNotAllowed`]: the methods that are.
    pub(crate) allow: Option<&'static str>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem of this kind; `detail` says what is particular about this one.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            allow: None,
        }
    }

    /// The problem as a response.
    pub(crate) fn into_reply(self) -> Reply {
        let (status, slug, title) = self.kind.facts();
        let document = Document {
            // A name and not an address (RFC 4151): there is no page to look up.
            r#type: format!("tag:shortlink.example,2026:{slug}"),
            title,
            status,
            detail: &self.detail,
        };
        let reply = Reply::json(status, "application/problem+json", &document);
        match self.allow {
            Some(methods) => reply.with_field("allow", methods),
            None => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_document_of_four_members() {
        let reply = Problem::new(Kind::UnknownCode, "no link has the code `abc\"`").into_reply();
        assert_eq!(reply.status, 404);
        assert_eq!(
            reply.fields,
            [("content-type", "application/problem+json".to_owned())]
        );
        assert_eq!(
            String::from_utf8_lossy(&reply.body),
            "{\"type\":\"tag:shortlink.example,2026:unknown-code\",\"title\":\"No link has this code\",\
             \"status\":404,\"detail\":\"no link has the code `abc\\\"`\"}\n"
        );
    }

    #[test]
    fn a_method_that_is_not_allowed_names_those_that_are() {
        let problem = Problem {
            allow: Some("GET, HEAD"),
            ..Problem::new(Kind::MethodNotAllowed, "use another")
        };
        assert!(
            problem
                .into_reply()
                .fields
                .contains(&("allow", "GET, HEAD".to_owned()))
        );
    }
}
