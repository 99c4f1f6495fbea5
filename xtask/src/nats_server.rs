//! The nats-server that tests and the demo run.

use anyhow::{Context as _, Result};
use trellis_nats_server::{FetchError, LocateError, NatsServer, cache_dir, explicit_path, locate};

use crate::project::Project;
use crate::step;

/// Finds one, or fetches one into the user's cache, or into our target directory where that can't be written.
pub(crate) fn ensure(project: &Project) -> Result<NatsServer> {
    let explicit = explicit_path();
    let ours = project.tools();
    let Ok(users) = cache_dir() else {
        return locate(explicit.as_deref(), &ours).context("no nats-server to test with");
    };
    match locate(explicit.as_deref(), &users) {
        Err(LocateError::NotFound {
            source: FetchError::Cache { path, .. },
            ..
        }) => {
            step::note(&format!(
                "{} can't be written: using {}",
                path.display(),
                ours.display()
            ));
            locate(explicit.as_deref(), &ours)
        }
        found => found,
    }
    .context("no nats-server to test with")
}
