//! Actors: who could run one, scaling (which starts and stops them), and replacing.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use trellis_protocol::EntityId;
use trellis_protocol::control::{
    ComponentAuction, ComponentAuctionAck, ScaleComponent, UpdateComponent,
};

use super::{Answer, Asked, accepted, answer, refused};
use crate::actor::ComponentLimits;
use crate::host::{OPERATOR_ID, OtherReference, Purpose, Wanted};
use crate::limits::COUNT_MAX;

pub(super) fn auction(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let auction: ComponentAuction = asked.parse()?;
    let can_fetch = asked.shared.reference(&auction.component_ref).is_ok();
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
    let limits = command.component_limits.as_ref();
    let limits = limits.map(ComponentLimits::read).transpose();
    let (limits, mut notes) = match limits.map_err(refused)? {
        Some((limits, notes)) => (Some(limits), notes),
        None => (None, Vec::new()),
    };
    let wanted = Wanted {
        id: id.clone(),
        reference,
        count: command.count,
        config: command.config,
        annotations: Asked::annotations(command.annotations)?,
        limits,
        was: None,
    };
    let other = if command.allow_update {
        OtherReference::MayReplace
    } else {
        OtherReference::IsIgnored
    };
    if wanted.count > 0 {
        check_start(asked, &id, &wanted.reference)?;
        notes.extend(
            asked
                .shared
                .router
                .actor(&id)
                .and_then(|running| wanted.passed_over(&running, other)),
        );
    }
    let (shared, arrived) = (Arc::clone(asked.shared), Instant::now());
    enqueue(asked, &id, wanted.purpose(other), |moot| async move {
        shared.scale(wanted, other, arrived, moot).await;
    })?;
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
            format!(
                "`{id}` runs `{reference}` already, and is replaced if that leads to something else by now"
            )
        }
        _ => String::new(),
    };
    check_start(asked, &id, &reference)?;
    let annotations = Some(Asked::annotations(command.annotations)?);
    let purpose = Purpose::Run {
        reference: reference.clone(),
        scaler: None,
        replaces: true,
    };
    let (host, updated) = (Arc::clone(shared), id.clone());
    enqueue(asked, &id, purpose, |moot| async move {
        host.update(updated, reference, annotations, moot).await;
    })?;
    Ok(accepted(note))
}

fn enqueue<F>(
    asked: &Asked<'_>,
    id: &EntityId,
    purpose: Purpose,
    job: impl FnOnce(CancellationToken) -> F,
) -> Result<(), Answer>
where
    F: Future<Output = ()> + Send + 'static,
{
    asked
        .shared
        .commands
        .enqueue(id, purpose, job)
        .map(drop)
        .map_err(|full| refused(full.to_string()))
}

/// Refuses what no host of this configuration could ever start.
fn check_start(asked: &Asked<'_>, id: &EntityId, reference: &str) -> Result<(), Answer> {
    if id.as_str() == OPERATOR_ID {
        return Err(refused(format!(
            "the id `{OPERATOR_ID}` stands for operators who call actors; choose another id"
        )));
    }
    asked
        .shared
        .reference(reference)
        .map(drop)
        .map_err(|error| refused(error.to_string()))
}
