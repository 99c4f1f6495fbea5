//! A provider of `trellis:relay/echo` as a process: what a call to a provider costs beyond the provider's own work.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::{
    Call, Link, LinkEnd, LinkError, LinkKey, Provider, ProviderFactory, ProviderSetup, Refusal,
    StartError,
};

/// Rust for the relay actor's interface.
mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../actors/relay/wit/echo"],
        interfaces: ["trellis:relay/echo@0.1.0"],
    });
}

/// Makes it.
struct Factory;

/// Has no state: every link leads to the same echo.
struct Echoing;

fn main() -> ExitCode {
    trellis_provider_sdk::process::main(Factory)
}

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "bench-echo"
    }

    fn serves(&self) -> &'static [&'static str] {
        &["trellis:relay/echo"]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, _: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        Ok(Arc::new(Echoing))
    }
}

#[async_trait]
impl Provider for Echoing {
    async fn link_put(&self, _: Link) -> Result<(), LinkError> {
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        wit::echo::dispatch(self, &call).await
    }

    async fn shutdown(&self, _: Duration) {}
}

#[async_trait]
impl wit::echo::Echo for Echoing {
    async fn echo(&self, _: &Call, data: ByteList) -> Result<ByteList, Refusal> {
        Ok(data)
    }
}
