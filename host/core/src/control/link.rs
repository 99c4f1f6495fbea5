//! Links: who may call whom.
//!
//! A link outside the claims of an actor that is known (it runs here, or the state holds its token) is refused at once.
//! For one that is not known it is stored, and judged with every call; until then each is refused (D1).

use std::sync::Arc;

use trellis_claims::{ActorClaims, ActorToken, UnixTime};
use trellis_lattice::state::Bucket;
use trellis_protocol::control::DeleteLink;
use trellis_protocol::event::{EventData, LinkDeleted, LinkSetFailed};
use trellis_protocol::{EntityId, Link};

use super::config::APPLIED_WAIT;
use super::{Answer, Asked, answer, later};
use crate::actor::grants::export_needs_grant;
use crate::host::Shared;

pub(super) fn list(asked: &Asked<'_>) -> Answer {
    let view = asked.shared.state.view();
    let links: Vec<&Link> = view.links().map(|link| &**link).collect();
    answer(links)
}

pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let link: Link = asked.parse()?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let written = match check_claims(&shared, &link) {
            Ok(()) => shared
                .state
                .put_link(&link)
                .await
                .map_err(|error| ("link-refused", error.to_string())),
            Err(outside) => Err(("grant-missing", outside)),
        };
        match written {
            Ok(revision) => {
                shared
                    .state
                    .applied(Bucket::LatticeData, revision, APPLIED_WAIT)
                    .await;
                shared.events.publish(&EventData::LinkSet(link));
                Ok(String::new())
            }
            Err((code, error)) => {
                shared
                    .events
                    .publish(&EventData::LinkSetFailed(LinkSetFailed {
                        link,
                        error: error.clone(),
                        code: Some(code.to_owned()),
                    }));
                Err(error)
            }
        }
    }))
}

/// Deleting a link that is not there succeeds, and is told like any other.
pub(super) fn delete(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let key: DeleteLink = asked.parse()?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let deleted = shared
            .state
            .delete_link(&key)
            .await
            .map_err(|error| error.to_string())?;
        shared
            .state
            .applied(Bucket::LatticeData, deleted.revision, APPLIED_WAIT)
            .await;
        let first = deleted.links.first();
        shared.events.publish(&EventData::LinkDeleted(LinkDeleted {
            key,
            target: first.map(|link| link.target.to_string()),
            interfaces: first.map(|link| link.interfaces.clone()),
        }));
        Ok(String::new())
    }))
}

/// Holds a link against the claims at both ends.
fn check_claims(shared: &Shared, link: &Link) -> Result<(), String> {
    let source = known_claims(shared, &link.source_id);
    let target = known_claims(shared, &link.target);
    for text in link.interface_names() {
        let name = text
            .parse()
            .map_err(|error| format!("`{text}` names no interface: {error}"))?;
        let ends = [
            (&link.source_id, &source, true, "call"),
            (
                &link.target,
                &target,
                export_needs_grant(&name),
                "be called by",
            ),
        ];
        for (id, claims, needs_grant, what) in ends {
            if let Some(claims) = claims
                && needs_grant
                && !claims.capabilities.grants(&name)
            {
                return Err(format!(
                    "the claims of `{id}` do not allow it to {what} `{text}`; sign it with `--cap {text}` and start it anew"
                ));
            }
        }
    }
    Ok(())
}

fn known_claims(shared: &Shared, id: &EntityId) -> Option<ActorClaims> {
    if let Some(actor) = shared.router.actor(id) {
        return Some(actor.claims().clone());
    }
    let view = shared.state.view();
    // A token that is not believed says nothing about what will run.
    ActorToken::verify(view.token(id)?, &shared.trust, UnixTime::now()).ok()
}
