//! What is measured: one module for each case.

pub(super) mod calls;
pub(super) mod counter;
pub(super) mod http;
pub(super) mod memory;
pub(super) mod overload;
pub(super) mod postgres;
pub(super) mod start;
