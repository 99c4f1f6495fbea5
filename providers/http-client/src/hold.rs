//! What an exchange holds of its connection, and what becomes of both when it ends.
//!
//! An exchange can end while hyper waits for a server that does not read, and then nothing of hyper's looks whether anybody
//! still wants the response. So the end is told from here: the request's body is dropped at once, an HTTP/1.1 connection is
//! closed unless its response was read and its request sent, and one of HTTP/2 that a half-sent request is stuck on takes
//! no more requests, and is closed after its last one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use trellis_provider_sdk::Body;

use crate::pool::{Lane, Pool};

/// A request's body, until it is sent, or nobody wants the response any more.
#[derive(Clone)]
pub(crate) struct Upload {
    body: Arc<Mutex<Option<Body>>>,
    unwanted: CancellationToken,
}

impl Upload {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body: Arc::new(Mutex::new(Some(body))),
            unwanted: CancellationToken::new(),
        }
    }

    /// Fires when nobody wants the response any more.
    pub(crate) fn unwanted(&self) -> &CancellationToken {
        &self.unwanted
    }

    /// Looks at the body, where it is still there.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> Option<T> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_mut().map(look)
    }

    /// Lets go of the body. Says whether it was still there, which is to say not yet sent.
    pub(crate) fn end(&self) -> bool {
        let body = {
            let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
            body.take()
        };
        body.is_some()
    }
}

/// The connection of an exchange.
pub(crate) enum Used {
    /// Closed by this token.
    Http1(CancellationToken),
    Http2(Lane),
}

/// One exchange on a connection.
pub(crate) struct Hold {
    used: Used,
    pool: Arc<Pool>,
    upload: Upload,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The response has been read.
    Done,
    /// The connection took nothing; the request goes on to another.
    Unsent,
}

impl Hold {
    pub(crate) fn new(used: Used, pool: Arc<Pool>, upload: Upload) -> Self {
        Self {
            used,
            pool,
            upload,
            state: State::Running,
        }
    }

    /// The response has been read.
    pub(crate) fn done(mut self) {
        self.state = State::Done;
    }

    /// The request was not sent on this connection.
    pub(crate) fn unsent(mut self) {
        self.state = State::Unsent;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let half_sent = match self.state {
            State::Unsent => false,
            State::Running | State::Done => {
                self.upload.unwanted.cancel();
                self.upload.end()
            }
        };
        match &self.used {
            Used::Http1(close) if half_sent || self.state != State::Done => close.cancel(),
            Used::Http2(lane) if half_sent || self.state == State::Unsent => {
                self.pool.forget(lane);
            }
            Used::Http1(_) | Used::Http2(_) => {}
        }
    }
}
