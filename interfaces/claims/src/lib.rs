//! Keys, tokens and trust: what makes a WebAssembly component *signed*, and what makes a signature believed.
//!
//! Read in this order:
//!
//! | module | noun |
//! | --- | --- |
//! | [`key`] | nkeys: [`PublicKey`], [`SigningKey`], their [`KeyKind`] |
//! | [`capability`] | what claims can grant: [`Capability`], [`Capabilities`] |
//! | [`interface`] | what is asked for: [`InterfaceName`] |
//! | [`mod@content_hash`] | [`ContentHash`], SHA-256 of a component less our section |
//! | [`section`] | the custom section `trellis-claims`: [`embed`], [`extract`] |
//! | [`token`] | rules that every token shares, and [`TokenError`] |
//! | [`actor`], [`account`], [`host`], [`provider`] | the kinds of token |
//! | [`command`] | what operators sign when they command a lattice: [`CommandToken`], [`LinkToken`], [`CommandSigner`] |
//! | [`trust`] | [`TrustRoots`]: the keys that an operator believes |
//! | [`component`] | [`verify_component`], the one front door for whoever is about to run something |
//! | [`unix_time`] | [`UnixTime`], the resolution of a token's clock |
//!
//! ```text
//! operator O… ──signs──▶ account A… ──signs──▶ module M…  (inside the component)
//!      └──────────────or the account signs──▶ host N…     (host certificate)
//! ```
//!
//! A token is believed when its chain ends in a key of [`TrustRoots`]. An empty set believes nobody.
//!
//! This crate opens no file and no connection, and decides no policy: which imports need a grant, who may link what and
//! which tokens are revoked is for the host to say. The one thing it reads from outside is the clock, in
//! [`UnixTime::now`], and every check takes the time as an argument instead.

pub mod account;
pub mod actor;
pub mod capability;
pub mod command;
pub mod component;
pub mod content_hash;
#[cfg(test)]
mod forge;
pub mod host;
pub mod interface;
pub mod key;
mod label;
pub mod provider;
pub mod section;
pub mod token;
pub mod trust;
pub mod unix_time;

pub use account::{AccountClaims, AccountToken, NewAccountToken};
pub use actor::{ActorClaims, ActorToken, NewActorToken};
pub use capability::{Capabilities, Capability};
pub use command::{
    CommandClaims, CommandSigner, CommandToken, LinkClaims, LinkStatement, LinkToken,
};
pub use component::{ClaimsError, VerifiedComponent, verify_component};
pub use content_hash::ContentHash;
pub use host::{HostCertificate, NewHostCertificate};
pub use interface::InterfaceName;
pub use key::{KeyError, KeyKind, PublicKey, SigningKey};
pub use provider::{NewProviderToken, Platform, ProviderClaims, ProviderToken};
pub use section::{SectionError, content_hash, embed, extract};
pub use token::{SignError, TokenError, Validity};
pub use trust::{TrustRoots, TrustRootsError};
pub use unix_time::UnixTime;
