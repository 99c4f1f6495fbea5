//! What a server says that a user may publish to.
//!
//! A complaint comes beside the answers ([`crate::denied`]), so that there is none can only be guessed from time that
//! passes. Who knows what the server permits need not guess: a message to a permitted subject waits for nothing, and one to
//! another for its complaint. The complaint still decides, since permissions change under a connection.

use serde::Deserialize;

use crate::subject::Pattern;

/// What is known of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// The server takes it.
    Permitted,
    /// The server complains about it.
    Refused,
    /// Either.
    Unknown,
}

/// What a server answers to the question who one is, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Answer {
    data: User,
}

#[derive(Debug, Deserialize)]
struct User {
    /// Absent where everything is permitted.
    permissions: Option<Said>,
}

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    publish: SaidOfPublishing,
    /// Present where subjects for replies are permitted beside those that are listed.
    responses: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
struct SaidOfPublishing {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

/// What one user may publish to.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    /// All subjects, where it is empty.
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    /// Subjects for replies are permitted, too, as they come.
    replies: bool,
    /// There are no permissions, so everything is permitted.
    unlimited: bool,
}

impl Permissions {
    /// Reads the answer to a question that was published: so publishing is not forbidden altogether, which an answer
    /// without a list of what is permitted could mean as well. `None` where it cannot be understood as a whole.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let Some(said) = serde_json::from_slice::<Answer>(answer)
            .ok()?
            .data
            .permissions
        else {
            return Some(Self {
                unlimited: true,
                ..Self::default()
            });
        };
        let patterns = |texts: Vec<String>| {
            let patterns = texts.iter().map(|text| Pattern::new(text).ok());
            patterns.collect::<Option<Vec<_>>>()
        };
        Some(Self {
            allow: patterns(said.publish.allow)?,
            deny: patterns(said.publish.deny)?,
            replies: said.responses.is_some(),
            unlimited: false,
        })
    }

    /// Whether there is nothing that a user may not do, be it to subscribe.
    pub(crate) fn are_unlimited(&self) -> bool {
        self.unlimited
    }

    /// What the server does with a message to a subject.
    pub(crate) fn expectation(&self, subject: &str) -> Expectation {
        let named = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(subject));
        match (self.allow.is_empty() || named(&self.allow)) && !named(&self.deny) {
            true => Expectation::Permitted,
            false if self.replies => Expectation::Unknown,
            false => Expectation::Refused,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::Expectation::{Permitted, Refused, Unknown};
    use super::*;

    fn read(permissions: &str) -> Option<Permissions> {
        let answer = format!(r#"{{"server":{{}},"data":{{"user":"u"{permissions}}}}}"#);
        Permissions::read(answer.as_bytes())
    }

    #[test]
    fn a_user_without_permissions_of_its_own_may_publish_to_everything() {
        assert_eq!(read("").unwrap().expectation("a.b"), Permitted);
        let null = read(r#","permissions":null"#).unwrap();
        assert_eq!(null.expectation("a.b"), Permitted);
        let listening = read(r#","permissions":{"subscribe":{"deny":[">"]}}"#).unwrap();
        assert_eq!(listening.expectation("a.b"), Permitted);
        assert!(null.are_unlimited() && !listening.are_unlimited());
    }

    #[test]
    fn what_is_denied_is_refused_even_where_it_is_allowed() {
        let listed = r#","permissions":{"publish":{"allow":["a.>","b.*"],"deny":["a.secret.>"]}}"#;
        let listed = read(listed).unwrap();
        for (subject, expected) in [
            ("a.b", Permitted),
            ("b.c", Permitted),
            ("b.c.d", Refused),
            ("c", Refused),
            ("a.secret.x", Refused),
            ("a.secret", Permitted),
        ] {
            assert_eq!(listed.expectation(subject), expected, "{subject}");
        }
        let denied = read(r#","permissions":{"publish":{"deny":["a"]}}"#).unwrap();
        assert_eq!(denied.expectation("a"), Refused);
        assert_eq!(denied.expectation("b"), Permitted);
    }

    #[test]
    fn where_replies_are_permitted_nothing_is_known_to_be_refused() {
        let replies = r#","permissions":{"publish":{"allow":["a"]},"responses":{"max":1,"ttl":0}}"#;
        let replies = read(replies).unwrap();
        assert_eq!(replies.expectation("a"), Permitted);
        assert_eq!(replies.expectation("b"), Unknown);
    }

    #[test]
    fn an_answer_that_is_not_understood_says_nothing() {
        assert!(Permissions::read(b"{}").is_none());
        assert!(Permissions::read(b"\xff").is_none());
        assert!(read(r#","permissions":{"publish":{"deny":["a..b"]}}"#).is_none());
        assert!(read(r#","permissions":{"publish":{"deny":"a"}}"#).is_none());
    }
}
