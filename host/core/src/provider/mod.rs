//! Providers on this host: started from the factories the host was assembled with, or as processes of their own; told of
//! their links, called, watched and shut down. The host knows the trait of a provider, never a provider.

mod http;
mod links;
mod outbound;
pub(crate) mod process;
mod running;
mod table;

pub(crate) use links::{keep_linked, link_ends};
pub(crate) use running::{ProviderSource, ProviderStart, ProviderStartError, RunningProvider};
