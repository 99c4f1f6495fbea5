//! Between bytes and types, on behalf of generated code: what is the same for every function stands here once.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trellis_protocol::{Operation, Refusal, RefusalCode, value};

use crate::call::Call;
use crate::interface::Caller;

/// The parameters of a call, checked against the function's type.
///
/// # Errors
/// `type-mismatch`, `bad-payload`, `too-large`.
pub fn params<P: DeserializeOwned>(call: &Call, type_hash: u64) -> Result<P, Refusal> {
    if call.type_hash != type_hash {
        let message = format!(
            "`{}` was called by the type {:016x}, here it has the type {type_hash:016x}",
            call.operation, call.type_hash
        );
        return Err(Refusal::new(RefusalCode::TypeMismatch, message)
            .with_remedy("build caller and provider against the same version of the interface"));
    }
    value::decode(&call.payload).map_err(|error| {
        let message = format!("the parameters of `{}`: {error}", call.operation);
        Refusal::new(error.code(), message)
    })
}

/// The refusal of a function that an interface does not have.
pub fn unknown(call: &Call) -> Refusal {
    let message = format!("there is no `{}` here", call.operation);
    Refusal::new(RefusalCode::UnknownOperation, message)
}

/// An encoded result.
///
/// # Errors
/// `too-large` where the provider's answer exceeds what a call may carry.
pub fn result<R: Serialize>(result: &R) -> Result<Bytes, Refusal> {
    let bytes = value::encode(result).map_err(|error| {
        let message = format!("the result of the call: {error}");
        Refusal::new(error.code(), message)
    })?;
    Ok(bytes.into())
}

/// One call from a client: parameters to bytes, bytes to result.
///
/// # Errors
/// The caller's refusal; `too-large` where the parameters exceed what a call may carry; `bad-payload` where the answer
/// is not of the result's type.
pub async fn call<C: Caller, P: Serialize + Sync, R: DeserializeOwned>(
    caller: &C,
    operation: &Operation,
    type_hash: u64,
    params: &P,
) -> Result<R, Refusal> {
    let payload = value::encode(params).map_err(|error| {
        let message = format!("the parameters of `{operation}`: {error}");
        Refusal::new(error.code(), message)
    })?;
    let answer = caller.call(operation, type_hash, payload.into()).await?;
    value::decode(&answer).map_err(|error| {
        let message = format!("the result of `{operation}`: {error}");
        Refusal::new(error.code(), message)
    })
}
