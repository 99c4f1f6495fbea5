//! One instance of an actor: its store, its sealed world, its limits, and who it is when it calls out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use trellis_protocol::limits::DEADLINE_DEFAULT;
use trellis_protocol::{EntityId, Hop, InvocationId, Lease, LinkName, Refusal, RefusalCode};
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Actor;
use super::limits::EXECUTION_LIMIT;
use super::output::{GuestLog, Output, Stream};
use crate::engine::{GuestRunning, InstanceLimits, SliceClock};
use crate::imports::outgoing_http::OutgoingRequests;
use crate::invocation::{Invocation, deadline_exceeded};
use crate::limits::{HOST_CALL_FUEL, HTTP_FIELDS_BYTES_MAX, RANDOM_BYTES_MAX, RESOURCES_MAX};
use crate::router::{Router, ServedBy};

/// What a store holds beside the guest's own memory.
pub(crate) struct State {
    /// First, so that it is dropped before the resources are: see [`OutgoingRequests`].
    pub(crate) caller: Caller,
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) log: GuestLog,
    pub(crate) limits: InstanceLimits,
    pub(crate) clock: SliceClock,
    /// The clock of epochs runs while this lives.
    _running: GuestRunning,
}

/// Who the guest is when it calls out, and on whose behalf.
pub(crate) struct Caller {
    pub(crate) actor: Arc<Actor>,
    pub(crate) router: Arc<Router>,
    pub(crate) lease: Lease,
    /// Depth of the calls that it makes.
    pub(crate) depth: u8,
    /// The callers of this actor, oldest first.
    pub(crate) chain: Arc<[Hop]>,
    pub(crate) deadline: Deadline,
    pub(crate) cancel: CancellationToken,
    pub(crate) traceparent: Option<Arc<str>>,
    /// Link names that the guest chose, by `namespace:package/interface`.
    pub(crate) links: HashMap<String, LinkName>,
    /// Who gave this instance handles. They are told when it ends.
    pub(crate) lenders: Vec<Lender>,
    pub(crate) outgoing: OutgoingRequests,
}

/// Somebody who holds something for an instance: a provider, and where it runs. Nobody knows where while the answer is
/// out, nor if it never comes.
pub(crate) type Lender = (EntityId, Option<ServedBy>);

/// When a guest must be done. It moves once: a guest that has set the head of its response gets time for the body. Its
/// actor's own limit of time moves never.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    at: Arc<Mutex<Instant>>,
    limit: Option<ExecutionLimit>,
}

/// An actor's own limit of time, for one invocation.
#[derive(Debug, Clone, Copy)]
struct ExecutionLimit {
    until: Instant,
    time: Duration,
}

impl Deadline {
    /// The deadline of an invocation of an actor that begins now.
    pub(crate) fn of(actor: &Actor, at: Instant) -> Self {
        let limit = actor.execution_time_max().map(|time| ExecutionLimit {
            until: Instant::now() + time,
            time,
        });
        Self {
            at: Arc::new(Mutex::new(at)),
            limit,
        }
    }

    pub(crate) fn get(&self) -> Instant {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        self.limit.map_or(at, |limit| at.min(limit.until))
    }

    pub(crate) fn extend_to(&self, at: Instant) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// What a guest is stopped with whose time is over: by its caller's deadline, or by its actor's limit.
    pub(crate) fn exceeded(&self) -> Refusal {
        match self.limit {
            Some(limit) if limit.until <= Instant::now() => Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!(
                    "the actor ran longer than its `{EXECUTION_LIMIT}` of {} s",
                    limit.time.as_secs()
                ),
            )
            .with_remedy(format!("start it with a larger `{EXECUTION_LIMIT}`")),
            _ => deadline_exceeded(),
        }
    }
}

impl State {
    /// A store for one invocation of an actor.
    pub(crate) fn store(
        actor: &Arc<Actor>,
        router: &Arc<Router>,
        invocation: &Invocation,
        deadline: Deadline,
    ) -> Store<Self> {
        let engine = &actor.engine;
        let mut wasi = WasiCtx::builder();
        // Nothing is inherited: no arguments, environment, directories or network. What the builder does not name stays
        // closed, and name look-ups are closed by hand because their default is a check at run time.
        let observed = actor.observed(router);
        let log = GuestLog::new(router.host(), observed, invocation);
        let output = |stream| Output::new(stream, log.clone());
        wasi.stdout(output(Stream::Stdout))
            .stderr(output(Stream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX);
        // What the host holds for a guest is not in the guest's memory, so it has limits of its own.
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HTTP_FIELDS_BYTES_MAX);
        let clock = SliceClock::new(Arc::clone(&engine.cpu), Arc::clone(&actor.turn));
        let outgoing = OutgoingRequests::new(&invocation.cancel, clock.giving_up(), log.clone());
        let state = Self {
            table,
            wasi: wasi.build(),
            http,
            log,
            limits: InstanceLimits::new(
                Arc::clone(&engine.memory),
                Arc::clone(&observed.memory_bytes),
                actor.memory_bytes_max(),
            ),
            clock,
            caller: Caller {
                actor: Arc::clone(actor),
                router: Arc::clone(router),
                lease: router.new_lease(),
                depth: invocation.depth.saturating_add(1),
                chain: router.extended_chain(invocation),
                deadline,
                cancel: invocation.cancel.clone(),
                traceparent: invocation.traceparent.clone(),
                links: HashMap::new(),
                lenders: Vec::new(),
                outgoing,
            },
            _running: engine.ticker.guest(),
        };
        let mut store = Store::new(engine.wasmtime(), state);
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(HOST_CALL_FUEL);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            state.caller.check_time()?;
            Ok(UpdateDeadline::YieldCustom(1, state.clock.slice_ended()))
        });
        store
    }
}

impl Caller {
    /// Stops a guest whose caller has gone or whose time is over.
    fn check_time(&self) -> Result<(), Refusal> {
        if self.cancel.is_cancelled() {
            return Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone"));
        }
        if Instant::now() >= self.deadline.get() {
            return Err(self.deadline.exceeded());
        }
        Ok(())
    }

    /// The link name for an interface: the guest's choice, or `default`.
    pub(crate) fn link_for(&self, interface_without_version: &str) -> LinkName {
        self.links
            .get(interface_without_version)
            .cloned()
            .unwrap_or_default()
    }

    /// A call of this guest to somebody else. The router finds out whom.
    pub(crate) fn invocation(
        &self,
        target: EntityId,
        operation: trellis_protocol::Operation,
        link: LinkName,
        type_hash: u64,
        payload: bytes::Bytes,
    ) -> Invocation {
        Invocation {
            id: InvocationId::random(),
            source: self.actor.id.clone(),
            target,
            operation,
            link,
            // A guest that streams a body for an hour must not leave its callees an hour for each call.
            deadline: self.deadline.get().min(Instant::now() + DEADLINE_DEFAULT),
            depth: self.depth,
            type_hash,
            idempotent: false,
            lease: self.lease.clone(),
            chain: Arc::clone(&self.chain),
            traceparent: self.traceparent.clone(),
            cancel: self.cancel.clone(),
            payload,
        }
    }

    /// Remembers that somebody is asked for a handle, before it is: a guest that is stopped meanwhile may have got it.
    /// Says whether that is news: it is not where a former question was never answered.
    pub(crate) fn asks(&mut self, target: &EntityId) -> bool {
        let asked = (target.clone(), None);
        let is_news = !self.lenders.contains(&asked);
        if is_news {
            self.lenders.push(asked);
        }
        is_news
    }

    /// The one who was asked, and had not been before, has answered and lent nothing that is not noted.
    pub(crate) fn answered(&mut self, target: &EntityId) {
        self.lenders.retain(|(id, by)| id != target || by.is_some());
    }

    /// Remembers that somebody gave this instance a handle.
    pub(crate) fn borrowed_from(&mut self, target: EntityId, served_by: ServedBy) {
        let lender = (target, Some(served_by));
        if !self.lenders.contains(&lender) {
            self.lenders.push(lender);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.lenders.is_empty() {
            let lenders = std::mem::take(&mut self.lenders);
            self.router.release(self.lease.clone(), lenders);
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.caller,
        }
    }
}
