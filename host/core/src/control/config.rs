//! Named configurations of the lattice.
//!
//! References to secrets are put, got and deleted like them, by names that begin with `SECRET_`; that is how other tools
//! write them. No link or command gets what such a reference leads to here.

use std::sync::Arc;
use std::time::Duration;

use trellis_lattice::state::Bucket;
use trellis_protocol::control::lattice::check_config_name;
use trellis_protocol::control::{Ack, Configuration, Envelope};
use trellis_protocol::event::{ConfigChanged, EventData};

use super::{Answer, Asked, later, refused};

/// How long an answer from this host's own copy waits until that has what other hosts have acknowledged: whoever puts
/// something and gets it a moment later may meet two hosts. Beyond it the copy answers as it is.
pub(super) const CAUGHT_UP_WAIT: Duration = Duration::from_millis(500);

/// What clients of the interface know a missing configuration by: this message, and success.
const NOT_FOUND: &str = "Configuration not found";

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
    let shared = Arc::clone(asked.shared);
    Ok(Answer::Later(Box::pin(async move {
        let state = &shared.state;
        state.caught_up(Bucket::ConfigData, CAUGHT_UP_WAIT).await;
        let view = state.view();
        let config = view.config(&name).or_else(|| view.secret_reference(&name));
        match config {
            Some(config) => Envelope::answer(&**config).to_bytes(),
            None => Ack::accepted(NOT_FOUND).to_bytes(),
        }
    })))
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
