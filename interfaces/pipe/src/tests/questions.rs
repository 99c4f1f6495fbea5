//! Questions of the host, and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use trellis_protocol::pipe::{Control, FailureKind, Hello, Question};
use trellis_protocol::{EntityId, Lease};

use super::fixture::*;
use super::handler::TestHandler;
use crate::{Pipe, PipeEnd, PipeError, PipeLimits, QUESTIONS_MAX};

fn start(key: &str, value: String) -> Question {
    Question::Start {
        id: EntityId::new("p").unwrap(),
        lattice: "default".to_owned(),
        host: "N".to_owned(),
        config: BTreeMap::from([(key.to_owned(), value)]),
    }
}

#[tokio::test]
async fn a_question_is_answered_done_or_why_not() {
    let ends = ends(Way::HostCalls).await;
    let host = &ends.caller;
    assert_eq!(
        host.ask(start("good", String::new())).await.unwrap(),
        Ok(())
    );
    let failure = host.ask(start("bad", String::new())).await.unwrap();
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config);
    assert_eq!(failure.subject.as_deref(), Some("bad"));
    let failure = host.ask(start("panic", String::new())).await.unwrap();
    assert_eq!(failure.unwrap_err().kind, FailureKind::Internal);
    assert_eq!(host.ask(Question::Health).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_configuration_that_fits_no_frame_is_refused_with_its_size() {
    let ends = ends(Way::HostCalls).await;
    let failure = ends.caller.ask(start("k", "v".repeat(70_000))).await;
    let failure = failure.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Config);
    assert!(failure.reason.contains("70"), "{failure}");
}

#[tokio::test]
async fn releases_reach_the_provider() {
    let ends = ends(Way::HostCalls).await;
    let lease = Lease {
        host: Arc::from("N"),
        instance: 7,
    };
    ends.caller.release(lease).await;
    ends.caller.release_host("M").await;
    until("it was told", || ends.handler.told().len() == 2).await;
    let mut told = ends.handler.told();
    told.sort();
    assert_eq!(told, ["release N 7", "release-host M"]);
}

#[tokio::test]
async fn unanswered_questions_are_bounded_and_end_with_the_pipe() {
    let ends = ends(Way::HostCalls).await;
    let shutdown = || Question::Shutdown {
        within: Duration::from_secs(1),
    };
    let asking: Vec<_> = (0..QUESTIONS_MAX + 10)
        .map(|_| {
            let host = ends.caller.clone();
            let question = shutdown();
            tokio::spawn(async move { host.ask(question).await })
        })
        .collect();
    until("as many as may were asked", || {
        ends.handler.told().len() == QUESTIONS_MAX
    })
    .await;
    // Health waits for a place, which whoever asks takes for an answer.
    let health = tokio::time::timeout(
        Duration::from_millis(200),
        ends.caller.ask(Question::Health),
    );
    assert!(health.await.is_err());
    ends.callee.close("killed by the test");
    for asked in asking {
        assert_eq!(asked.await.unwrap(), Err(PipeEnd::Eof));
    }
    assert_eq!(ends.caller.ask(Question::Health).await, Err(PipeEnd::Eof));
}

#[tokio::test]
async fn a_provider_that_says_no_hello_or_another_one_is_not_taken() {
    async fn host(
        say: impl AsyncFnOnce(&mut ByHand),
        within: Duration,
    ) -> Result<Hello, PipeError> {
        let (host, provider) = UnixStream::pair().unwrap();
        let mut hand = ByHand { socket: provider };
        say(&mut hand).await;
        let handler = Arc::new(TestHandler::default());
        let begun = Pipe::host_end(host, PipeLimits::default(), handler, within).await;
        begun.map(|(_, hello)| hello)
    }
    let begun = host(
        async |hand| hand.tell(&Control::Hello(hello(3))).await,
        SOON,
    )
    .await;
    assert_eq!(begun.unwrap(), hello(3));
    let short = Duration::from_millis(100);
    let begun = host(async |_| (), short).await;
    assert_eq!(begun.unwrap_err(), PipeError::NoHello(short));
    let newer = Hello {
        version: 2,
        ..hello(3)
    };
    let begun = host(async |hand| hand.tell(&Control::Hello(newer)).await, SOON).await;
    assert!(matches!(begun, Err(PipeError::Version { theirs: 2, .. })));
    let done = Control::Done {
        number: 1,
        failure: None,
    };
    let begun = host(async |hand| hand.tell(&done).await, SOON).await;
    assert!(matches!(
        begun,
        Err(PipeError::Ended(PipeEnd::Broken { .. }))
    ));
    let begun = host(async |hand| hand.bytes(b"hello, world").await, SOON).await;
    assert!(matches!(
        begun,
        Err(PipeError::Ended(PipeEnd::Broken { .. }))
    ));
}

#[tokio::test]
async fn a_budget_that_holds_no_value_is_refused() {
    let (_host, provider) = UnixStream::pair().unwrap();
    let limits = PipeLimits {
        budget_bytes: 1024,
        ..PipeLimits::default()
    };
    let handler = Arc::new(TestHandler::default());
    let begun = Pipe::provider_end(provider, hello(1), limits, handler).await;
    assert!(matches!(begun, Err(PipeError::Budget { .. })));
}
