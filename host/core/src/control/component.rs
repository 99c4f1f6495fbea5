//! Actors: who could run one, scaling (which starts and stops them), and replacing.

use std::sync::Arc;

use trellis_protocol::EntityId;
use trellis_protocol::control::{
    ComponentAuction, ComponentAuctionAck, Map, ScaleComponent, UpdateComponent,
};

use super::{Answer, Asked, accepted, answer, refused};
use crate::actor::ActorSettings;
use crate::artifact::component_file;
use crate::host::{MEMORY_LIMIT, OPERATOR_ID, OtherReference, Wanted};
use crate::limits::{COUNT_MAX, MEMORY_BYTES_MAX};

pub(super) fn auction(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let auction: ComponentAuction = asked.parse()?;
    let can_fetch = component_file(&auction.component_ref, asked.shared.allow_file).is_ok();
    if !can_fetch || !asked.is_eligible(&auction.constraints) {
        return Ok(Answer::Silence);
    }
    Ok(answer(ComponentAuctionAck {
        component_ref: auction.component_ref,
        component_id: auction.component_id,
        host_id: asked.shared.id.to_string(),
        constraints: auction.constraints,
    }))
}

/// Acknowledges, and puts the command into its id's queue. Only what can never succeed is refused at once.
pub(super) fn scale(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let command: ScaleComponent = asked.parse()?;
    asked.check_host(&command.host_id)?;
    let id = command.component_id;
    let reference = command.component_ref;
    if command.count > COUNT_MAX {
        return Err(refused(format!(
            "`count` is {}, at most {COUNT_MAX} are accepted",
            command.count
        )));
    }
    let (memory_bytes_max, mut notes) =
        limits(&command.component_limits.unwrap_or_default()).map_err(refused)?;
    if command.count > 0 {
        check_start(asked, &id, &reference)?;
        if let Some(running) = asked.shared.router.actor(&id)
            && running.reference != reference
            && !command.allow_update
        {
            notes.push(format!(
                "`{id}` keeps running `{}`; allow an update to replace it by `{reference}`",
                running.reference
            ));
        }
    }
    let wanted = Wanted {
        id: id.clone(),
        reference,
        settings: ActorSettings {
            count: command.count,
            config: command.config,
            annotations: command.annotations.unwrap_or_default(),
            memory_bytes_max,
        },
        was: None,
    };
    let other = if command.allow_update {
        OtherReference::Replaces
    } else {
        OtherReference::IsIgnored
    };
    let shared = Arc::clone(asked.shared);
    enqueue(asked, &id, async move { shared.scale(wanted, other).await })?;
    Ok(accepted(notes.join("; ")))
}

pub(super) fn update(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let command: UpdateComponent = asked.parse()?;
    asked.check_host(&command.host_id)?;
    let (id, reference) = (command.component_id, command.new_component_ref);
    let shared = asked.shared;
    // A command before this one may be about to start it.
    let note = match shared.router.actor(&id) {
        None if !shared.commands.is_busy(&id) => {
            return Err(refused(format!("`{id}` does not run on this host")));
        }
        // Not the end of it: its file may have been written anew, which is looked at in the command's turn.
        Some(running) if running.reference == reference => {
            format!("`{id}` runs `{reference}` already, and is replaced if the file has changed")
        }
        _ => String::new(),
    };
    check_start(asked, &id, &reference)?;
    let annotations = command.annotations;
    let (host, updated) = (Arc::clone(shared), id.clone());
    enqueue(asked, &id, async move {
        host.update(updated, reference, annotations).await;
    })?;
    Ok(accepted(note))
}

fn enqueue(
    asked: &Asked<'_>,
    id: &EntityId,
    job: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Answer> {
    asked
        .shared
        .commands
        .enqueue(id, job)
        .map_err(|full| refused(full.to_string()))
}

/// Refuses what no host of this configuration could ever start.
fn check_start(asked: &Asked<'_>, id: &EntityId, reference: &str) -> Result<(), Answer> {
    if id.as_str() == OPERATOR_ID {
        return Err(refused(format!(
            "the id `{OPERATOR_ID}` stands for operators who call actors; choose another id"
        )));
    }
    component_file(reference, asked.shared.allow_file)
        .map(drop)
        .map_err(|error| refused(error.to_string()))
}

/// The memory limit in bytes, and remarks about limits that this host does not know.
fn limits(limits: &Map) -> Result<(Option<usize>, Vec<String>), String> {
    let mut memory = None;
    let mut notes = Vec::new();
    for (key, value) in limits {
        if key != MEMORY_LIMIT {
            notes.push(format!(
                "the limit `{key}` is unknown here and has no effect"
            ));
            continue;
        }
        let bytes = value
            .parse()
            .ok()
            .filter(|bytes| (1..=MEMORY_BYTES_MAX).contains(bytes))
            .ok_or_else(|| {
                format!(
                    "the limit `{MEMORY_LIMIT}` is {value:?}; give a number of bytes from 1 to {MEMORY_BYTES_MAX}"
                )
            })?;
        memory = Some(bytes);
    }
    Ok((memory, notes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn memory(value: &str) -> Result<(Option<usize>, Vec<String>), String> {
        limits(&Map::from([(MEMORY_LIMIT.to_owned(), value.to_owned())]))
    }

    #[test]
    fn the_largest_memory_limit_is_accepted_and_one_byte_more_is_refused() {
        let most = MEMORY_BYTES_MAX.to_string();
        assert_eq!(memory(&most).unwrap().0, Some(MEMORY_BYTES_MAX));
        let more = (MEMORY_BYTES_MAX + 1).to_string();
        for value in [more.as_str(), "0", "-1", "", "64MiB"] {
            assert!(memory(value).unwrap_err().contains(MEMORY_LIMIT), "{value}");
        }
    }

    #[test]
    fn an_unknown_limit_is_named_and_has_no_effect() {
        let map = Map::from([("max_execution_time".to_owned(), "1".to_owned())]);
        let (memory, notes) = limits(&map).unwrap();
        assert_eq!(memory, None);
        assert!(notes[0].contains("max_execution_time"));
    }
}
