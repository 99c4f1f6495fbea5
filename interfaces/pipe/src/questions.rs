//! What the host asks its provider, and tells it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt as _;
use tokio::sync::oneshot;
use trellis_protocol::Lease;
use trellis_protocol::frame::{Frame, FrameError};
use trellis_protocol::pipe::{Control, Failure, FailureKind, Question, QuestionNumber};

use crate::QUESTIONS_MAX;
use crate::calls::Asked;
use crate::error::PipeEnd;
use crate::exchange::Exchange;
use crate::outbox::Message;

/// Asks, and waits for the answer. Whoever stops waiting leaves the question counted until it is answered.
pub(crate) async fn ask(
    exchange: &Arc<Exchange>,
    question: Question,
) -> Result<Result<(), Failure>, PipeEnd> {
    let number = exchange.next_question.fetch_add(1, Ordering::Relaxed);
    let control = Control::Ask { number, question };
    let message = match Message::control(&control) {
        Ok(message) => message,
        Err(error) => return Ok(Err(unsent(&error))),
    };
    let waiting = Arc::clone(&exchange.questions).acquire_owned();
    let permit = exchange.ended.run_until_cancelled(waiting).await;
    let Some(Ok(permit)) = permit else {
        return Err(exchange.why_ended());
    };
    let (sender, answer) = oneshot::channel();
    let asked = Asked {
        answer: sender,
        _permit: permit,
    };
    exchange.calls().enter_question(number, asked)?;
    exchange.urgent(message);
    answer.await.map_err(|_| exchange.why_ended())
}

fn unsent(error: &FrameError) -> Failure {
    let kind = match error {
        FrameError::TooLarge { .. } => FailureKind::Config,
        _ => FailureKind::Internal,
    };
    Failure::new(
        kind,
        format!("it does not fit on the provider's socket: {error}"),
    )
}

/// Answers the host, on a task of its own.
pub(crate) fn answer(
    exchange: &Arc<Exchange>,
    number: QuestionNumber,
    question: Question,
) -> Result<(), PipeEnd> {
    let permit = Arc::clone(&exchange.questions).try_acquire_owned();
    let permit = permit.map_err(|_| {
        PipeEnd::broken(format!("it asks more than {QUESTIONS_MAX} things at once"))
    })?;
    let exchange = Arc::clone(exchange);
    tokio::spawn(async move {
        let work = AssertUnwindSafe(exchange.handler.answer(question)).catch_unwind();
        let Some(answered) = exchange.ended.run_until_cancelled(work).await else {
            return;
        };
        let panicked = |_| {
            Err(Failure::new(
                FailureKind::Internal,
                "the provider panicked; this is a fault",
            ))
        };
        let failure = answered.unwrap_or_else(panicked).err();
        // Before the answer, so that the host may ask the next thing as soon as it has it.
        drop(permit);
        exchange.tell(&Control::Done { number, failure }, Vec::new());
    });
    Ok(())
}

/// Tells that an instance has ended, once there is room to.
pub(crate) async fn tell_release(exchange: &Arc<Exchange>, lease: Lease) {
    if let Some(permit) = place(exchange).await {
        exchange.say(&Frame::Release { lease }, vec![permit]);
    }
}

/// Tells that a host has disappeared, once there is room to.
pub(crate) async fn tell_release_host(exchange: &Arc<Exchange>, host: &str) {
    if let Some(permit) = place(exchange).await {
        let host = host.to_owned();
        exchange.tell(&Control::ReleaseHost { host }, vec![permit]);
    }
}

async fn place(exchange: &Arc<Exchange>) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let waiting = Arc::clone(&exchange.releases).acquire_owned();
    exchange.ended.run_until_cancelled(waiting).await?.ok()
}

/// Hands the end of an instance to the handler.
pub(crate) fn release(exchange: &Arc<Exchange>, lease: Lease) {
    let handler = Arc::clone(&exchange.handler);
    letting_go(exchange, async move { handler.release(lease).await });
}

/// Hands the end of a host to the handler.
pub(crate) fn release_host(exchange: &Arc<Exchange>, host: String) {
    let handler = Arc::clone(&exchange.handler);
    letting_go(exchange, async move { handler.release_host(host).await });
}

fn letting_go(exchange: &Arc<Exchange>, work: impl Future<Output = ()> + Send + 'static) {
    let Ok(permit) = Arc::clone(&exchange.releases).try_acquire_owned() else {
        tracing::warn!("handles were not released: too many releases are under way");
        return;
    };
    tokio::spawn(async move {
        work.await;
        drop(permit);
    });
}
