//! NATS goes away in the middle of commands, and comes back.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use trellis_lattice::client::ClientError;
use trellis_lattice_tests::deploy::{link, scale};
use trellis_lattice_tests::{HostId as _, Lattice, eventually};

use super::Asker;

/// How long clients of these tests wait for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn links_that_were_being_put_when_nats_died_are_whole_or_absent_and_can_be_put_again() {
    let lattice = Lattice::start().await;
    let _hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    ];
    let client = lattice.operator().client().clone().with_timeout(PATIENCE);
    let links: Vec<_> = (0..40)
        .map(|n| link("busy", &format!("target-{n}"), &format!("test:p{n}/i,j")))
        .collect();
    let began = Instant::now();
    let putting = join_all(links.iter().map(|link| client.put_link(link)));
    let dying = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        lattice.kill_nats();
    };
    let (put, ()) = tokio::join!(putting, dying);
    // Whoever was not answered is told so soon, and what to make of it.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    for error in put.iter().filter_map(|put| put.as_ref().err()) {
        assert!(
            matches!(
                error,
                ClientError::TimedOut { .. } | ClientError::Connection { .. }
            ),
            "{error}"
        );
    }
    lattice.start_nats_again();
    for (link, _) in links.iter().zip(&put).filter(|(_, put)| put.is_err()) {
        eventually("the link can be put again", async || {
            client.put_link(link).await.ok()
        })
        .await;
    }
    let stored = eventually("a host has caught up", async || {
        let stored = client.links().await.ok()?;
        (stored.len() >= links.len()).then_some(stored)
    })
    .await;
    let targets: HashSet<_> = stored.iter().map(|link| &link.target).collect();
    assert_eq!((stored.len(), targets.len()), (links.len(), links.len()));
    assert!(links.iter().all(|link| stored.contains(link)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_nats_interrupts_comes_to_an_end_and_can_be_repeated() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let reference = lattice.signed("hello");
    let command = scale(host.id(), &reference, "hello", 3);
    let client = lattice.operator().client().clone().with_timeout(PATIENCE);
    client
        .scale(host.id(), &command)
        .await
        .expect("it is accepted");
    lattice.kill_nats();
    // A command meanwhile is not answered, and said to be so in a sentence.
    let began = Instant::now();
    let unanswered = client.inventory(host.id()).await;
    let sentence = unanswered.expect_err("nobody can be reached").to_string();
    assert!(
        sentence.contains(' ') && began.elapsed() < Duration::from_secs(5),
        "{sentence}"
    );
    lattice.start_nats_again();
    eventually("the host answers again", async || {
        client.inventory(host.id()).await.ok()
    })
    .await;
    lattice
        .try_run(&host, &reference, "hello")
        .await
        .expect("the command can be repeated");
    eventually("it runs as the last command says, once", async || {
        let inventory = client.inventory(host.id()).await.ok()?;
        let [hello] = inventory.components.as_slice() else {
            panic!("{:?}", inventory.components);
        };
        assert_eq!(hello.id, "hello");
        (hello.max_instances == 100).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_was_asked_before_nats_died_it_does_not_answer_twice_afterwards() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    lattice.operator().configure("c", &[("k", "old")]).await;
    lattice.kill_nats();
    lattice.start_nats_again();
    // The first that is answered at all is answered right.
    let client = lattice.operator().client().clone().with_timeout(PATIENCE);
    let found = eventually("a host answers", async || client.get_config("c").await.ok()).await;
    assert_eq!(found.expect("it was kept").0["k"], "old");
    for _ in 0..20 {
        let subject = asker.subject("config.get", Some("c"));
        let answers = asker
            .gather(subject, Vec::new(), Duration::from_millis(50))
            .await;
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
}
