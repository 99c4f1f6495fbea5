//! Links: who may call whom.
//!
//! A link outside the claims of an actor that is known (it runs here, or the state holds its token) is refused at once.
//! For one that is not known it is stored, and judged with every call; until then each is refused (D1). What a link is signed
//! with is judged before it is stored, and again by every host that insists on it: see [`super::proof`].

use std::sync::Arc;

use trellis_claims::{ActorClaims, ActorToken, UnixTime};
use trellis_lattice::state::Bucket;
use trellis_protocol::control::delivery::End;
use trellis_protocol::control::{Envelope, ListedLink, SignedDeletion, SignedLink};
use trellis_protocol::event::{EventData, LinkDeleted, LinkSetFailed};
use trellis_protocol::{EntityId, Link};

use super::config::{APPLIED_WAIT, CAUGHT_UP_WAIT};
use super::{Answer, Asked, later, refused};
use crate::host::{HostInner, outside_claims};

pub(super) fn list(asked: &Asked<'_>) -> Answer {
    let shared = Arc::clone(asked.shared);
    // Judging signatures takes its time where there are many.
    Answer::Later(Box::pin(async move {
        let state = &shared.state;
        state.caught_up(Bucket::LatticeData, CAUGHT_UP_WAIT).await;
        let (view, trust) = (shared.state.view(), shared.signatures.links());
        let listed = view.stored_links().map(|stored| ListedLink {
            link: Link::clone(&stored.link),
            signed: Some(trust.is_signed(stored)),
        });
        Envelope::answer(listed.collect::<Vec<_>>()).to_bytes()
    }))
}

pub(super) fn put(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let signed: SignedLink = asked.parse()?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let believed = shared.signatures.links().check_put(&signed);
        let written = match (believed, check_claims(&shared, &signed.link)) {
            (Err(refusal), _) => Err((refusal.code, refusal.to_string())),
            (_, Err(outside)) => Err(("grant-missing", outside)),
            (Ok(()), Ok(())) => shared
                .state
                .put_signed_link(&signed)
                .await
                .map_err(|error| ("link-refused", error.to_string())),
        };
        let link = signed.link;
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
    let signed: SignedDeletion = asked.parse()?;
    let believed = asked.shared.signatures.links().check_deletion(&signed);
    believed.map_err(|refusal| refused(refusal.to_string()))?;
    let shared = Arc::clone(asked.shared);
    Ok(later(async move {
        let deleted = shared
            .state
            .delete_signed_link(&signed)
            .await
            .map_err(|error| error.to_string())?;
        shared
            .state
            .applied(Bucket::LatticeData, deleted.revision, APPLIED_WAIT)
            .await;
        let first = deleted.links.first();
        shared.events.publish(&EventData::LinkDeleted(LinkDeleted {
            key: signed.key,
            target: first.map(|link| link.target.to_string()),
            interfaces: first.map(|link| link.interfaces.clone()),
        }));
        Ok(String::new())
    }))
}

/// Holds a link against the claims at both ends.
fn check_claims(shared: &HostInner, link: &Link) -> Result<(), String> {
    for (id, end) in [(&link.source_id, End::Source), (&link.target, End::Target)] {
        let outside =
            known_claims(shared, id).and_then(|claims| outside_claims(&claims, link, end));
        if let Some(reason) = outside {
            return Err(reason);
        }
    }
    Ok(())
}

fn known_claims(shared: &HostInner, id: &EntityId) -> Option<ActorClaims> {
    if let Some(actor) = shared.router.actor(id) {
        return Some(actor.claims().clone());
    }
    let view = shared.state.view();
    // A token that is not believed says nothing about what will run.
    ActorToken::verify(view.token(id)?, &shared.trust, UnixTime::now()).ok()
}
