//! The bytes of control frames.

use std::time::Duration;

use serde::Serialize;

use super::{Control, Failure, Hello, Question};
use crate::frame::FrameError;
use crate::frame::wire::from_array;

/// Where control frames begin. Below are the frames of calls.
pub(super) const CONTROL_FIRST: u8 = 32;

const HELLO: u8 = 32;
const START: u8 = 33;
const LINK_PUT: u8 = 34;
const LINK_DELETE: u8 = 35;
const HEALTH: u8 = 36;
const RELEASE_HOST: u8 = 37;
const SHUTDOWN: u8 = 38;
const DONE: u8 = 39;

pub(super) fn encode(control: &Control) -> Result<Vec<u8>, FrameError> {
    match control {
        Control::Hello(Hello {
            version,
            name,
            serves,
            calls,
            calls_max,
        }) => array(HELLO, &(version, name, serves, calls, calls_max)),
        Control::Ask { number, question } => match question {
            Question::Start {
                id,
                lattice,
                host,
                config,
            } => array(START, &(number, id, lattice, host, config)),
            Question::LinkPut(link) => array(LINK_PUT, &(number, link)),
            Question::LinkDelete { key, end } => array(LINK_DELETE, &(number, key, end)),
            Question::Health => array(HEALTH, &(number,)),
            Question::Shutdown { within } => {
                let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                array(SHUTDOWN, &(number, within_ms))
            }
        },
        Control::ReleaseHost { host } => array(RELEASE_HOST, &(host,)),
        Control::Done { number, failure } => {
            let failure = failure.clone().map(Failure::cut);
            array(DONE, &(number, failure))
        }
    }
}

fn array<T: Serialize>(kind: u8, body: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![kind];
    rmp_serde::encode::write(&mut bytes, body).map_err(|error| FrameError::Malformed {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

pub(super) fn decode(frame: &[u8]) -> Result<Control, FrameError> {
    let Some((&kind, body)) = frame.split_first() else {
        return Err(FrameError::Malformed {
            reason: "no kind".to_owned(),
        });
    };
    let ask = |number, question| Control::Ask { number, question };
    Ok(match kind {
        HELLO => {
            let (version, name, serves, calls, calls_max) = from_array(body)?;
            Control::Hello(Hello {
                version,
                name,
                serves,
                calls,
                calls_max,
            })
        }
        START => {
            let (number, id, lattice, host, config) = from_array(body)?;
            let start = Question::Start {
                id,
                lattice,
                host,
                config,
            };
            ask(number, start)
        }
        LINK_PUT => {
            let (number, link) = from_array(body)?;
            ask(number, Question::LinkPut(link))
        }
        LINK_DELETE => {
            let (number, key, end) = from_array(body)?;
            ask(number, Question::LinkDelete { key, end })
        }
        HEALTH => {
            let (number,) = from_array(body)?;
            ask(number, Question::Health)
        }
        RELEASE_HOST => {
            let (host,) = from_array(body)?;
            Control::ReleaseHost { host }
        }
        SHUTDOWN => {
            let (number, within_ms): (_, u32) = from_array(body)?;
            let within = Duration::from_millis(u64::from(within_ms));
            ask(number, Question::Shutdown { within })
        }
        DONE => {
            let (number, failure): (_, Option<Failure>) = from_array(body)?;
            Control::Done {
                number,
                failure: failure.map(Failure::cut),
            }
        }
        kind => return Err(FrameError::UnknownKind { kind }),
    })
}
