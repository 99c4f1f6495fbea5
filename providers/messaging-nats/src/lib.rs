//! `wasmcloud:messaging` on NATS.
