//! The WebAssembly engine: how components are compiled, where instances live, and how guests share the processor.
//!
//! One engine serves a host. Instances come from a pool whose slots are reserved up front, so that starting one is a
//! matter of microseconds; where the address space or the memory of a small device does not permit the pool, a smaller
//! one is tried, and in the end instances are allocated on demand.

mod cache;
mod cpu;
mod memory;
mod ticker;

use std::path::Path;
use std::sync::Arc;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

pub use cache::{CacheError, CompileCache};
pub(crate) use cpu::{CpuShare, GiveUp, SliceClock};
pub(crate) use memory::{InstanceLimits, MemoryBudget};
pub(crate) use ticker::{GuestRunning, Ticker};

use crate::limits::{
    CORE_INSTANCES_PER_COMPONENT_MAX, INSTANCES_MAX, INSTANCES_MIN, MEMORY_BYTES_MAX,
    TABLE_ELEMENTS_MAX,
};

/// Why the engine could not be made, or a component not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No configuration works on this machine.
    #[error("the WebAssembly engine cannot be set up on this machine")]
    Setup(#[source] wasmtime::Error),
    /// The bytes are not a component that this engine takes.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// The cache of compiled components cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The engine and everything that all guests of a host share.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    cache: Option<Arc<CompileCache>>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) cpu: Arc<CpuShare>,
    pub(crate) memory: Arc<MemoryBudget>,
    instances: u32,
}

impl Engine {
    /// Makes the engine, with compiled components kept in `cache_dir` where one is given.
    ///
    /// # Errors
    /// [`EngineError::Setup`] where not even on-demand allocation works; [`EngineError::Cache`] where the directory
    /// cannot be made private to this user.
    pub fn new(cache_dir: Option<&Path>) -> Result<Self, EngineError> {
        let memory = Arc::new(MemoryBudget::of_this_machine());
        let wanted = instances_for(memory.limit_bytes());
        let (inner, instances) = make(wanted)?;
        let cache = match cache_dir {
            Some(dir) => Some(Arc::new(CompileCache::open(dir, &inner)?)),
            None => None,
        };
        let ticker = Arc::new(Ticker::start(inner.weak()).map_err(|error| {
            EngineError::Setup(wasmtime::Error::msg(format!(
                "the epoch thread cannot be started: {error}"
            )))
        })?);
        Ok(Self {
            inner,
            cache,
            ticker,
            cpu: Arc::new(CpuShare::of_this_machine()),
            memory,
            instances,
        })
    }

    /// How many instances the host admits at once.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Compiles a component, or loads it from the cache. May take seconds: call it where blocking is allowed.
    ///
    /// `digest` is the content hash of the claims, which leaves out the claims themselves: signing again does not
    /// compile again. `begins` is called where the compiler is needed.
    ///
    /// # Errors
    /// [`EngineError::Compile`] where the bytes are no valid component. A cache that fails is logged and done without.
    pub(crate) fn compile(
        &self,
        digest: &str,
        bytes: &[u8],
        begins: impl FnOnce(),
    ) -> Result<(wasmtime::component::Component, CompileOrigin), EngineError> {
        if let Some(component) = self
            .cache
            .as_ref()
            .and_then(|cache| cache.load(digest, &self.inner))
        {
            return Ok((component, CompileOrigin::Cache));
        }
        begins();
        let component = wasmtime::component::Component::new(&self.inner, bytes)
            .map_err(|error| EngineError::Compile(format!("{error:#}")))?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(digest, &component)
        {
            tracing::warn!(%error, digest, "a compiled component was not cached");
        }
        Ok((component, CompileOrigin::Compiler))
    }
}

/// Where a compiled component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileOrigin {
    /// It was compiled now.
    Compiler,
    /// It was compiled before and loaded.
    Cache,
}

/// One instance for each 4 MiB of memory, within bounds: a small device gets a small pool.
fn instances_for(memory_bytes: usize) -> u32 {
    let by_memory = u32::try_from(memory_bytes / (4 * 1024 * 1024)).unwrap_or(u32::MAX);
    by_memory.clamp(INSTANCES_MIN, INSTANCES_MAX)
}

fn make(wanted: u32) -> Result<(wasmtime::Engine, u32), EngineError> {
    let mut instances = wanted;
    loop {
        match wasmtime::Engine::new(&config(Some(instances))) {
            Ok(engine) => return Ok((engine, instances)),
            Err(error) if instances > INSTANCES_MIN => {
                tracing::debug!(instances, %error, "the instance pool does not fit, trying half of it");
                instances = (instances / 2).max(INSTANCES_MIN);
            }
            Err(error) => {
                tracing::info!(%error, "instances are allocated on demand: no pool fits this machine");
                return wasmtime::Engine::new(&config(None))
                    .map(|engine| (engine, INSTANCES_MIN))
                    .map_err(EngineError::Setup);
            }
        }
    }
}

/// The configuration for a pool of so many instances, or for allocation on demand.
fn config(pool: Option<u32>) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Every call is then a plain fibre call. WASI 0.3 needs it; what it costs here was not worth paying for yet.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16))
        .async_stack_size(2 * 1024 * 1024)
        .max_wasm_stack(512 * 1024)
        .cranelift_opt_level(wasmtime::OptLevel::Speed);
    match pool {
        Some(instances) => {
            let mut pooling = PoolingAllocationConfig::new();
            pooling
                .total_component_instances(instances)
                .total_core_instances(instances.saturating_mul(4))
                .total_memories(instances)
                .total_tables(instances.saturating_mul(4))
                .total_stacks(instances)
                .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
                .max_memories_per_component(4)
                .max_tables_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
                .max_component_instance_size(4 * 1024 * 1024)
                .max_core_instance_size(4 * 1024 * 1024)
                .table_elements(TABLE_ELEMENTS_MAX)
                .max_memory_size(MEMORY_BYTES_MAX)
                // Pages below these sizes are cleared by hand when a slot is used again, which is far cheaper than
                // giving them back and faulting them in. It is paid only for slots that were used.
                .linear_memory_keep_resident(256 * 1024)
                .table_keep_resident(16 * 1024)
                .async_stack_keep_resident(32 * 1024)
                .max_unused_warm_slots(64)
                .pagemap_scan(Enabled::Auto);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        }
        None => {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_device_gets_a_small_pool_and_a_large_one_the_full_pool() {
        assert_eq!(instances_for(0), INSTANCES_MIN);
        assert_eq!(instances_for(512 * 1024 * 1024), 128);
        assert_eq!(instances_for(usize::MAX), INSTANCES_MAX);
    }
}
