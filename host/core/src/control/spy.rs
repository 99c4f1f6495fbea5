//! Invocations of an actor or provider as they end: `wash spy`.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use trellis_protocol::control::SpyComponent;
use trellis_protocol::control::observe::{SPY_INTERFACE, WITHIN_MAX};
use trellis_protocol::shape::FunctionShape;
use trellis_protocol::{EntityId, Refusal, RefusalCode};

use super::watch::{Sender, check_leave, not_here, series, within};
use super::{Answer, Asked, refused};
use crate::host::{HostInner, OPERATOR_ID};
use crate::observe::shown::record;
use crate::observe::tap::{Sighting, TAPS_MAX, TapReader};
use crate::router::Router;

/// Functions whose types one spy keeps at hand.
const SHAPES_MAX: usize = 64;

pub(super) fn spy(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let request: SpyComponent = asked.parse()?;
    let id = &request.component_id;
    let shared = Arc::clone(asked.shared);
    let tap = open(&shared, &request).map_err(|refusal| {
        tracing::warn!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %id, %refusal, "an operator was not let spy");
        refused(refusal.to_string())
    })?;
    let within = within(request.within_ms, WITHIN_MAX);
    tracing::info!(host_id = %shared.id, source_id = OPERATOR_ID, target_id = %id, within_ms = within.as_millis(), "an operator spies on an actor or provider");
    let accepted = format!(
        "the invocations of `{id}` on this host for {} s",
        within.as_secs_f32()
    );
    let until = Instant::now() + within;
    let router = Arc::clone(&shared.router);
    Ok(series(&shared.guests, accepted, move |sender| {
        tell(router, tap, sender, until)
    }))
}

fn open(shared: &HostInner, request: &SpyComponent) -> Result<TapReader, Refusal> {
    let id = &request.component_id;
    check_leave(shared, id, SPY_INTERFACE)?;
    let router = &shared.router;
    if router.actor(id).is_none() && router.provider(id).is_none() {
        return Err(not_here(shared, id));
    }
    let tap = router
        .observe()
        .spy(id, request.direction, request.heads_only);
    tap.ok_or_else(|| {
        Refusal::new(
            RefusalCode::Overloaded,
            format!("{TAPS_MAX} spies are at work on this host already"),
        )
        .with_remedy("wait for one of them to end, a minute at most")
    })
}

async fn tell(router: Arc<Router>, mut tap: TapReader, mut sender: Sender, until: Instant) {
    let mut shapes = Shapes::default();
    // Of a record that is under way when the time is over nobody hears, nor of those that wait behind it.
    let mut unsaid = 0;
    let telling = async {
        while let Some(sighting) = tap.next().await {
            let shape = shapes.of(&router, &sighting);
            let dropped = tap.newly_dropped();
            unsaid = dropped + 1;
            let record = record(&sighting, shape.as_deref(), router.host(), dropped);
            if !sender.record(record).await {
                break;
            }
            unsaid = 0;
        }
    };
    let _ = tokio::time::timeout_at(until, telling).await;
    let dropped = unsaid + tap.newly_dropped() + tap.waiting();
    sender.end(dropped).await;
}

/// The types of functions, as far as this host knows them.
#[derive(Default)]
struct Shapes(HashMap<Function, Option<Arc<FunctionShape>>>);

/// A callee, an interface and a function of it.
type Function = (EntityId, Arc<str>, Arc<str>);

impl Shapes {
    /// By the callee's export where it is an actor of this host, else by the caller's import.
    fn of(&mut self, router: &Router, sighting: &Sighting) -> Option<Arc<FunctionShape>> {
        let (interface, function) = sighting.function()?;
        let (source, target) = sighting.ends()?;
        let key = (target.clone(), Arc::clone(interface), Arc::clone(function));
        if let Some(known) = self.0.get(&key)
            && known
                .as_ref()
                .is_some_and(|shape| shape.type_hash() == sighting.type_hash())
        {
            return known.clone();
        }
        let exported = router
            .actor(target)
            .and_then(|actor| actor.shape_of(interface, function));
        let shape = exported.or_else(|| {
            let actor = router.actor(source)?;
            actor.import_shape(interface, function).map(Arc::new)
        });
        if self.0.len() >= SHAPES_MAX {
            self.0.clear();
        }
        self.0.insert(key, shape.clone());
        shape
    }
}
