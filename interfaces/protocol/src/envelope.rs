//! What a frame travels in from host to host: who sent it, to whom, and a signature over it.
//!
//! The first byte is the envelope's version. Version 1 is *signed*: every message between hosts is authenticated by the
//! sender's Ed25519 key, and nothing is encrypted. Sessions will bring a version of their own; the frames inside stay.
//!
//! ```text
//! 1 | signature, 64 bytes | [sender, recipient, sender incarnation, recipient incarnation, sequence, sent_ms, frame]
//! ```
//!
//! The signature is over [`CONTEXT`] and the MessagePack array that follows it. Sender and recipient are the texts of
//! public keys of hosts. An incarnation is one run of a host's process: it grows with every start, so nothing that was
//! said to or by a former run is good for the present one.
//!
//! **Replays.** A sender counts its envelopes for one incarnation of a recipient; the recipient keeps a
//! [`ReplayWindow`] for each incarnation of a sender. Order is not required, since calls run on many tasks.
//!
//! **Delay.** Nobody compares clocks. `sent_ms` counts from the sender's start; a recipient keeps the smallest difference
//! between arrival and `sent_ms` that it has seen ([`DelayFloor`]), and what a message took beyond that is its delay. It
//! is taken off the invocation's deadline, so a message that somebody held back is too late when it comes.

mod delay;
mod replay;
pub(crate) mod signed;

use bytes::Bytes;
use trellis_claims::{KeyError, KeyKind, PublicKey, SigningKey};

pub use delay::DelayFloor;
pub use replay::{REPLAY_WINDOW, ReplayWindow};

use crate::frame::wire::{Bin, from_array};
use crate::limits::FRAME_BYTES_MAX;
use crate::refusal::RefusalCode;

/// The version of signed envelopes.
pub const VERSION_SIGNED: u8 = 1;

/// What is signed before the body, so that no signature of another sort of message can stand here.
pub const CONTEXT: &[u8] = b"trellis envelope 1\0";

/// Most bytes that an envelope adds to its frame: version, signature, two keys, four numbers and MessagePack's markers.
pub const ENVELOPE_OVERHEAD_BYTES_MAX: usize = 1 + signed::SIGNATURE_BYTES + 2 * 58 + 4 * 9 + 8;

/// Largest envelope, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = FRAME_BYTES_MAX + ENVELOPE_OVERHEAD_BYTES_MAX;

const _: () = assert!(ENVELOPE_BYTES_MAX <= 64 * 1024);

/// To whom an envelope goes, and as which message of the sender's run.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// The host that is to read it.
    pub recipient: &'a str,
    /// Its incarnation, as its beats state it.
    pub recipient_incarnation: u64,
    /// The sender's own incarnation.
    pub sender_incarnation: u64,
    /// Counts the sender's envelopes for this recipient's incarnation.
    pub sequence: u64,
    /// Milliseconds since the sender started, on a clock that runs on while the machine sleeps.
    pub sent_ms: u64,
}

/// Why bytes are not an envelope that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// More than [`ENVELOPE_BYTES_MAX`] bytes, or none.
    #[error("an envelope has 1 to {ENVELOPE_BYTES_MAX} bytes, this one has {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// A version of which this host knows nothing.
    #[error("envelope version {version} is unknown, this host reads version {VERSION_SIGNED}")]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// The bytes are cut off, or not the array of an envelope.
    #[error("malformed envelope: {reason}")]
    Malformed {
        /// What was seen.
        reason: String,
    },
    /// The sender's key is no host's key.
    #[error("the sender is not a host: {0}")]
    Sender(#[source] KeyError),
    /// The signature is not the sender's over these bytes.
    #[error("the signature does not match: {0}")]
    Signature(#[source] KeyError),
}

impl EnvelopeError {
    /// The code under which it is counted and logged. Nobody is answered: the sender is not known to be who it says.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Length { .. } => RefusalCode::TooLarge,
            Self::UnknownVersion { .. } => RefusalCode::UnsupportedVersion,
            _ => RefusalCode::Unauthenticated,
        }
    }
}

/// An envelope that has been read and not yet believed.
///
/// Reading costs a microsecond, checking the signature many of them. A recipient first sees whether it knows the sender
/// and has not had this message before.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The host that sent it, if the signature holds.
    pub sender: String,
    /// The host that is to read it.
    pub recipient: String,
    /// The sender's incarnation.
    pub sender_incarnation: u64,
    /// The recipient's incarnation.
    pub recipient_incarnation: u64,
    /// The message's number.
    pub sequence: u64,
    /// When it was sent, by the sender's own count.
    pub sent_ms: u64,
    frame: Bytes,
    whole: Bytes,
}

/// An envelope whose signature is its sender's.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The host that sent it.
    pub sender: PublicKey,
    /// The host that is to read it.
    pub recipient: String,
    /// The sender's incarnation.
    pub sender_incarnation: u64,
    /// The recipient's incarnation.
    pub recipient_incarnation: u64,
    /// The message's number.
    pub sequence: u64,
    /// When it was sent, by the sender's own count.
    pub sent_ms: u64,
    /// The frame's bytes.
    pub frame: Bytes,
}

/// Puts a frame into a signed envelope.
///
/// # Errors
/// [`EnvelopeError::Length`] where the frame has more than [`FRAME_BYTES_MAX`] bytes, or where the recipient is so long
/// that the envelope exceeds [`ENVELOPE_BYTES_MAX`]. Whether the recipient is a host's key is not checked: an envelope
/// for something else is read by nobody.
pub fn seal(
    key: &SigningKey,
    address: &Address<'_>,
    frame: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(EnvelopeError::Length { bytes: frame.len() });
    }
    let body = (
        key.public().as_str(),
        address.recipient,
        address.sender_incarnation,
        address.recipient_incarnation,
        address.sequence,
        address.sent_ms,
        Bin(frame),
    );
    let envelope = signed::sign(key, VERSION_SIGNED, CONTEXT, &body, frame.len())
        .map_err(|reason| EnvelopeError::Malformed { reason })?;
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(EnvelopeError::Length {
            bytes: envelope.len(),
        });
    }
    Ok(envelope)
}

/// Reads an envelope and checks its signature. What else a recipient must check is in the front page of this module.
///
/// # Errors
/// [`EnvelopeError`].
pub fn open(bytes: &Bytes) -> Result<Opened, EnvelopeError> {
    let sealed = Sealed::read(bytes)?;
    let sender = PublicKey::parse(&sealed.sender, KeyKind::Host).map_err(EnvelopeError::Sender)?;
    sealed.open(&sender)
}

impl Sealed {
    /// Reads an envelope without checking its signature.
    ///
    /// # Errors
    /// [`EnvelopeError`], except `Sender` and `Signature`.
    pub fn read(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::Length { bytes: bytes.len() });
        }
        let version = *bytes.first().ok_or(EnvelopeError::Length { bytes: 0 })?;
        if version != VERSION_SIGNED {
            return Err(EnvelopeError::UnknownVersion { version });
        }
        let body = bytes.get(signed::BODY_OFFSET..).unwrap_or_default();
        let (
            sender,
            recipient,
            sender_incarnation,
            recipient_incarnation,
            sequence,
            sent_ms,
            frame,
        ): (String, String, u64, u64, u64, u64, Bin<'_>) =
            from_array(body).map_err(|error| EnvelopeError::Malformed {
                reason: error.to_string(),
            })?;
        Ok(Self {
            sender,
            recipient,
            sender_incarnation,
            recipient_incarnation,
            sequence,
            sent_ms,
            frame: bytes.slice_ref(frame.0),
            whole: bytes.clone(),
        })
    }

    /// Checks the signature with the key of the host that the reader believes `sender` to be.
    ///
    /// # Errors
    /// [`EnvelopeError::Signature`], also where `key` is not the sender's.
    pub fn open(self, key: &PublicKey) -> Result<Opened, EnvelopeError> {
        if key.as_str() != self.sender {
            return Err(EnvelopeError::Signature(KeyError::BadSignature));
        }
        signed::verify(key, CONTEXT, &self.whole).map_err(EnvelopeError::Signature)?;
        Ok(Opened {
            sender: key.clone(),
            recipient: self.recipient,
            sender_incarnation: self.sender_incarnation,
            recipient_incarnation: self.recipient_incarnation,
            sequence: self.sequence,
            sent_ms: self.sent_ms,
            frame: self.frame,
        })
    }
}

#[cfg(test)]
mod tests;
