//! Notices a client that no longer reads its response.
//!
//! hyper polls a response's body only while there is room to send. So between a frame that was handed over and the next
//! poll, the exchange waits for its client; while the last poll was pending, it waits for its actor. Only the first may
//! time out here. The body says which it is with [`mark`], and whoever polls the task that polls the body (the connection
//! in HTTP/1.1, the stream in HTTP/2) asks a [`Watch`].
//!
//! The way between the two leads through hyper, which knows neither, hence a thread's cell: body and watch are polled
//! within one call, on one thread.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// For whom an exchange waits after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// For the actor's next frame, or for nobody: there is no response on the way.
    Actor,
    /// For the client to read.
    Client,
}

thread_local! {
    static LAST: Cell<Option<WaitsFor>> = const { Cell::new(None) };
}

/// Says for whom the exchange that is being polled waits from now on.
pub(crate) fn mark(waits_for: WaitsFor) {
    // Outside of a thread's life nobody asks any more.
    let _ = LAST.try_with(|last| last.set(Some(waits_for)));
}

/// The client's time to read.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The client has not read for too long.
#[derive(Debug)]
pub(crate) struct Stalled;

impl Watch {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Polls a future that may poll a response's body, and keeps the client's time.
    pub(crate) fn poll<F: Future>(
        &mut self,
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Stalled>> {
        let _ = LAST.try_with(|last| last.set(None));
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match LAST.try_with(Cell::take).ok().flatten() {
            Some(WaitsFor::Actor) => self.timer = None,
            Some(WaitsFor::Client) => {
                let until = Instant::now() + self.limit;
                match &mut self.timer {
                    Some(timer) => timer.as_mut().reset(until),
                    None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
                }
            }
            // The body was not polled: whatever it waited for, it still does.
            None => {}
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Err(Stalled)),
            None => Poll::Pending,
        }
    }
}
