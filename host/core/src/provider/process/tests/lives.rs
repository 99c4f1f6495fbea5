//! Starting, serving, dying, coming back, being given up, being stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, LinkName, Operation, RefusalCode};
use trellis_provider_sdk::{Health, Link, LinkEnd, LinkError, Provider as _};

use super::super::super::running::RunningProvider;
use super::super::super::table::{End, LinkPlace, WantedLink};
use super::super::supervisor::{Phase, Supervised};
use super::fixture::{SOON, Workshop, ask, call, kill, phase, runs, soon};
use super::provider::script;
use crate::invocation::Invocation;

fn link(refuse: Option<&str>) -> Link {
    Link {
        key: LinkKey {
            source_id: EntityId::new("actor").unwrap(),
            name: LinkName::default(),
            wit_namespace: "test".to_owned(),
            wit_package: "provider".to_owned(),
        },
        target: EntityId::new("p").unwrap(),
        interfaces: vec!["test:provider/probe".to_owned()],
        end: LinkEnd::Target,
        config: refuse
            .map(|reason| BTreeMap::from([("refuse".to_owned(), reason.to_owned())]))
            .unwrap_or_default(),
        generation: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_process_serves_like_one_that_is_built_in() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    assert_eq!(ask(&process, "echo", "hello").await.unwrap(), "hello");
    let large = "x".repeat(300 * 1024);
    assert_eq!(ask(&process, "echo", &large).await.unwrap(), large);
    assert_eq!(
        ask(&process, "ask actor", "hi").await.unwrap(),
        "actor: hi",
        "it calls actors through its host"
    );
    assert_eq!(
        ask(&process, "nothing", "").await.unwrap_err().code,
        RefusalCode::UnknownOperation
    );
    let door = process.current().unwrap().door;
    door.link_put(link(None)).await.unwrap();
    assert_eq!(ask(&process, "links", "").await.unwrap(), "1");
    assert_eq!(
        door.link_put(link(Some("no"))).await,
        Err(LinkError::Config {
            key: "refuse".to_owned(),
            reason: "no".to_owned()
        })
    );
    door.link_delete(&link(None).key, LinkEnd::Target).await;
    assert_eq!(ask(&process, "links", "").await.unwrap(), "0");
    assert_eq!(door.health().await, Health::Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_the_call_and_not_the_process() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    let pid = ask(&process, "pid", "").await.unwrap();
    assert_eq!(
        ask(&process, "panic", "").await.unwrap_err().code,
        RefusalCode::Internal
    );
    assert_eq!(ask(&process, "pid", "").await.unwrap(), pid);
    assert_eq!(process.phase(), Phase::Up(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_typed_when_the_process_is_killed_and_the_next_incarnation_serves() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    // Long enough a life that its end is no failed start.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let pid = ask(&process, "pid", "").await.unwrap();
    let door = process.current().unwrap().door;
    let waiting = tokio::spawn(async move { door.invoke(call("wait", "")).await });
    while ask(&process, "waiting", "").await.unwrap() != "1" {}
    kill(&pid);
    let refusal = tokio::time::timeout(SOON, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OutcomeUnknown);
    // Until it is back, nothing begins, so that callers may go elsewhere.
    let between = process.current();
    if let Err(refusal) = between {
        assert!(refusal.code.is_retryable(), "{refusal}");
        assert!(refusal.message.contains("signal"), "{refusal}");
    }
    assert_eq!(
        phase(&process, |phase| *phase == Phase::Up(2)).await,
        Phase::Up(2)
    );
    assert_ne!(ask(&process, "pid", "").await.unwrap(), pid);
    assert_eq!(
        ask(&process, "links", "").await.unwrap(),
        "0",
        "it knows of nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_told_to_each_incarnation_before_calls_are_let_in() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    let mut phases = process.watch();
    let pid = ask(&process, "pid", "").await.unwrap();
    let running = RunningProvider::of_process(EntityId::new("p").unwrap(), process);
    let wanted = || {
        let link = link(None);
        let place = LinkPlace {
            key: link.key.clone(),
            end: End::Target,
            target: link.target.clone(),
        };
        let usable = Ok(());
        [(place, WantedLink { link, usable })].into()
    };
    let code = async || running.invoke(invocation()).await.err().map(|r| r.code);
    assert_eq!(code().await, Some(RefusalCode::Overloaded));
    assert_eq!(running.apply(wanted()).await.len(), 1);
    assert_eq!(running.apply(wanted()).await.len(), 0, "it is told once");
    assert_eq!(code().await, None);
    kill(&pid);
    while phases.next().await != Some(Phase::Up(2)) {
        assert_eq!(code().await, Some(RefusalCode::Overloaded));
    }
    assert_eq!(
        code().await,
        Some(RefusalCode::Overloaded),
        "the new one knows of no link yet"
    );
    running.apply(wanted()).await;
    assert_eq!(code().await, None);
    let links = running.invoke(Invocation {
        operation: Operation::new("test:provider/probe", "links"),
        ..invocation()
    });
    assert_eq!(links.await.unwrap(), "1");
}

fn invocation() -> Invocation {
    let call = call("echo", "x");
    Invocation {
        id: call.id,
        source: call.source,
        target: EntityId::new("p").unwrap(),
        operation: call.operation,
        link: call.link,
        deadline: call.deadline,
        depth: 1,
        type_hash: 0,
        idempotent: false,
        lease: call.lease,
        chain: call.chain,
        traceparent: None,
        cancel: call.cancel,
        payload: call.payload,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_exits_by_itself_is_started_again() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    let refusal = ask(&process, "exit", "").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OutcomeUnknown);
    phase(&process, |phase| *phase == Phase::Up(2)).await;
    assert_eq!(ask(&process, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_come_up_again_is_given_up_with_its_last_lines() {
    let mut workshop = Workshop::new();
    let marker = workshop.path("broken").display().to_string();
    workshop.config.insert("exit if".to_owned(), marker.clone());
    let process = workshop.start().await;
    std::fs::write(&marker, "").unwrap();
    kill(&ask(&process, "pid", "").await.unwrap());
    let failed = phase(&process, |phase| matches!(phase, Phase::Failed(_))).await;
    let Phase::Failed(reason) = failed else {
        unreachable!("just waited for");
    };
    assert!(reason.contains("5 starts in a row"), "{reason}");
    assert!(reason.contains("the backend is on fire"), "{reason}");
    let refusal = ask(&process, "echo", "").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(!refusal.code.is_retryable());
    assert!(
        refusal.message.contains("the backend is on fire"),
        "{refusal}"
    );
    assert!(refusal.remedy.unwrap().contains("wash stop provider p"));
    assert!(process.stop(Duration::from_secs(1)).await);
    assert_eq!(process.phase(), Phase::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_shuts_down_and_is_gone_with_everything_it_started() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    let pid = ask(&process, "pid", "").await.unwrap();
    let grandchild = ask(&process, "grandchild", "").await.unwrap();
    assert!(runs(&pid) && runs(&grandchild));
    assert!(process.stop(Duration::from_secs(5)).await);
    assert!(!runs(&pid));
    soon("the grandchild has ended", || !runs(&grandchild)).await;
    assert_eq!(process.phase(), Phase::Stopped);
    assert_eq!(
        ask(&process, "echo", "").await.unwrap_err().code,
        RefusalCode::NotHere
    );
    assert!(process.stop(Duration::ZERO).await, "again does no harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_socket_is_held_open_by_what_it_left_behind_is_started_again_at_once() {
    let workshop = Workshop::new();
    let held_for = 2 * SOON;
    let holding = format!("\nsetsid sleep {} &\n", held_for.as_secs());
    let left = script().replacen('\n', &holding, 1);
    let program = workshop.program("leaves", &left);
    let (process, _) = Supervised::start(workshop.order(&program)).await.unwrap();
    kill(&ask(&process, "pid", "").await.unwrap());
    // Long before the socket is closed.
    phase(&process, |phase| *phase == Phase::Up(2)).await;
    assert_eq!(ask(&process, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_while_it_is_restarted_stays_away() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    kill(&ask(&process, "pid", "").await.unwrap());
    phase(&process, |phase| !matches!(phase, Phase::Up(1))).await;
    process.stop(Duration::from_secs(1)).await;
    assert_eq!(process.phase(), Phase::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_answer_is_ended_and_started_again() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let pid = ask(&process, "pid", "").await.unwrap();
    let number = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(number.unwrap(), rustix::process::Signal::STOP).unwrap();
    let door = process.current().unwrap().door;
    // Its threads stop one by one, so it may answer once more.
    let asking = async {
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(50), door.health()).await;
            // Once it is closed, it answers without waiting for anything.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        _ = phase(&process, |phase| !matches!(phase, Phase::Up(1))) => {}
    }
    phase(&process, |phase| *phase == Phase::Up(2)).await;
    assert!(!runs(&pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_holds_nobody_up() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    assert_eq!(ask(&process, "flood", "").await.unwrap(), "printed");
    assert_eq!(ask(&process, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_process_is_killed() {
    let workshop = Workshop::new();
    let process = workshop.start().await;
    let pid = ask(&process, "pid", "").await.unwrap();
    drop::<Supervised>(process);
    soon("the process has ended", || !runs(&pid)).await;
}
