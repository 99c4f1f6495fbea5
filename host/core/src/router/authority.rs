//! May this source call this interface over this link? Decided from this host's own copy of the state, on both ends of a
//! call, and never from what a caller says about itself.
//!
//! Three things must agree: the claims of the source grant the interface, an operator's link leads from it to the target,
//! and, where outsiders call an actor (HTTP, messages), the actor's own claims grant that. What is decided holds until the
//! state changes or a claim runs out.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use trellis_claims::{ActorClaims, ActorToken, InterfaceName, TrustRoots, UnixTime};
use trellis_lattice::state::StateView;
use trellis_protocol::{EntityId, LinkName, Refusal, RefusalCode};

use super::Router;
use crate::actor::grants::export_needs_grant;

/// Decisions that are kept. A source that names endless interfaces or links only ever fills this.
const DECISIONS_MAX: usize = 10_000;

/// What was decided about a source, a link and an interface.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    /// Whom the link leads to.
    pub(super) target: EntityId,
    /// The last second for which the claims that it rests on hold.
    valid_until: Option<UnixTime>,
}

/// Decides, and remembers.
#[derive(Debug)]
pub(super) struct Authority {
    trust: Arc<TrustRoots>,
    decided: RwLock<Decided>,
}

type Question = (EntityId, LinkName, Arc<str>);

#[derive(Debug, Default)]
struct Decided {
    generation: u64,
    /// How often everything was forgotten. What was judged before the last time must not be kept after it.
    forgotten: u64,
    decisions: HashMap<Question, Arc<Decision>>,
}

impl Authority {
    pub(super) fn new(trust: Arc<TrustRoots>) -> Self {
        Self {
            trust,
            decided: RwLock::default(),
        }
    }

    /// Forgets everything: an actor or provider came or went.
    pub(super) fn forget(&self) {
        let mut decided = self.decided.write().unwrap_or_else(PoisonError::into_inner);
        decided.forgotten += 1;
        decided.decisions.clear();
    }

    /// # Errors
    /// `no-link`, `not-granted`, or `unknown-operation` for a text that names no interface.
    pub(super) fn decide(
        &self,
        router: &Router,
        source: &EntityId,
        link: &LinkName,
        interface: &Arc<str>,
    ) -> Result<Arc<Decision>, Refusal> {
        let view = router.state.view();
        let now = UnixTime::now();
        let question = (source.clone(), link.clone(), Arc::clone(interface));
        let forgotten = {
            let decided = self.decided.read().unwrap_or_else(PoisonError::into_inner);
            if decided.generation == view.generation()
                && let Some(decision) = decided.decisions.get(&question)
                && decision.valid_until.is_none_or(|until| now <= until)
            {
                return Ok(Arc::clone(decision));
            }
            decided.forgotten
        };
        // Refusals are not kept: they are rare, and whoever mends their cause should not have to wait.
        let decision = Arc::new(self.judge(router, &view, source, link, interface, now)?);
        let mut decided = self.decided.write().unwrap_or_else(PoisonError::into_inner);
        if decided.forgotten != forgotten {
            return Ok(decision);
        }
        if decided.generation != view.generation() || decided.decisions.len() >= DECISIONS_MAX {
            decided.generation = view.generation();
            decided.decisions.clear();
        }
        decided.decisions.insert(question, Arc::clone(&decision));
        Ok(decision)
    }

    fn judge(
        &self,
        router: &Router,
        view: &StateView,
        source: &EntityId,
        link: &LinkName,
        interface: &str,
        now: UnixTime,
    ) -> Result<Decision, Refusal> {
        let name: InterfaceName = interface.parse().map_err(|error| {
            Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{interface}` names no interface: {error}"),
            )
        })?;
        let caller = self.claims(router, view, source, now)?;
        if let Some(claims) = &caller
            && !claims.capabilities.grants(&name)
        {
            return Err(not_granted(source, &name, "call"));
        }
        let Some(link) = view.link_for(source, link, &name) else {
            return Err(no_link(source, link, &name));
        };
        let callee = self.claims(router, view, &link.target, now)?;
        if let Some(claims) = &callee
            && export_needs_grant(&name)
            && !claims.capabilities.grants(&name)
        {
            return Err(not_granted(&link.target, &name, "be called by"));
        }
        Ok(Decision {
            target: link.target.clone(),
            valid_until: [caller, callee]
                .iter()
                .flatten()
                .map(|claims| claims.valid_until())
                .min(),
        })
    }

    /// The verified claims of an actor, here or elsewhere; `None` for an id that no actor has.
    fn claims(
        &self,
        router: &Router,
        view: &StateView,
        id: &EntityId,
        now: UnixTime,
    ) -> Result<Option<ActorClaims>, Refusal> {
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::new(
                RefusalCode::NotGranted,
                format!("the claims of `{id}` are not believed: {error}"),
            )
            .with_remedy("sign it again and start it anew")
        };
        if let Some(actor) = router.actor(id) {
            let claims = actor.claims().clone();
            claims.check_time(now).map_err(|error| refused(&error))?;
            return Ok(Some(claims));
        }
        if router.provider(id).is_some() {
            return Ok(None);
        }
        view.token(id)
            .map(|token| ActorToken::verify(token, &self.trust, now))
            .transpose()
            .map_err(|error| refused(&error))
    }
}

fn no_link(source: &EntityId, link: &LinkName, interface: &InterfaceName) -> Refusal {
    Refusal::new(
        RefusalCode::NoLink,
        format!("no link `{link}` leads from `{source}` to a target for `{interface}`"),
    )
    .with_remedy(format!(
        "`wash link put {source} <target> {} {} --interface {}{}` makes one",
        interface.namespace(),
        interface.package(),
        interface.interface(),
        if link.as_str() == LinkName::DEFAULT {
            String::new()
        } else {
            format!(" --link-name {link}")
        }
    ))
}

fn not_granted(id: &EntityId, interface: &InterfaceName, what: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NotGranted,
        format!("the claims of `{id}` do not allow it to {what} `{interface}`"),
    )
    .with_remedy(format!(
        "sign it with `--cap {}` and start it anew",
        interface.without_version()
    ))
}
