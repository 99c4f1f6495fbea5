//! HTTP out of actors.
