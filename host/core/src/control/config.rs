//! Named configurations of the lattice.

use std::sync::Arc;
use std::time::Duration;

use trellis_lattice::state::Bucket;
use trellis_protocol::control::Configuration;
use trellis_protocol::control::lattice::check_config_name;
use trellis_protocol::event::{ConfigChanged, EventData};

use super::{Answer, Asked, accepted, answer, later, refused};

/// How long an answer waits until this host's own copy has what was written.
pub(super) const APPLIED_WAIT: Duration = Duration::from_secs(1);

pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let name = name(asked)?;
    let config: Configuration = asked.parse()?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let revision = shared
            .state
            .put_config(&name, &config)
            .await
            .map_err(|error| error.to_string())?;
        shared
            .state
            .applied(Bucket::ConfigData, revision, APPLIED_WAIT)
            .await;
        shared
            .events
            .publish(&EventData::ConfigSet(ConfigChanged { config_name: name }));
        Ok(String::new())
    }))
}

pub(super) fn get(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let name = name(asked)?;
    Ok(match asked.shared.state.view().config(&name) {
        Some(config) => answer(&**config),
        None => accepted("Configuration not found"),
    })
}

pub(super) fn delete(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let name = name(asked)?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let revision = shared
            .state
            .delete_config(&name)
            .await
            .map_err(|error| error.to_string())?;
        shared
            .state
            .applied(Bucket::ConfigData, revision, APPLIED_WAIT)
            .await;
        shared
            .events
            .publish(&EventData::ConfigDeleted(ConfigChanged {
                config_name: name,
            }));
        Ok(String::new())
    }))
}

fn name(asked: &Asked<'_>) -> Result<String, Answer> {
    let name = asked.argument.unwrap_or_default();
    check_config_name(name).map_err(|reason| refused(format!("the subject {reason}")))?;
    Ok(name.to_owned())
}
