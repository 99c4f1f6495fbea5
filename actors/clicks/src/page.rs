//! From a request to a reply.

use serde_json::{Value, json};

use crate::click::Code;
use crate::tally::{self, Counters};

/// A status and a JSON document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) document: Value,
}

/// Answers one request. The store is opened where it is needed.
pub(crate) fn answer<C: Counters>(
    method: &str,
    path_with_query: &str,
    open: impl FnOnce() -> Result<C, String>,
) -> Reply {
    let path = path_with_query.split('?').next().unwrap_or_default();
    let wanted = match path.strip_prefix("/clicks") {
        Some("" | "/") => None,
        Some(rest) => match rest.strip_prefix('/').and_then(Code::parse) {
            Some(code) => Some(code),
            None => return problem(404, "no code can be called so"),
        },
        None => {
            return problem(
                404,
                "`GET /clicks` and `GET /clicks/<code>` are all there is",
            );
        }
    };
    if !matches!(method, "GET" | "HEAD") {
        return problem(405, "the methods here are GET and HEAD");
    }
    let document = open().and_then(|counters| match &wanted {
        Some(code) => {
            let clicks = tally::clicks(&counters, code)?;
            Ok(json!({"code": code.as_str(), "clicks": clicks}))
        }
        None => {
            let top = tally::top(&counters)?;
            let codes = top.codes.iter();
            let codes: Vec<_> = codes
                .map(|(code, clicks)| json!({"code": code, "clicks": clicks}))
                .collect();
            Ok(json!({"top": codes, "complete": top.complete}))
        }
    });
    match document {
        Ok(document) => Reply {
            status: 200,
            document,
        },
        Err(reason) => problem(503, &reason),
    }
}

fn problem(status: u16, detail: &str) -> Reply {
    Reply {
        status,
        document: json!({"status": status, "detail": detail}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::tests::Fake;

    fn ask(method: &str, path: &str) -> Reply {
        answer(method, path, || {
            let fake = Fake::default();
            for (code, clicks) in [("seen.a", 2), ("seen.b", 5)] {
                fake.counters.borrow_mut().insert(code.to_owned(), clicks);
            }
            Ok(fake)
        })
    }

    #[test]
    fn a_code_has_its_clicks_and_all_have_a_list() {
        assert_eq!(
            ask("GET", "/clicks/a?x").document,
            json!({"code": "a", "clicks": 2})
        );
        assert_eq!(
            ask("GET", "/clicks/never").document,
            json!({"code": "never", "clicks": 0})
        );
        let top = json!({
            "top": [{"code": "b", "clicks": 5}, {"code": "a", "clicks": 2}],
            "complete": true
        });
        assert_eq!(ask("GET", "/clicks").document, top);
    }

    #[test]
    fn anything_else_is_told_what_there_is() {
        for path in ["/", "/clicksa", "/clicks/a.b", "/clicks/a/b", ""] {
            assert_eq!(ask("GET", path).status, 404, "{path}");
        }
        assert_eq!(ask("POST", "/clicks").status, 405);
        let refused = answer("GET", "/clicks", || Err::<Fake, _>("no link".to_owned()));
        assert_eq!(refused.status, 503);
        assert_eq!(refused.document["detail"], "no link");
    }
}
