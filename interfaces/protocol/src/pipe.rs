//! What a host and one of its provider processes say to each other over their socket.
//!
//! The provider inherits one end of a socket pair. Each message on it is a length, four bytes, most significant first,
//! and a frame of so many bytes, at most [`FRAME_BYTES_MAX`]. Calls are the [frames](crate::frame) that hosts send each
//! other, byte for byte, without envelope and signature. Beside them go control frames, of kinds from 32 on:
//!
//! | kind | array | sent by |
//! | --- | --- | --- |
//! | 32 hello | `[version, name, serves, calls, calls_max]` | provider, first of all |
//! | 33 start | `[question, id, lattice, host, config]` | host |
//! | 34 link-put | `[question, link]` | host |
//! | 35 link-delete | `[question, key, end]` | host |
//! | 36 health | `[question]` | host |
//! | 37 release-host | `[host]` | host, without an answer |
//! | 38 shutdown | `[question, within_ms]` | host |
//! | 39 done | `[question, failure or nil]` | provider |
//!
//! A link is `[key, target, interfaces, end, config, generation]`, its key `[source, name, namespace, package]`, its end
//! `source` or `target`, whichever the provider is; a failure is `[kind, subject, holder, reason]`.

mod failure;
mod question;
mod wire;

use bytes::Bytes;

pub use failure::{Failure, FailureKind};
pub use question::{PipeLink, PipeLinkEnd, Question};

use crate::frame::{Frame, FrameError};
use crate::id::EntityId;
use crate::limits::{FRAME_BYTES_MAX, INTERFACE_BYTES_MAX};

/// The version of all this, which a provider names in its hello.
pub const PIPE_VERSION: u16 = 1;

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;

/// Longest name of a kind of provider, in bytes.
pub const PROVIDER_NAME_BYTES_MAX: usize = 128;

/// Most interfaces that a provider serves, and most that it calls.
pub const PROVIDER_INTERFACES_MAX: usize = 64;

/// Most calls that a provider can offer to serve at once.
pub const CALLS_MAX: u32 = 65_536;

/// Most entries of a configuration.
pub const CONFIG_ENTRIES_MAX: usize = 1024;

/// The number of a question: unique among those that the host has asked over this socket.
pub type QuestionNumber = u64;

/// What a provider says first: who it is, and how much it takes at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol that it speaks.
    pub version: u16,
    /// The name of its kind: `keyvalue-redis`.
    pub name: String,
    /// The interfaces that actors can call on it, `namespace:package/interface`.
    pub serves: Vec<String>,
    /// The interfaces that it calls on actors.
    pub calls: Vec<String>,
    /// How many calls it serves at once. The host keeps to it.
    pub calls_max: u32,
}

/// A control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A provider is there.
    Hello(Hello),
    /// The host wants something done, and to hear when it is.
    Ask {
        /// The question's number.
        number: QuestionNumber,
        /// The question.
        question: Question,
    },
    /// A host has disappeared; all that its instances held can go. There is no answer.
    ReleaseHost {
        /// Public key of that host.
        host: String,
    },
    /// A question is answered: done, or why not.
    Done {
        /// The question's number.
        number: QuestionNumber,
        /// Why not, where it is not done.
        failure: Option<Failure>,
    },
}

/// One message on a provider's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipeFrame {
    /// A part of a call.
    Call(Frame),
    /// All else.
    Control(Box<Control>),
}

impl PipeFrame {
    /// Reads what followed a length.
    ///
    /// # Errors
    /// [`FrameError`] where a limit is exceeded or the bytes are no frame. The socket is of no use then.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        match bytes.first() {
            Some(&kind) if kind >= wire::CONTROL_FIRST => {
                Control::decode(bytes).map(Box::new).map(Self::Control)
            }
            _ => Frame::decode(bytes).map(Self::Call),
        }
    }

    /// The frame's name in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call(frame) => frame.kind(),
            Self::Control(control) => control.kind(),
        }
    }
}

impl Control {
    /// The bytes of the frame, without its length.
    ///
    /// # Errors
    /// [`FrameError`] where the receiver would refuse it for the same reason: mostly a configuration that is too large.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        self.check()?;
        let bytes = wire::encode(self)?;
        check("a frame", bytes.len(), FRAME_BYTES_MAX)?;
        Ok(bytes)
    }

    /// Reads a control frame.
    ///
    /// # Errors
    /// [`FrameError`] where a limit is exceeded or the bytes are no control frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        check("a frame", bytes.len(), FRAME_BYTES_MAX)?;
        let control = wire::decode(bytes)?;
        control.check()?;
        Ok(control)
    }

    /// The frame's name in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Ask { question, .. } => question.kind(),
            Self::ReleaseHost { .. } => "release-host",
            Self::Done { .. } => "done",
        }
    }

    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Hello(hello) => hello.check(),
            Self::Ask { question, .. } => question.check(),
            Self::ReleaseHost { .. } | Self::Done { .. } => Ok(()),
        }
    }
}

impl Hello {
    fn check(&self) -> Result<(), FrameError> {
        check("a name", self.name.len(), PROVIDER_NAME_BYTES_MAX)?;
        // Names and interfaces stand in logs, in events and on people's screens.
        EntityId::new(&self.name).map_err(|error| malformed(&format!("a name: {error}")))?;
        for interfaces in [&self.serves, &self.calls] {
            check(
                "a count of interfaces",
                interfaces.len(),
                PROVIDER_INTERFACES_MAX,
            )?;
            for interface in interfaces {
                check("an interface", interface.len(), INTERFACE_BYTES_MAX)?;
                if !interface.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(malformed("an interface with characters that none has"));
                }
            }
        }
        check(
            "a count of calls",
            self.calls_max as usize,
            CALLS_MAX as usize,
        )
    }
}

/// The length before a frame.
///
/// # Errors
/// [`FrameError::TooLarge`] beyond [`FRAME_BYTES_MAX`].
pub fn write_length(frame_bytes: usize) -> Result<[u8; LENGTH_BYTES], FrameError> {
    check("a frame", frame_bytes, FRAME_BYTES_MAX)?;
    // Bounded a line above.
    Ok(u32::try_from(frame_bytes).unwrap_or(u32::MAX).to_be_bytes())
}

/// How many bytes follow. To be asked before anything is reserved for them.
///
/// # Errors
/// [`FrameError::TooLarge`] beyond [`FRAME_BYTES_MAX`]; [`FrameError::Malformed`] for none.
pub fn read_length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    check("a frame", length, FRAME_BYTES_MAX)?;
    if length == 0 {
        return Err(malformed("a frame of no bytes"));
    }
    Ok(length)
}

fn malformed(reason: &str) -> FrameError {
    FrameError::Malformed {
        reason: reason.to_owned(),
    }
}

fn check(what: &'static str, bytes: usize, limit: usize) -> Result<(), FrameError> {
    if bytes > limit {
        return Err(FrameError::TooLarge { what, bytes, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
