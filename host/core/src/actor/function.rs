//! A function called on an actor: of a custom interface, by values whose types are met at run time, or the handler of
//! messages, by values of its own types.

use std::sync::Arc;

use bytes::Bytes;
use trellis_protocol::shape::FunctionShape;
use trellis_protocol::{Refusal, RefusalCode, value};
use wasmtime::Store;
use wasmtime::component::{Instance, Val};

use super::Actor;
use super::instance::{Deadline, State};
use super::prepared::{Binding, Export};
use super::stop::refusal_of;
use crate::imports::messaging::{Message, types};
use crate::invocation::Invocation;
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
        let params = Params::read(export, &invocation)?;
        let cancel = invocation.cancel.clone();
        let deadline = Deadline::of(self, invocation.deadline);
        let run = async {
            let mut store = State::store(self, router, &invocation, deadline.clone());
            let called = match self.prepared.pre.instantiate_async(&mut store).await {
                Ok(instance) => params.call(&mut store, &instance, export).await,
                Err(error) => Err(error),
            };
            called
                .map_err(|error| refusal_of(&self.id, error, store.data()))?
                .write(&export.shape)
        };
        tokio::select! {
            biased;
            result = run => result,
            () = cancel.cancelled() => Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone")),
            () = tokio::time::sleep_until(deadline.get().into()) => Err(deadline.exceeded()),
        }
    }

    /// The shape of a function that the actor calls, for those who watch it.
    pub(crate) fn import_shape(&self, interface: &str, function: &str) -> Option<FunctionShape> {
        self.prepared.import_shape(interface, function)
    }

    /// The shape of a function that can be called on the actor, for callers that write its parameters as text.
    pub(crate) fn shape_of(&self, interface: &str, function: &str) -> Option<Arc<FunctionShape>> {
        self.prepared
            .export(interface, function)
            .map(|export| Arc::clone(&export.shape))
    }
}

/// The parameters of a call, decoded.
enum Params {
    Dynamic(Vec<Val>),
    Message(Message),
}

/// What a call came to.
enum Results {
    Dynamic(Vec<Val>),
    Handled(Result<(), String>),
}

impl Params {
    fn read(export: &Export, invocation: &Invocation) -> Result<Self, Refusal> {
        let payload = &invocation.payload;
        match export.binding {
            Binding::Dynamic => decode_params(&export.shape, payload).map(Self::Dynamic),
            Binding::Message => {
                let (message,) =
                    value::decode::<(types::BrokerMessage,)>(payload).map_err(|error| {
                        let operation = &invocation.operation;
                        let message = format!("the parameters of `{operation}`: {error}");
                        Refusal::new(error.code(), message)
                    })?;
                Ok(Self::Message(message.into()))
            }
        }
    }

    async fn call(
        self,
        store: &mut Store<State>,
        instance: &Instance,
        export: &Export,
    ) -> wasmtime::Result<Results> {
        match self {
            Self::Dynamic(params) => {
                let mut results =
                    vec![Val::Bool(false); usize::from(export.shape.result().is_some())];
                let function = instance
                    .get_func(&mut *store, export.index)
                    .ok_or_else(|| wasmtime::Error::msg("the export is not a function"))?;
                function.call_async(store, &params, &mut results).await?;
                Ok(Results::Dynamic(results))
            }
            Self::Message(message) => {
                let handle = instance.get_typed_func::<(Message,), (Result<(), String>,)>(
                    &mut *store,
                    export.index,
                )?;
                let (handled,) = handle.call_async(store, (message,)).await?;
                Ok(Results::Handled(handled))
            }
        }
    }
}

impl Results {
    fn write(&self, shape: &FunctionShape) -> Result<Bytes, Refusal> {
        match self {
            Self::Dynamic(results) => encode_result(shape, results).map(Bytes::from),
            Self::Handled(handled) => value::encode(handled).map(Bytes::from).map_err(|error| {
                Refusal::new(error.code(), format!("the result of the call: {error}"))
            }),
        }
    }
}
