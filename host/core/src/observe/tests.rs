#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::control::observe::Shown;
use trellis_protocol::{InvocationId, Lease, RefusalCode};

use super::tap::QUEUE_MAX;
use super::*;

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

fn invocation(source: &str, target: &str) -> Invocation {
    Invocation {
        id: InvocationId(7),
        source: id(source),
        target: id(target),
        operation: Operation::new("a:b/c", "d"),
        link: LinkName::default(),
        deadline: Instant::now() + Duration::from_secs(1),
        depth: 0,
        type_hash: 9,
        idempotent: false,
        lease: Lease {
            host: Arc::from("N"),
            instance: 1,
        },
        chain: Arc::default(),
        traceparent: None,
        cancel: CancellationToken::new(),
        // An array of one: the number 6.
        payload: Bytes::from_static(&[0x91, 6]),
    }
}

fn refused() -> Result<Bytes, Refusal> {
    Err(Refusal::new(RefusalCode::Overloaded, "full"))
}

#[test]
fn ids_that_come_and_go_are_forgotten_and_those_that_run_are_not() {
    let observe = Observe::default();
    let running: Vec<_> = (0..100)
        .map(|number| observe.of(&id(&format!("runs-{number}"))))
        .collect();
    for number in 0..20_000 {
        observe.of(&id(&format!("gone-{number}")));
        assert!(observe.lock().len() <= REMEMBERED_MAX);
    }
    for observed in &running {
        assert!(Arc::ptr_eq(observed, &observe.of(&observed.id)));
    }
}

#[test]
fn while_nobody_looks_nothing_is_copied_and_everything_is_counted() {
    let observe = Observe::default();
    let callee = observe.of(&id("callee"));
    let call = invocation("caller", "callee");
    assert!(observe.leaves(&call, None).is_none());
    assert!(callee.enters(&call, None).ended(refused()).is_err());
    let answered = callee.enters(&call, None).ended(Ok(Bytes::new()));
    assert!(answered.is_ok());
    drop(callee.enters(&call, None));
    let read = callee.calls.read();
    assert_eq!(read.invocations, 3);
    assert_eq!(
        read.refusals,
        BTreeMap::from([("overloaded".to_owned(), 1), ("cancelled".to_owned(), 1)])
    );
    assert_eq!(callee.calls.in_flight(), 0);
    // The caller met one of them; nobody knows it here, so it counts for the host.
    observe.returned(&id("caller"), None, &refused());
    assert_eq!(
        observe.unassigned(),
        BTreeMap::from([("overloaded".to_owned(), 1)])
    );
}

#[tokio::test]
async fn a_spy_sees_its_own_direction_and_a_caller_that_leaves() {
    let observe = Observe::default();
    let actor = observe.of(&id("actor"));
    let mut incoming = observe.spy(&actor.id, Some(Direction::In), false).unwrap();
    let mut heads = observe.spy(&actor.id, None, true).unwrap();

    let out = observe.leaves(&invocation("actor", "other"), None);
    // Nobody wants what it says, so that is not even copied.
    assert!(out.is_some());
    observe.returned(&actor.id, out, &refused());
    drop(actor.enters(&invocation("caller", "actor"), None));

    let seen = incoming.next().await.unwrap();
    assert_eq!(seen.direction, Direction::In);
    let record = shown::record(&seen, None, &Arc::from("N"), 0);
    assert_eq!(record.outcome, "cancelled");
    assert_eq!(record.request, Some(Shown::Untyped(serde_json::json!([6]))));
    assert_eq!(incoming.waiting(), 0);

    let first = heads.next().await.unwrap();
    assert_eq!(first.direction, Direction::Out);
    let record = shown::record(&first, None, &Arc::from("N"), 0);
    assert_eq!(
        (record.outcome.as_str(), record.request),
        ("overloaded", None)
    );
    let second = heads.next().await.unwrap();
    assert!(second.request.is_none() && second.response.is_none());
}

#[tokio::test]
async fn a_spy_that_does_not_read_costs_a_queue_and_is_told_what_it_missed() {
    let observe = Observe::default();
    let actor = observe.of(&id("actor"));
    let mut spy = observe.spy(&actor.id, None, false).unwrap();
    let calls = QUEUE_MAX as u64 + 50;
    for _ in 0..calls {
        let visit = actor.enters(&invocation("caller", "actor"), None);
        let answered = visit.ended(Ok(Bytes::from(vec![0; 1024 * 1024])));
        assert!(answered.is_ok());
    }
    assert_eq!((spy.waiting(), spy.newly_dropped()), (QUEUE_MAX as u64, 50));
    assert_eq!(spy.newly_dropped(), 0);
    let seen = spy.next().await.unwrap();
    let record = shown::record(&seen, None, &Arc::from("N"), 0);
    // A megabyte is not held for a spy.
    assert_eq!(record.response, Some(Shown::Opaque { bytes: 1024 * 1024 }));
    drop(spy);
    assert!(
        observe
            .leaves(&invocation("actor", "other"), None)
            .is_none()
    );
}

#[test]
fn a_call_without_a_way_is_seen_though_it_never_was_an_invocation() {
    let observe = Observe::default();
    let actor = observe.of(&id("actor"));
    let mut spy = observe.spy(&actor.id, None, false).unwrap();
    let refusal = Refusal::new(RefusalCode::NoLink, "no link");
    let interface = Arc::from("wasi:keyvalue/store");
    observe.no_way(&actor.id, &LinkName::default(), &interface, &refusal);
    assert_eq!(spy.waiting(), 1);
    assert_eq!(
        actor.met.read(),
        BTreeMap::from([("no-link".to_owned(), 1)])
    );
    assert_eq!(spy.newly_dropped(), 0);
}

#[test]
fn outcomes_of_fetches_are_a_bounded_set() {
    let observe = Observe::default();
    observe.artifact_fetched("ok");
    for number in 0..1_000 {
        observe.artifact_fetched(Box::leak(format!("code-{number}").into_boxed_str()));
    }
    observe.artifact_fetched("ok");
    let fetches = observe.fetches.lock().unwrap();
    assert_eq!((fetches.len(), fetches["ok"]), (FETCH_OUTCOMES_MAX, 2));
}
