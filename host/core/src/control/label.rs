//! Labels of this host.

use trellis_protocol::control::{DeleteLabel, PutLabel};

use super::{Answer, Asked, accepted, refused};

pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let PutLabel { key, value } = asked.parse()?;
    Ok(change(asked, |labels| {
        labels.insert(key, value);
    }))
}

pub(super) fn delete(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let DeleteLabel { key } = asked.parse()?;
    Ok(change(asked, |labels| {
        labels.remove(&key);
    }))
}

fn change(
    asked: &Asked<'_>,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, String>),
) -> Answer {
    match asked.shared.change_labels(change) {
        Ok(()) => accepted(""),
        Err(error) => refused(format!("the labels stay as they are: {error}")),
    }
}
