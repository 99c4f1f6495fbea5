//! Registries of the OCI distribution protocol, as a client that believes nothing.
//!
//! `oci-client` has the types of manifests, and they are used. Its client is not: it reads manifests, tokens and
//! messages of errors whole, whatever their length, and stops the process on some tokens and locations. Here every body has
//! a limit and every wait an end, redirects are counted and never lead from TLS to plain text, and credentials go to the
//! registry they are for, and to the server of tokens that it names, only.
//!
//! [`Registries`] is shared and keeps connections, credentials and tokens. [`client`] sends single requests,
//! [`auth`] gets tokens, [`pull`] and [`push`] are what is done with them, [`image`] judges manifests and [`reason`]
//! says what went wrong.

mod auth;
mod client;
mod image;
mod pull;
mod push;
mod reason;

pub(crate) use auth::Action;
pub(crate) use client::{Registries, Repository};
pub(crate) use image::Layer;
pub(crate) use pull::MANIFEST_BYTES_MAX;
pub(crate) use push::{Manifest, Source};
