//! Providers: who could run one, starting and stopping.

use std::sync::Arc;

use tokio::sync::oneshot;
use trellis_protocol::control::{ProviderAuction, ProviderAuctionAck, StartProvider, StopProvider};

use super::{Answer, Asked, accepted, answer, later, refused};
use crate::host::{OPERATOR_ID, Purpose, WantedProvider};

pub(super) fn auction(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let auction: ProviderAuction = asked.parse()?;
    let shared = asked.shared;
    if shared.provider_place(&auction.provider_ref).is_err()
        || shared.router.provider(&auction.provider_id).is_some()
        || !asked.is_eligible(&auction.constraints)
    {
        return Ok(Answer::Silence);
    }
    Ok(answer(ProviderAuctionAck {
        host_id: shared.id.to_string(),
        provider_ref: auction.provider_ref,
        provider_id: auction.provider_id,
        constraints: auction.constraints,
    }))
}

pub(super) fn start(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let command: StartProvider = asked.parse()?;
    asked.check_host(&command.host_id)?;
    let shared = asked.shared;
    let id = command.provider_id;
    if id.as_str() == OPERATOR_ID {
        return Err(refused(format!(
            "the id `{OPERATOR_ID}` stands for operators who call actors; choose another id"
        )));
    }
    // A command before this one may be about to stop it.
    let running = shared.router.provider(&id);
    if running.is_some_and(|running| !running.has_failed()) && !shared.commands.is_busy(&id) {
        return Err(refused(format!("`{id}` runs on this host already")));
    }
    shared
        .provider_place(&command.provider_ref)
        .map_err(|error| refused(error.to_string()))?;
    let wanted = WantedProvider {
        id: id.clone(),
        reference: command.provider_ref,
        config: command.config,
        annotations: Asked::annotations(command.annotations)?,
        was: None,
    };
    let host = Arc::clone(shared);
    shared
        .commands
        .enqueue(&id, wanted.purpose(), |moot| async move {
            host.start_provider(wanted, moot).await;
        })
        .map_err(|full| refused(full.to_string()))?;
    Ok(accepted(""))
}

/// Answered once the provider has shut down. One that is only being fetched is given up, which is as good.
pub(super) fn stop(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let command: StopProvider = asked.parse()?;
    asked.check_host(&command.host_id)?;
    let id = command.provider_id;
    let (done, stopped) = oneshot::channel();
    let (host, stopping) = (Arc::clone(asked.shared), id.clone());
    let purpose = Purpose::Stop { scaler: None };
    let given_up = asked
        .shared
        .commands
        .enqueue(&id, purpose, |_| async move {
            // Whoever asked may have stopped waiting.
            let _ = done.send(host.stop_provider(&stopping).await);
        })
        .map_err(|full| refused(full.to_string()))?;
    Ok(later(async move {
        match stopped.await {
            Ok(true) => Ok(String::new()),
            Ok(false) if given_up > 0 => Ok(format!("`{id}` was stopped before it had started")),
            Ok(false) => Err(format!("no provider `{id}` runs on this host")),
            Err(_) => Err(format!(
                "the host could not stop `{id}`: it is shutting down"
            )),
        }
    }))
}
