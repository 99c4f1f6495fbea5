//! WIT values met at run time, and the bytes that they travel as.
//!
//! The rules are the protocol's (`trellis_protocol::value`); here they are applied to wasmtime's dynamic values, guided by
//! a function's [`FunctionShape`]. The protocol's byte vectors are tested against this side as well.

mod decode;
mod encode;
mod shape;

pub(crate) use decode::{decode_params, decode_result};
pub(crate) use encode::{encode_params, encode_result};
pub(crate) use shape::{Unsupported, function_shape, typed_function_shape};

#[cfg(test)]
pub(crate) mod tests;
