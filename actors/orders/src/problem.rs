//! Refusals as RFC 9457 has them: `application/problem+json` with `type`, `title`, `status` and `detail`.

use serde::Serialize;

use crate::reply::Reply;

/// What went wrong: decides status, type and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request makes no sense.
    BadRequest,
    /// The body is too large.
    BodyTooLarge,
    /// Nothing is ever at this path.
    UnknownPath,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// No order has this number.
    UnknownOrder,
    /// Nobody has ever stocked this item.
    UnknownItem,
    /// There is too little.
    OutOfStock,
    /// The key stands for another order.
    KeyUsed,
    /// The database did not answer, or refused.
    DatabaseUnavailable,
}

impl Kind {
    /// Status, last part of the type, and title.
    fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "The request makes no sense"),
            Self::BodyTooLarge => (413, "body-too-large", "The body is too large"),
            Self::UnknownPath => (404, "unknown-path", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The path has other methods"),
            Self::UnknownOrder => (404, "unknown-order", "There is no such order"),
            Self::UnknownItem => (404, "unknown-item", "There is no such item"),
            Self::OutOfStock => (409, "out-of-stock", "There is not enough in stock"),
            Self::KeyUsed => (409, "key-used", "The key stands for another order"),
            Self::DatabaseUnavailable => (
                503,
                "database-unavailable",
                "The database did not answer the request",
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
    /// For [`Kind::OutOfStock`]: how many are left.
    pub(crate) left: Option<i64>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<i64>,
}

impl Problem {
    /// A problem of this kind; `detail` says what is particular about this one.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            allow: None,
            left: None,
        }
    }

    /// The problem as a response.
    pub(crate) fn into_reply(self) -> Reply {
        let (status, slug, title) = self.kind.facts();
        let document = Document {
            // A name and not an address (RFC 4151): there is no page to look up.
            r#type: format!("tag:orders.example,2026:{slug}"),
            title,
            status,
            detail: &self.detail,
            left: self.left,
        };
        let reply = Reply::json(status, "application/problem+json", &document);
        match self.allow {
            Some(methods) => reply.with_field("allow", methods),
            None => reply,
        }
    }
}
