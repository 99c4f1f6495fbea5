//! Hosts that call before they were heard.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use trellis_protocol::frame::{Frame, Stream};
use trellis_protocol::presence::Roster;

use super::by_hand::Attack;
use super::fixture::{Lattice, count, subscribed};
use crate::connection::fixture::eventually;
use crate::peer::doorstep;

/// Hands out the roster of a host that does not beat.
struct Answerer {
    asked: Arc<AtomicUsize>,
    incarnation: Arc<AtomicU64>,
    /// A permit for each answer.
    gate: Arc<Semaphore>,
    _task: AbortOnDropHandle<()>,
}

async fn answer(attack: &Attack, certificate: Option<String>) -> Answerer {
    let key = Arc::clone(&attack.key);
    let subject = attack.victim.subjects.roster(key.public().as_str());
    let client = attack.client.clone();
    let mut requests = client.subscribe(subject).await.unwrap();
    subscribed(&client).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let incarnation = Arc::new(AtomicU64::new(attack.incarnation));
    let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    let (count, run, open) = (
        Arc::clone(&asked),
        Arc::clone(&incarnation),
        Arc::clone(&gate),
    );
    let task = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            count.fetch_add(1, Ordering::SeqCst);
            open.acquire().await.unwrap().forget();
            let roster = Roster {
                host: key.public().clone(),
                incarnation: run.load(Ordering::SeqCst),
                version: 3,
                certificate: certificate.clone(),
                name: "by hand".to_owned(),
                labels: BTreeMap::new(),
                actors: vec![],
                providers: vec![],
            };
            let sealed = roster.seal(&key).unwrap();
            let reply = request.reply.unwrap();
            client.publish(reply, sealed.into()).await.unwrap();
        }
    });
    Answerer {
        asked,
        incarnation,
        gate,
        _task: AbortOnDropHandle::new(task),
    }
}

async fn reply(answers: &mut (impl StreamExt<Item = Frame> + Unpin)) -> Frame {
    let answer = tokio::time::timeout(Duration::from_secs(3), answers.next());
    answer.await.expect("it is answered").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_host_that_has_just_started_serves_those_it_has_not_heard_yet() {
    let lattice = Lattice::start();
    let one = lattice.host(&["a"]).await;
    let other = lattice.host(&["b"]).await;
    one.meets(&other).await;
    // The other way round nobody waits.
    let called = tokio::time::timeout(Duration::from_secs(3), one.call(&other, "echo", "x"));
    assert_eq!(called.await.unwrap().unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_certified_host_is_served_before_its_first_beat() {
    let mut attack = Attack::unheard().await;
    let certificate = attack.lattice.certificate(&attack.key, &["a"]);
    let roster = answer(&attack, Some(certificate)).await;
    let mut answers = attack.answers().await;
    attack.say(&attack.invoke()).await;
    assert!(matches!(
        reply(&mut answers).await,
        Frame::Reply { call: 1, .. }
    ));
    assert_eq!(roster.asked.load(Ordering::SeqCst), 1);
    assert_eq!(attack.victim.rejected("stranger"), 0);
    // And in its next run, of which nothing was heard either.
    attack.incarnation += 1;
    roster.incarnation.fetch_add(1, Ordering::SeqCst);
    attack.say(&attack.invoke()).await;
    assert!(matches!(
        reply(&mut answers).await,
        Frame::Reply { call: 1, .. }
    ));
    assert_eq!(roster.asked.load(Ordering::SeqCst), 2);
    assert_eq!(attack.victim.rejected("wrong-incarnation"), 0);
    // What its former run signed is worth nothing now.
    attack.incarnation -= 1;
    attack.say(&attack.invoke()).await;
    attack.expect("wrong-incarnation", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_waited_are_heard_in_their_order() {
    let mut attack = Attack::unheard().await;
    let mut answers = attack.answers().await;
    let mut head = attack.head();
    head.operation.function = "echo".into();
    let request = Frame::HttpRequest {
        call: 1,
        head: Box::new(head),
        method: "PUT".to_owned(),
        uri: "/".to_owned(),
        fields: vec![],
        has_body: true,
    };
    let data = |stream, sequence| Frame::Data {
        call: 1,
        stream,
        sequence,
        bytes: Bytes::from_static(b"piece"),
        last: sequence == 2,
        trailers: None,
    };
    let certificate = attack.lattice.certificate(&attack.key, &["a"]);
    let roster = answer(&attack, Some(certificate)).await;
    roster.gate.forget_permits(Semaphore::MAX_PERMITS);
    attack.say(&request).await;
    for sequence in 0..3 {
        attack.say(&data(Stream::ToCallee, sequence)).await;
    }
    let asked = || roster.asked.load(Ordering::SeqCst) == 1;
    eventually("the roster is asked for", asked).await;
    // The rest of the frames finds its place meanwhile; it would be served as well if it came later.
    tokio::time::sleep(Duration::from_millis(50)).await;
    attack.nothing_ran();
    roster.gate.add_permits(1);
    assert!(matches!(
        reply(&mut answers).await,
        Frame::HttpResponse { .. }
    ));
    let mut echoed = Vec::new();
    while echoed.len() < 15 {
        match reply(&mut answers).await {
            Frame::Data { bytes, .. } => echoed.extend_from_slice(&bytes),
            Frame::Credit { .. } => {}
            other => panic!("not an echo: {other:?}"),
        }
    }
    assert_eq!(echoed, b"piecepiecepiece");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_knocks_is_asked_once_served_never_and_forgotten_in_time() {
    let mut attack = Attack::unheard().await;
    let roster = answer(&attack, None).await;
    let mut answers = attack.answers().await;
    let (begun, frames) = (Instant::now(), 3 * doorstep::FRAMES_PER_SENDER_MAX as u64);
    for _ in 0..frames {
        attack.say(&attack.invoke()).await;
    }
    attack.expect("stranger", frames).await;
    // Those that found a place have waited there.
    assert!(begun.elapsed() >= doorstep::WAIT);
    assert_eq!(roster.asked.load(Ordering::SeqCst), 1);
    assert_eq!(count(&attack.victim.presence.rejected(), "certificate"), 1);
    assert!(attack.victim.presence.routes().is_empty());
    attack.answers_nothing(&mut answers).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_knocks_in_the_name_of_another_key() {
    let mut attack = Attack::unheard().await;
    let certificate = attack.lattice.certificate(&attack.key, &["a"]);
    let roster = answer(&attack, Some(certificate)).await;
    let mut forged = attack.seal(&attack.invoke());
    let last = forged.len() - 1;
    forged[last] ^= 1;
    attack.publish(forged).await;
    // Counted at once: it has not waited.
    let dropped = || attack.victim.rejected("stranger") == 1;
    let begun = Instant::now();
    eventually("it is dropped", dropped).await;
    assert!(begun.elapsed() < doorstep::WAIT);
    assert_eq!(roster.asked.load(Ordering::SeqCst), 0);
}
