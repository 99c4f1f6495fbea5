//! Temporary.
mod observing;
