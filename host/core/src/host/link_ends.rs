//! How far the links of this host are, end by end: what `wash get links` shows, and what a put link is held against.

use std::sync::Arc;

use trellis_claims::{ActorClaims, InterfaceName, UnixTime};
use trellis_lattice::state::StateView;
use trellis_protocol::control::delivery::{End, EndKind, EndState, LinkEnd};
use trellis_protocol::{EntityId, Link};

use super::inner::HostInner;
use crate::actor::grants::export_needs_grant;
use crate::provider::link_ends;

/// What stands against a link that this host does not believe.
const NOT_BELIEVED: &str = "this host insists on signed links, and the link has no signature that it trusts; put it again with a key of a trusted account";

impl HostInner {
    /// Every end of a link at which an actor or provider of this host stands, in order.
    pub(crate) fn link_ends(&self) -> Vec<LinkEnd> {
        let view = self.state.view();
        let mut ends = Vec::new();
        for provider in self.router.providers() {
            ends.extend(link_ends(&view, &provider));
        }
        for actor in self.router.actors() {
            let as_source = view.links_from(&actor.id).iter();
            let as_target = view.links_to(&actor.id).iter();
            let all = as_source
                .map(|link| (link, End::Source))
                .chain(as_target.map(|link| (link, End::Target)));
            ends.extend(all.map(|(link, end)| actor_end(&actor.id, actor.claims(), link, end)));
        }
        for link in view.stored_links().map(|stored| &stored.link) {
            ends.extend(self.disbelieved_ends(&view, link));
        }
        ends.sort_by(|a, b| (&a.key, &a.target, a.end).cmp(&(&b.key, &b.target, b.end)));
        ends
    }
}

impl HostInner {
    /// The ends here of a link that is stored and takes no effect, because this host insists on signatures.
    fn disbelieved_ends(&self, view: &StateView, link: &Arc<Link>) -> Vec<LinkEnd> {
        let kind = |id: &EntityId| {
            let actor = self.router.actor(id).map(|_| EndKind::Component);
            actor.or_else(|| self.router.provider(id).map(|_| EndKind::Provider))
        };
        let ends = [(End::Source, &link.source_id), (End::Target, &link.target)];
        let mut here = ends
            .into_iter()
            .filter_map(|(end, id)| Some((end, kind(id)?)))
            .peekable();
        let takes_effect = |other: &Arc<Link>| Arc::ptr_eq(other, link);
        if here.peek().is_none() || view.links_from(&link.source_id).iter().any(takes_effect) {
            return Vec::new();
        }
        here.map(|(end, kind)| LinkEnd {
            key: link.key(),
            target: link.target.clone(),
            end,
            kind,
            state: EndState::Failed,
            error: Some(NOT_BELIEVED.to_owned()),
            generation: 0,
        })
        .collect()
    }
}

/// An actor is told nothing: its host decides with each call, by the state and the claims. So a link is in effect as soon as
/// it is in the host's copy of the state, unless the claims stand against it.
fn actor_end(id: &EntityId, claims: &ActorClaims, link: &Link, end: End) -> LinkEnd {
    let error = if UnixTime::now() > claims.valid_until() {
        Some(format!("the claims of `{id}` are no longer valid"))
    } else {
        outside_claims(claims, link, end)
    };
    LinkEnd {
        key: link.key(),
        target: link.target.clone(),
        end,
        kind: EndKind::Component,
        state: if error.is_none() {
            EndState::Applied
        } else {
            EndState::Failed
        },
        error,
        generation: 0,
    }
}

/// Why a link is outside the claims of the actor at one of its ends, with what would help.
pub(crate) fn outside_claims(claims: &ActorClaims, link: &Link, end: End) -> Option<String> {
    let (id, what) = match end {
        End::Source => (&link.source_id, "call"),
        End::Target => (&link.target, "be called by"),
    };
    link.interface_names().find_map(|text| {
        let name: InterfaceName = match text.parse() {
            Ok(name) => name,
            Err(error) => return Some(format!("`{text}` names no interface: {error}")),
        };
        let needs_grant = end == End::Source || export_needs_grant(&name);
        (needs_grant && !claims.capabilities.grants(&name)).then(|| {
            format!(
                "the claims of `{id}` do not allow it to {what} `{text}`; sign it with `--cap {text}` and start it anew"
            )
        })
    })
}
