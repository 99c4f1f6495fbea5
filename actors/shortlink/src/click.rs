//! Telling others of a click: one message for each redirect, on [`SUBJECT`], with the body `{"code": "<code>"}`.
//!
//! It is news and not a record: the count that matters here is the one in the store.

use serde::Serialize;

use crate::code::Code;
use crate::world::{LogLevel, World};

/// Where the messages go.
pub(crate) const SUBJECT: &str = "shortlink.clicks";

/// How a refusal begins where no link leads to a broker, which is an operator's choice and no fault.
const NO_LINK: &str = "no-link";

#[derive(Serialize)]
struct Click<'a> {
    code: &'a str,
}

/// Tells of a click. Whether anybody hears makes no difference to the one who clicked.
pub(crate) fn tell(world: &impl World, code: &Code) {
    let click = Click {
        code: code.as_str(),
    };
    let body = serde_json::to_vec(&click).expect("a struct of one string serialises");
    if let Err(reason) = world.publish(SUBJECT, body)
        && !reason.starts_with(NO_LINK)
    {
        let line = format!("a click of {code} was not told: {reason}");
        world.log(LogLevel::Error, &line);
    }
}
