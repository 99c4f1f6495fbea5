//! Connections of one link that can take another request.
//!
//! A pool belongs to one link in one configuration: what one link may do, and whom it trusts, says nothing about another.
//! A connection serves requests to the one target it was made for. HTTP/2 would allow more (RFC 9113, section 9.1.1), but
//! the rules were checked for this name and this port.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::body::RequestBody;
use crate::target::Target;

/// A connection that a request can be sent on.
pub(crate) enum Connection {
    /// For this request alone, until its response is read.
    Http1(Single),
    /// Beside others.
    Http2(Lane),
}

/// A connection of HTTP/1.1.
pub(crate) struct Single {
    pub(crate) sender: http1::SendRequest<RequestBody>,
    /// Closes it.
    pub(crate) close: CancellationToken,
}

/// One request's hold on a connection of HTTP/2.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) sender: http2::SendRequest<RequestBody>,
    /// Held by each exchange on the connection; the pool has one, too. The last one closes it.
    users: Arc<DropGuard>,
}

impl Lane {
    pub(crate) fn new(sender: http2::SendRequest<RequestBody>, close: CancellationToken) -> Self {
        Self {
            sender,
            users: Arc::new(close.drop_guard()),
        }
    }
}

/// The connections.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    connections_max: usize,
    idle_max: Duration,
}

#[derive(Default)]
struct Inner {
    /// Idle ones of HTTP/1.1, the one that waits longest first.
    http1: VecDeque<Kept<Single>>,
    /// All of HTTP/2, the newest last.
    http2: Vec<Kept<Lane>>,
    /// Nothing is kept any more.
    is_closed: bool,
}

struct Kept<T> {
    target: Target,
    sender: T,
    used: Instant,
}

impl Pool {
    pub(crate) fn new(connections_max: usize, idle_max: Duration) -> Self {
        Self {
            inner: Mutex::default(),
            connections_max,
            idle_max,
        }
    }

    /// A connection that was used before, the most recently used one first.
    pub(crate) fn take(&self, target: &Target) -> Option<Connection> {
        let mut inner = self.lock();
        self.sweep(&mut inner);
        if let Some(kept) = inner.http2.iter_mut().rev().find(|k| k.target == *target) {
            kept.used = Instant::now();
            return Some(Connection::Http2(kept.sender.clone()));
        }
        let at = inner.http1.iter().rposition(|k| k.target == *target)?;
        let kept = inner.http1.remove(at)?;
        Some(Connection::Http1(kept.sender))
    }

    /// Keeps a connection whose last response has been read.
    pub(crate) fn keep(&self, target: Target, sender: Single) {
        let mut inner = self.lock();
        if inner.is_closed || self.connections_max == 0 {
            return;
        }
        self.sweep(&mut inner);
        if inner.http1.len() >= self.connections_max {
            inner.http1.pop_front();
        }
        let used = Instant::now();
        inner.http1.push_back(Kept {
            target,
            sender,
            used,
        });
    }

    /// Lets others use a connection at once.
    pub(crate) fn share(&self, target: Target, lane: Lane) {
        let mut inner = self.lock();
        if inner.is_closed || self.connections_max == 0 {
            return;
        }
        self.sweep(&mut inner);
        if inner.http2.len() >= self.connections_max {
            // Requests on it go on: they hold it themselves.
            inner.http2.remove(0);
        }
        let used = Instant::now();
        inner.http2.push(Kept {
            target,
            sender: lane,
            used,
        });
    }

    /// Gives up a connection of HTTP/2 that takes no more requests.
    pub(crate) fn forget(&self, lane: &Lane) {
        self.lock()
            .http2
            .retain(|kept| !Arc::ptr_eq(&kept.sender.users, &lane.users));
    }

    /// Closes what has been idle for too long.
    pub(crate) fn close_idle(&self) {
        self.sweep(&mut self.lock());
    }

    /// Closes what is idle, now and from now on.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.http1.clear();
        inner.http2.clear();
    }

    fn sweep(&self, inner: &mut Inner) {
        let is_young = |used: Instant| used.elapsed() < self.idle_max;
        inner
            .http1
            .retain(|kept| is_young(kept.used) && kept.sender.sender.is_ready());
        inner.http2.retain(|kept| {
            let is_used = Arc::strong_count(&kept.sender.users) > 1;
            !kept.sender.sender.is_closed() && (is_used || is_young(kept.used))
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
