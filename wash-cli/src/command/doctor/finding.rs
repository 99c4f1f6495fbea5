//! What a look came to.

use serde_json::{Value, json};

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, or is not needed by everybody.
    Warning,
    /// Something will fail.
    Broken,
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its stable name.
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What was seen.
    pub(super) message: String,
    /// What to do about it.
    pub(super) fix: Option<String>,
}

/// All looks, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.0.push(Finding {
            check,
            state: State::Ok,
            message: message.into(),
            fix: None,
        });
    }

    pub(super) fn warning(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(State::Warning, check, message.into(), fix.into());
    }

    pub(super) fn broken(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(State::Broken, check, message.into(), fix.into());
    }

    pub(super) fn push(&mut self, state: State, check: &'static str, message: String, fix: String) {
        self.0.push(Finding {
            check,
            state,
            message,
            fix: Some(fix),
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    pub(super) fn to_json(&self) -> Value {
        self.iter()
            .map(|finding| {
                let mut value = json!({
                    "check": finding.check,
                    "state": finding.state.word(),
                    "message": finding.message,
                });
                if let Some(fix) = &finding.fix {
                    value["fix"] = fix.as_str().into();
                }
                value
            })
            .collect()
    }
}
