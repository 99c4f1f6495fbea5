//! Every limit of a host, in one place, with its unit and its reason. What the wire fixes is in the protocol's own list.

use std::time::Duration;

/// Instances that the pool is sized for where memory permits: half of them for outermost calls (D13).
pub const INSTANCES_MAX: u32 = 1_000;

/// Fewest instances worth a pool; below it the host allocates on demand.
pub const INSTANCES_MIN: u32 = 16;

/// Linear memory that one instance may reach where its actor has no limit of its own, in bytes.
pub const MEMORY_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// Largest linear memory that an actor can be given, in bytes: what each slot of the pool reserves (not commits).
pub const MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Longest time that an actor's own limit can give one invocation: beyond it the limit of a body's whole length ends it.
pub const EXECUTION_TIME_MAX: Duration = Duration::from_secs(3_600);

/// Elements of all tables of one instance.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Core instances, memories and tables within one component. What `wit-component` makes needs a handful.
pub const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;

/// Time between two epochs. A guest that spins is looked at this often.
pub const EPOCH_INTERVAL: Duration = Duration::from_millis(5);

/// Slices that a guest may run before it needs a CPU permit to go on (D14).
pub const FREE_SLICES: u32 = 2;

/// Callers that may wait behind an actor's permits.
pub const QUEUE_MAX: usize = 1_024;

/// Longest time in that queue.
pub const QUEUE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Permits for an actor where the start command gives none.
pub const COUNT_DEFAULT: u32 = 100;

/// Most permits that a start command can ask for.
pub const COUNT_MAX: u32 = 100_000;

/// Commands that are carried out or wait on one host, for all ids together.
///
/// Each can hold its configurations' names and annotations; a whole application of a manager is some dozens of them.
pub const COMMANDS_MAX: usize = 4_096;

/// Bytes of all keys and values of the annotations that one command gives.
///
/// They stand in the inventory and in each event about what they belong to, and a message of NATS ends at 1 MiB.
pub const ANNOTATIONS_BYTES_MAX: usize = 16 * 1024;

/// Artifacts that are fetched at once. A component takes its place until it is compiled, so that this bounds the memory
/// that components need which nobody has judged yet.
pub const FETCHES_MAX: usize = 8;

/// Largest component that is loaded, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Longest line of an actor's output that is logged whole, in bytes; longer ones are cut there.
pub const OUTPUT_LINE_BYTES_MAX: usize = 8 * 1024;

/// Bytes of output that one invocation may log. What exceeds them is dropped and the loss is said once.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Resources that the host holds for one instance at a time: streams, fields, bodies, buckets. A request needs a dozen.
pub const RESOURCES_MAX: usize = 1_024;

/// Size of one set of HTTP fields that a guest can make, in bytes, with what each costs the host beside its text.
///
/// Twice what the HTTP server takes from a client. With [`RESOURCES_MAX`] it bounds what a guest can make the host hold.
pub const HTTP_FIELDS_BYTES_MAX: usize = 32 * 1024;

/// HTTP requests that one instance may have under way at once, up to the last byte of their responses. One more is refused.
///
/// Each costs the host two bodies and their windows; a guest that fans out further does so in turns.
pub const OUTGOING_REQUESTS_MAX: usize = 16;

/// How long before its own deadline a guest is told that an outgoing request got no response, so that it can still answer.
pub const OUTGOING_MARGIN: Duration = Duration::from_millis(100);

/// Random bytes that a guest can ask for at once.
pub const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// Fuel for the dynamic values of one host call: roughly the bytes that they may take here (D16).
pub const HOST_CALL_FUEL: usize = 128 * 1024 * 1024;

/// Elements of one list that passes through dynamic values, bytes among them.
///
/// A `list<u8>` costs 40 bytes a byte on that path, so what is larger belongs into a typed interface or a stream.
pub const DYNAMIC_LIST_MAX: usize = 1024 * 1024;

/// Idle time after which a response's body is given up, and its actor stopped.
pub const BODY_IDLE_MAX: Duration = Duration::from_secs(30);

/// Time that a guest has at least to finish after its body is read, where its deadline leaves less.
pub const AFTER_BODY_MIN: Duration = Duration::from_secs(1);

/// Longest time that a response's body may take in all.
pub const BODY_TOTAL_MAX: Duration = Duration::from_secs(3_600);

/// How long a receiver that is behind the sender's state waits before it refuses (D8).
pub const STATE_WAIT_MAX: Duration = Duration::from_millis(500);

/// Calls that may wait so at once.
pub const STATE_WAITERS_MAX: usize = 256;

/// Age of the copy of the lattice's state beyond which calls from and to other hosts are refused (D8).
pub const STATE_AGE_MAX: Duration = Duration::from_secs(600);

/// Longest time that the first instance of an actor may take to be made, before the actor counts as started.
pub const WARM_MAX: Duration = Duration::from_secs(10);

/// Routes that are tried for one call before its last refusal is given back.
pub const ROUTE_ATTEMPTS_MAX: usize = 4;
