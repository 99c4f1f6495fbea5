//! A part of the end-to-end tests.

mod control_api;
