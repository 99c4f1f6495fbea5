//! The shape that every signed message of a host has: `version | signature | MessagePack array`.

use serde::Serialize;
use trellis_claims::{KeyError, PublicKey, SigningKey};

/// Length of an Ed25519 signature, in bytes.
pub(crate) const SIGNATURE_BYTES: usize = trellis_claims::key::SIGNATURE_BYTES;

/// Where the array begins.
pub(crate) const BODY_OFFSET: usize = 1 + SIGNATURE_BYTES;

/// Encodes and signs. What is signed is `context` and the array; each version has a context of its own.
pub(crate) fn sign<T: Serialize>(
    key: &SigningKey,
    version: u8,
    context: &[u8],
    body: &T,
    bulk_bytes: usize,
) -> Result<Vec<u8>, String> {
    let mut message = Vec::with_capacity(context.len() + bulk_bytes + 256);
    message.extend_from_slice(context);
    rmp_serde::encode::write(&mut message, body).map_err(|error| error.to_string())?;
    let signature = key.sign_bytes(&message);
    let array = message.get(context.len()..).unwrap_or_default();
    let mut bytes = Vec::with_capacity(BODY_OFFSET + array.len());
    bytes.push(version);
    bytes.extend_from_slice(&signature);
    bytes.extend_from_slice(array);
    Ok(bytes)
}

/// Checks the signature of a whole message. The caller has checked its version and its length.
pub(crate) fn verify(key: &PublicKey, context: &[u8], bytes: &[u8]) -> Result<(), KeyError> {
    let (signature, array) = bytes
        .get(1..)
        .and_then(<[u8]>::split_first_chunk::<SIGNATURE_BYTES>)
        .ok_or(KeyError::BadSignature)?;
    let message = [context, array].concat();
    key.verify_bytes(&message, signature)
}
