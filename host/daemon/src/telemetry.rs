//! What the process tells of itself beside its log: the admin endpoint, and traces and metrics for a collector.
//!
//! Everything here is off unless it was asked for, and costs nothing then. What was asked for runs on a thread of its own,
//! so that neither a collector that hangs nor somebody who reads slowly takes time from the host or its guests; spans go
//! through a bounded queue, and what does not fit is dropped.

mod collector;
mod meter;
mod options;
mod tracer;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use trellis_host_core::{Host, Tracer};

use crate::admin::{self, AdminError, Listening, Subject};
use collector::Collector;
pub use options::{OtlpOptions, TelemetryOptions};
use tracer::OtlpTracer;

/// Spans that wait to be sent, at most. Those of about a second at a few thousand requests, each with a few calls.
const SPANS_QUEUED_MAX: usize = 16 * 1024;

/// Spans in one request to the collector.
const SPANS_SENT_MAX: usize = 1024;

/// Longest time for which a span waits to be sent.
const SPAN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Time for the last spans and metrics when the process ends.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Why what was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The thread cannot be made.
    #[error("the thread for telemetry cannot be started")]
    Thread(#[source] std::io::Error),
    /// The admin endpoint cannot listen.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The way to the collector cannot be set up.
    #[error("traces and metrics cannot be sent: {reason}")]
    Otlp {
        /// Why.
        reason: String,
    },
}

/// What the process tells of itself, under way. Dropped, it stops at once.
#[derive(Debug, Default)]
pub struct Telemetry {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    runtime: Option<Runtime>,
    subject: Arc<Subject>,
    admin: Option<Listening>,
    otlp: Option<Otlp>,
    cancel: CancellationToken,
}

#[derive(Debug)]
struct Otlp {
    provider: SdkTracerProvider,
    tracer: Arc<OtlpTracer>,
    collector: Collector,
    resource: Resource,
    options: OtlpOptions,
}

impl Telemetry {
    /// Begins what was asked for, of a host with this key in this lattice. Call it on the runtime of the host's guests.
    ///
    /// # Errors
    /// [`TelemetryError`]. Nothing is left running.
    pub async fn start(
        options: &TelemetryOptions,
        host: &str,
        lattice: &str,
    ) -> Result<Self, TelemetryError> {
        if options.admin.is_none() && options.otlp.is_none() {
            return Ok(Self::default());
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        // In its place before anything can fail: a runtime must not be dropped where others run.
        let mut running = Running {
            subject: Arc::new(Subject::new(Handle::current())),
            admin: None,
            otlp: None,
            cancel: CancellationToken::new(),
            runtime: None,
        };
        let handle = running.runtime.insert(runtime).handle().clone();
        if let Some(address) = options.admin {
            let listener = admin::bind(address).await?;
            let subject = Arc::clone(&running.subject);
            running.admin = Some(admin::listen(listener, subject, &handle)?);
        }
        if let Some(otlp) = &options.otlp {
            running.otlp = Some(Otlp::start(otlp, host, lattice, &handle)?);
        }
        Ok(Self {
            running: Some(running),
        })
    }

    /// Who makes spans, where they are asked for.
    pub fn tracer(&self) -> Option<Arc<dyn Tracer>> {
        let tracer = &self.running.as_ref()?.otlp.as_ref()?.tracer;
        Some(Arc::clone(tracer) as Arc<dyn Tracer>)
    }

    /// Where the admin endpoint listens, where it was asked for.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        Some(self.running.as_ref()?.admin.as_ref()?.address())
    }

    /// Tells of this host from now on. It is not kept alive by that.
    pub fn watch(&self, host: &Arc<Host>) {
        let Some(running) = &self.running else {
            return;
        };
        running.subject.set(host);
        if let (Some(otlp), Some(runtime)) = (&running.otlp, &running.runtime) {
            runtime.spawn(meter::run(
                otlp.collector.clone(),
                otlp.options.clone(),
                otlp.resource.clone(),
                Arc::clone(&running.subject),
                running.cancel.clone(),
            ));
        }
    }

    /// From now on the host is not ready, because it is stopping.
    pub fn stopping(&self) {
        if let Some(running) = &self.running {
            running.subject.stopping();
        }
    }

    /// Sends what is left, within a bounded time, and stops.
    pub async fn stop(mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.cancel.cancel();
        if let Some(otlp) = &running.otlp {
            let provider = otlp.provider.clone();
            let flush = tokio::task::spawn_blocking(move || {
                // An error says that not everything was sent in time, which the collector's own log line has said.
                let _ = provider.shutdown_with_timeout(FLUSH_MAX);
            });
            let _ = tokio::time::timeout(FLUSH_MAX * 2, flush).await;
        }
    }
}

impl Otlp {
    fn start(
        options: &OtlpOptions,
        host: &str,
        lattice: &str,
        runtime: &Handle,
    ) -> Result<Self, TelemetryError> {
        let failed = |reason: String| TelemetryError::Otlp { reason };
        let collector = Collector::new(options, runtime.clone()).map_err(failed)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.clone())
            .with_endpoint(options.url("/v1/traces"))
            .with_protocol(Protocol::HttpBinary)
            // Whoever tries again holds up what comes after. The next batch is the next attempt.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_QUEUED_MAX)
            .with_max_export_batch_size(SPANS_SENT_MAX)
            .with_scheduled_delay(SPAN_WAIT_MAX)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder()
            .with_service_name(options.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", lattice.to_owned()),
                KeyValue::new("service.instance.id", host.to_owned()),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                options.sampling,
            ))))
            .with_resource(resource.clone())
            .build();
        tracing::info!(
            host_id = host,
            endpoint = options.endpoint(),
            sampling = options.sampling,
            "traces and metrics are sent to a collector"
        );
        Ok(Self {
            tracer: Arc::new(OtlpTracer::new(&provider)),
            provider,
            collector,
            resource,
            options: options.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it is not allowed where this may be called, and nothing on it is worth it.
            runtime.shutdown_background();
        }
    }
}
