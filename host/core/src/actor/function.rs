//! A function of a custom interface, called on an actor by values whose types are met at run time.

use std::sync::Arc;

use bytes::Bytes;
use trellis_protocol::shape::FunctionShape;
use trellis_protocol::{Refusal, RefusalCode};
use wasmtime::component::Val;

use super::Actor;
use super::instance::{Deadline, State};
use super::stop::refusal_of;
use crate::invocation::{Invocation, deadline_exceeded};
use crate::router::Router;
use crate::value::{decode_params, encode_result};

impl Actor {
    /// Calls a function and gives back its encoded result.
    ///
    /// # Errors
    /// `unknown-operation` and `type-mismatch` where caller and actor do not mean the same function; `bad-payload`; what
    /// admission refuses; why the guest stopped.
    pub(crate) async fn call(
        self: &Arc<Self>,
        router: &Arc<Router>,
        invocation: Invocation,
    ) -> Result<Bytes, Refusal> {
        let operation = &invocation.operation;
        let Some(export) = self
            .prepared
            .export(&operation.interface, &operation.function)
        else {
            return Err(Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{}` does not export `{operation}`", self.id),
            ));
        };
        if invocation.type_hash != export.type_hash {
            return Err(Refusal::new(
                RefusalCode::TypeMismatch,
                format!(
                    "`{}` knows `{operation}` by another type ({:016x}) than its caller ({:016x})",
                    self.id, export.type_hash, invocation.type_hash
                ),
            )
            .with_remedy("build both against the same version of the interface"));
        }
        let _admitted = self
            .admission
            .enter(invocation.depth, invocation.deadline, &invocation.cancel)
            .await?;
        let params = decode_params(&export.shape, &invocation.payload)?;
        let (deadline, cancel) = (invocation.deadline, invocation.cancel.clone());
        let run = async {
            let mut store = State::store(self, router, &invocation, Deadline::new(deadline));
            let mut results = vec![Val::Bool(false); usize::from(export.shape.result().is_some())];
            let called = match self.prepared.pre.instantiate_async(&mut store).await {
                Ok(instance) => match instance.get_func(&mut store, export.index) {
                    Some(function) => function.call_async(&mut store, &params, &mut results).await,
                    None => Err(wasmtime::Error::msg("the export is not a function")),
                },
                Err(error) => Err(error),
            };
            called.map_err(|error| refusal_of(&self.id, error, store.data()))?;
            encode(&export.shape, &results)
        };
        tokio::select! {
            biased;
            result = run => result,
            () = cancel.cancelled() => Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone")),
            () = tokio::time::sleep_until(deadline.into()) => Err(deadline_exceeded()),
        }
    }

    /// The shape of a function that can be called on the actor, for callers that write its parameters as text.
    pub(crate) fn shape_of(&self, interface: &str, function: &str) -> Option<Arc<FunctionShape>> {
        self.prepared
            .export(interface, function)
            .map(|export| Arc::clone(&export.shape))
    }
}

fn encode(shape: &FunctionShape, results: &[Val]) -> Result<Bytes, Refusal> {
    encode_result(shape, results).map(Bytes::from)
}
