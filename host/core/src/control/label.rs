//! Labels of this host.
//!
//! They are the host's for as long as it runs: a host that is started again has the labels of its flags and environment,
//! as the interface's other hosts do. What decides about placement then stands in one place, where it can be read.

use std::collections::BTreeMap;

use trellis_protocol::control::{DeleteLabel, PutLabel};

use super::{Answer, Asked, accepted, refused};

pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let PutLabel { key, value } = asked.parse()?;
    Ok(change(asked, |labels| {
        labels.insert(key, value);
    }))
}

/// Deleting one that is not there succeeds, and changes nothing that would have to be told.
pub(super) fn delete(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let DeleteLabel { key } = asked.parse()?;
    if !asked.shared.labels().contains_key(&key) {
        return Ok(accepted(format!("there is no label `{key}`")));
    }
    Ok(change(asked, |labels| {
        labels.remove(&key);
    }))
}

fn change(asked: &Asked<'_>, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Answer {
    match asked.shared.change_labels(change) {
        Ok(()) => accepted(""),
        Err(error) => refused(format!("the labels stay as they are: {error}")),
    }
}
