//! Credentials for registries, which an operator hands to every host at once.
//!
//! They are kept in memory and nowhere else: a host that was started again has those of its own flags and environment until
//! they are put anew. They are never logged, listed or told in an event; what is said of them is how many there were.

use trellis_protocol::control::RegistryCredentials;

use super::{Answer, Asked, accepted};

/// Clients publish this without waiting; one that waits is told that it was taken.
pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let credentials: RegistryCredentials = asked.parse().inspect_err(|_| {
        // Nobody may be there to be told.
        tracing::warn!("credentials for registries were not understood");
    })?;
    let registries = credentials.0.len();
    asked.shared.artifacts.set_registries(&credentials);
    asked.shared.put_registries(&credentials);
    tracing::info!(registries, "credentials for registries were put");
    Ok(accepted(""))
}
