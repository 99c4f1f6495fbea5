//! Credentials for registries, which an operator hands to every host at once.
//!
//! They are kept in memory and nowhere else: a host that was started again has those of its own flags and environment until
//! they are put anew. They are never logged, listed or told in an event; what is said of them is how many there were.

use trellis_protocol::control::{REFERENCE_BYTES_MAX, RegistryCredentials};

use super::{Answer, Asked, accepted, refused};

/// Longest name, password or token, in bytes. Tokens of registries have some KiB.
const CREDENTIAL_BYTES_MAX: usize = 32 * 1024;

/// Clients publish this without waiting; one that waits is told that it was taken.
pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let credentials: RegistryCredentials = asked.parse().inspect_err(|_| {
        // Nobody may be there to be told.
        tracing::warn!("credentials for registries were not understood");
    })?;
    check(&credentials).map_err(refused)?;
    let registries = credentials.0.len();
    asked.shared.put_registries(&credentials);
    tracing::info!(registries, "credentials for registries were put");
    Ok(accepted(""))
}

/// Refuses what is no credential of any registry: they are kept for as long as the host runs.
fn check(credentials: &RegistryCredentials) -> Result<(), String> {
    for (registry, credential) in &credentials.0 {
        let texts = [
            &credential.username,
            &credential.password,
            &credential.token,
        ];
        let is_long = |text: &String| text.len() > CREDENTIAL_BYTES_MAX;
        if registry.len() > REFERENCE_BYTES_MAX || texts.into_iter().flatten().any(is_long) {
            return Err(format!(
                "a registry's name has at most {REFERENCE_BYTES_MAX} bytes, its credentials {CREDENTIAL_BYTES_MAX} each"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_longest_credential_is_taken_and_one_byte_more_is_refused_without_being_shown() {
        let put = |registry: usize, password: usize| {
            let (registry, password) = ("r".repeat(registry), "sesame".repeat(password));
            let password = &password[..password.len().min(CREDENTIAL_BYTES_MAX + 1)];
            let body = serde_json::json!({registry: {"username": "u", "password": password}});
            check(&serde_json::from_value(body).unwrap())
        };
        assert_eq!(put(REFERENCE_BYTES_MAX, 1), Ok(()));
        assert!(put(REFERENCE_BYTES_MAX + 1, 1).is_err());
        assert_eq!(put(1, CREDENTIAL_BYTES_MAX / 6), Ok(()));
        let refused = put(1, CREDENTIAL_BYTES_MAX).unwrap_err();
        assert!(!refused.contains("sesame"), "{refused}");
    }
}
