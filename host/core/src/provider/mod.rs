//! Providers on this host: started from the factories the host was assembled with, told of their links, called, watched
//! and shut down. The host knows the trait of a provider, never a provider.

mod links;
mod outbound;
mod running;

pub(crate) use links::keep_linked;
pub(crate) use running::{ProviderStart, RunningProvider};
