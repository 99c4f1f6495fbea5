//! The epoch clock. It ticks only while guests run, so an idle host sleeps.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use wasmtime::EngineWeak;

use crate::limits::EPOCH_INTERVAL;

/// A thread that increments the engine's epoch while at least one [`GuestRunning`] lives.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    /// Whether the thread sleeps and must be woken by whoever makes `running` one.
    asleep: Mutex<bool>,
    wake: Condvar,
}

/// A guest that may be running: the clock ticks while it lives.
#[derive(Debug)]
pub(crate) struct GuestRunning(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("trellis-epoch".into())
            .spawn(move || tick(&engine, &of_thread))?;
        Ok(Self { shared })
    }

    pub(crate) fn guest(&self) -> GuestRunning {
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0 {
            let mut asleep = lock(&self.shared.asleep);
            if *asleep {
                *asleep = false;
                self.shared.wake.notify_one();
            }
        }
        GuestRunning(Arc::clone(&self.shared))
    }
}

impl Drop for GuestRunning {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // Wakes the thread once more, so that it sees that the engine is gone.
        *lock(&self.shared.asleep) = false;
        self.shared.wake.notify_one();
    }
}

fn tick(engine: &EngineWeak, shared: &Shared) {
    /// Ticks without a guest before the thread sleeps. Waking it costs a system call on the path of a request, so
    /// steady traffic with gaps should not pay it each time.
    const IDLE_TICKS: u32 = 200;
    let mut idle = 0;
    loop {
        thread::sleep(EPOCH_INTERVAL);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        engine.increment_epoch();
        drop(engine);
        if shared.running.load(Ordering::Acquire) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_TICKS {
            continue;
        }
        let mut asleep = lock(&shared.asleep);
        *asleep = true;
        while *asleep && shared.running.load(Ordering::Acquire) == 0 {
            asleep = shared
                .wake
                .wait(asleep)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *asleep = false;
        idle = 0;
    }
}

fn lock(mutex: &Mutex<bool>) -> std::sync::MutexGuard<'_, bool> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
