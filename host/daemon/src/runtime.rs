//! The runtime on which guests and providers run. The host makes another one for its lattice by itself.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Fewest threads. With one alone, a guest that spins would stop everything else between two of its slices.
const THREADS_MIN: usize = 2;

/// Makes the runtime.
///
/// # Errors
/// Where the system gives no threads.
pub fn build() -> io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(processors.max(THREADS_MIN))
        .thread_name("trellis-guests")
        .enable_all()
        .build()
}
