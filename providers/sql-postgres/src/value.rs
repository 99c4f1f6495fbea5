//! Between the interface's values and PostgreSQL's binary formats.
//!
//! [`encode`] turns a parameter into the bytes of the type that the statement wants, [`decode`] the bytes of a column
//! into a value. [`float`], [`numeric`] and [`calendar`] are the parts with rules of their own, and [`kind`] names the
//! interface's cases for error messages.

mod calendar;
pub(crate) mod decode;
pub(crate) mod encode;
mod float;
mod kind;
mod numeric;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
