//! Spies: invocations of one actor or provider, handed on as they end.
//!
//! While nobody spies, a call costs one relaxed look here. While somebody does, calls of whoever is watched are copied into
//! a bounded queue, arguments and results up to a bound; what does not fit is counted and said in the next record. Whoever
//! reads makes them readable, beside the calls.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;
use trellis_protocol::control::observe::{Direction, ShownHttp};
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::{HttpRequest, HttpResponse};

use super::place::{Place, Places};
use super::shown::{request_head, response_head};
use crate::invocation::Invocation;

/// Spies on one host at a time.
pub(crate) const TAPS_MAX: usize = 8;

/// Invocations that wait for one spy.
pub(crate) const QUEUE_MAX: usize = 128;

/// Bytes of arguments, and of a result, that are copied for spies. Larger ones are told by their size.
pub(crate) const HELD_BYTES_MAX: usize = 16 * 1024;

/// What went one way.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Encoded(Bytes),
    TooLarge(usize),
    Http(ShownHttp),
}

impl Payload {
    /// Copied, because a payload may be a small part of a large buffer.
    pub(super) fn encoded(bytes: &Bytes) -> Self {
        if bytes.len() > HELD_BYTES_MAX {
            return Self::TooLarge(bytes.len());
        }
        Self::Encoded(Bytes::copy_from_slice(bytes))
    }
}

/// What can be shown of an answer.
pub(crate) trait Answered {
    fn payload(&self) -> Payload;
}

impl Answered for Bytes {
    fn payload(&self) -> Payload {
        Payload::encoded(self)
    }
}

impl<T> Answered for (Bytes, T) {
    fn payload(&self) -> Payload {
        Payload::encoded(&self.0)
    }
}

impl Answered for HttpResponse {
    fn payload(&self) -> Payload {
        Payload::Http(response_head(self))
    }
}

/// An invocation that ended, as it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(super) direction: Direction,
    pub(super) at: SystemTime,
    pub(super) took: Duration,
    /// None where the call was refused before it became an invocation.
    pub(super) id: Option<InvocationId>,
    pub(super) traceparent: Option<Arc<str>>,
    pub(super) source: EntityId,
    pub(super) target: Option<EntityId>,
    pub(super) operation: Operation,
    pub(super) link: LinkName,
    pub(super) depth: u8,
    pub(super) type_hash: u64,
    pub(super) refusal: Option<(RefusalCode, String)>,
    pub(super) request: Option<Payload>,
    pub(super) response: Option<Payload>,
}

impl Sighting {
    /// Interface and function, where the call was of a function.
    pub(crate) fn function(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        let is_encoded = |payload: &Payload| !matches!(payload, Payload::Http(_));
        let payload = self.request.as_ref().or(self.response.as_ref())?;
        is_encoded(payload).then_some((&self.operation.interface, &self.operation.function))
    }

    /// Caller and callee, where there is one.
    pub(crate) fn ends(&self) -> Option<(&EntityId, &EntityId)> {
        Some((&self.source, self.target.as_ref()?))
    }

    /// Structural hash of the function's type, as its caller knows it.
    pub(crate) fn type_hash(&self) -> u64 {
        self.type_hash
    }
}

/// One spy's end of it.
#[derive(Debug)]
struct Tap {
    direction: Option<Direction>,
    heads_only: bool,
    queue: mpsc::Sender<Arc<Sighting>>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    fn take(&self, sighting: &Arc<Sighting>) {
        if self.queue.try_send(Arc::clone(sighting)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sees(&self, direction: Direction) -> bool {
        self.direction.is_none_or(|wanted| wanted == direction)
    }
}

/// The spies on one actor or provider.
#[derive(Debug, Default)]
pub(super) struct Taps {
    count: AtomicUsize,
    list: Mutex<Vec<Tap>>,
}

/// What a spy reads. Dropping it ends the spying.
#[derive(Debug)]
pub(crate) struct TapReader {
    queue: mpsc::Receiver<Arc<Sighting>>,
    dropped: Arc<AtomicU64>,
    said: u64,
    _place: Place,
}

impl TapReader {
    /// The next invocation. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Arc<Sighting>> {
        self.queue.recv().await
    }

    /// How many wait to be read.
    pub(crate) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// How many were dropped since the last time this was asked.
    pub(crate) fn newly_dropped(&mut self) -> u64 {
        let dropped = self.dropped.load(Ordering::Relaxed);
        dropped - std::mem::replace(&mut self.said, dropped)
    }
}

impl Taps {
    fn lock(&self) -> MutexGuard<'_, Vec<Tap>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a spy in; none where the host has as many as it takes.
    pub(super) fn open(
        &self,
        places: &Places,
        direction: Option<Direction>,
        heads_only: bool,
    ) -> Option<TapReader> {
        let place = places.take()?;
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let mut list = self.lock();
        list.retain(|tap| !tap.queue.is_closed());
        list.push(Tap {
            direction,
            heads_only,
            queue: sender,
            dropped: Arc::clone(&dropped),
        });
        self.count.store(list.len(), Ordering::Relaxed);
        Some(TapReader {
            queue,
            dropped,
            said: 0,
            _place: place,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody wants calls of this direction, and if so, whether with what they carry.
    pub(super) fn wants(&self, direction: Direction) -> Option<bool> {
        if !self.is_open() {
            return None;
        }
        let mut list = self.lock();
        list.retain(|tap| !tap.queue.is_closed());
        self.count.store(list.len(), Ordering::Relaxed);
        let watching = list.iter().filter(|tap| tap.sees(direction));
        watching
            .map(|tap| !tap.heads_only)
            .reduce(|whole, another| whole || another)
    }

    pub(super) fn hand_on(&self, mut sighting: Sighting) {
        let list = self.lock();
        let watching = list.iter().filter(|tap| tap.sees(sighting.direction));
        let (heads, whole): (Vec<_>, Vec<_>) = watching.partition(|tap| tap.heads_only);
        if !whole.is_empty() {
            let sighting = Arc::new(sighting.clone());
            whole.iter().for_each(|tap| tap.take(&sighting));
        }
        // What is said is for those alone who asked for it.
        (sighting.request, sighting.response) = (None, None);
        let sighting = Arc::new(sighting);
        heads.iter().for_each(|tap| tap.take(&sighting));
    }
}

/// An invocation under way that somebody watches. Ended without an answer, it is told as cancelled.
#[derive(Debug)]
pub(crate) struct Watching {
    of: Arc<super::Observed>,
    sighting: Option<Sighting>,
    began: Instant,
    with_payload: bool,
}

impl Watching {
    pub(super) fn begin(
        of: &Arc<super::Observed>,
        direction: Direction,
        invocation: &Invocation,
        request: Option<&HttpRequest>,
    ) -> Option<Box<Self>> {
        let with_payload = of.taps.wants(direction)?;
        let payload = || match request {
            Some(request) => Payload::Http(request_head(request)),
            None => Payload::encoded(&invocation.payload),
        };
        Some(Box::new(Self {
            of: Arc::clone(of),
            sighting: Some(Sighting {
                direction,
                at: SystemTime::UNIX_EPOCH,
                took: Duration::ZERO,
                id: Some(invocation.id),
                traceparent: invocation.traceparent.clone(),
                source: invocation.source.clone(),
                target: Some(invocation.target.clone()),
                operation: invocation.operation.clone(),
                link: invocation.link.clone(),
                depth: invocation.depth,
                type_hash: invocation.type_hash,
                refusal: None,
                request: with_payload.then(payload),
                response: None,
            }),
            began: Instant::now(),
            with_payload,
        }))
    }

    pub(super) fn ended<T: Answered>(mut self: Box<Self>, result: &Result<T, Refusal>) {
        match result {
            Ok(answer) => {
                let payload = self.with_payload.then(|| answer.payload());
                self.tell(None, payload);
            }
            Err(refusal) => self.tell(Some((refusal.code, refusal.message.clone())), None),
        }
    }

    fn tell(&mut self, refusal: Option<(RefusalCode, String)>, response: Option<Payload>) {
        if let Some(mut sighting) = self.sighting.take() {
            sighting.at = SystemTime::now();
            sighting.took = self.began.elapsed();
            sighting.refusal = refusal;
            sighting.response = response;
            self.of.taps.hand_on(sighting);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let gone = "nobody waited for the end".to_owned();
        self.tell(Some((RefusalCode::Cancelled, gone)), None);
    }
}
