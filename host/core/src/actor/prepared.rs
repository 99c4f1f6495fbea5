//! From bytes to something that can be instantiated in microseconds: verified, compiled, its imports served and its
//! exports known. Whatever is wrong with a component is found here, before it is ever called.

use std::collections::HashMap;
use std::sync::Arc;

use trellis_claims::{ClaimsError, InterfaceName, TrustRoots, UnixTime, VerifiedComponent};
use trellis_protocol::shape::FunctionShape;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::grants::{ImportKind, MissingGrants, classify};
use super::instance::State;
use crate::engine::{CompileOrigin, Engine, EngineError};
use crate::imports;
use crate::imports::messaging::handler;
use crate::value::{Unsupported, function_shape, typed_function_shape};

/// Why a component does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// Its claims are missing, forged, out of date or of nobody that is trusted.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// It does not compile.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It asks for what its claims do not grant.
    #[error("{0}")]
    NotGranted(MissingGrants),
    /// It imports something that is no interface.
    #[error(
        "the component imports `{import}`, which is no interface; wrap functions into an interface"
    )]
    Import {
        /// The import's name.
        import: String,
    },
    /// A function of a custom interface cannot be called over the lattice.
    #[error("`{operation}` cannot be called over the lattice: {reason}")]
    Unsupported {
        /// The function.
        operation: String,
        /// What is in the way.
        reason: Unsupported,
    },
    /// It needs more of the pool than a component may have, or an import in a version that is not served.
    #[error("the component cannot be instantiated here: {0}")]
    Instantiate(String),
    /// Its instances begin with more memory than they may have.
    #[error(
        "the component begins with {needed_bytes} bytes of memory, its limit is {limit_bytes}; start it with a larger `max_memory_limit`"
    )]
    Memory {
        /// What an instance needs at least.
        needed_bytes: usize,
        /// What it may have.
        limit_bytes: usize,
    },
}

/// Bytes of a page of linear memory, in which components state their needs.
const WASM_PAGE_BYTES: u64 = 64 * 1024;

impl PrepareError {
    /// A stable word for programs and audits.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Claims(error) => error.code(),
            Self::Engine(_) => "component-invalid",
            Self::NotGranted(_) => "grant-missing",
            Self::Import { .. } | Self::Unsupported { .. } => "component-unsupported",
            Self::Instantiate(_) => "component-unlinkable",
            Self::Memory { .. } => "memory-limit",
        }
    }
}

/// The engine with everything that actors have in common.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    linker: Arc<Linker<State>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// What is done to a component before it can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its claims are verified.
    Verifying,
    /// It is compiled. Skipped where it was compiled before.
    Compiling,
}

/// A component that can be called.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(super) pre: InstancePre<State>,
    pub(super) http: Option<ProxyPre<State>>,
    exports: HashMap<String, HashMap<String, Export>>,
    /// Bytes of linear memory without which no instance starts, at least.
    memory_bytes_min: usize,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("exports", &self.exports.keys())
            .finish_non_exhaustive()
    }
}

/// A function that others can call on the actor.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub(super) index: ComponentExportIndex,
    pub(super) shape: Arc<FunctionShape>,
    pub(super) type_hash: u64,
    pub(super) binding: Binding,
}

/// How an exported function is called. The bytes are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// With values whose types are met at run time.
    Dynamic,
    /// With a message: the function is `wasmcloud:messaging/handler#handle-message`, and of its type.
    Message,
}

impl Binding {
    fn of(interface: &str, function: &str, type_hash: u64) -> Self {
        let is_handler = handler::matches(interface)
            && function == "handle-message"
            && type_hash == handler::type_hash::HANDLE_MESSAGE;
        match is_handler {
            true => Self::Message,
            false => Self::Dynamic,
        }
    }
}

impl Runtime {
    /// Links what every actor gets.
    ///
    /// # Errors
    /// [`EngineError::Setup`] where two of those interfaces collide, which is a fault of this software.
    pub fn new(engine: Engine) -> Result<Self, EngineError> {
        let linker = imports::linker(engine.wasmtime()).map_err(EngineError::Setup)?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Verifies, compiles and links a component, and tells each stage when it begins. Blocks for as long as the compiler
    /// needs.
    ///
    /// # Errors
    /// [`PrepareError`], by cause. Claims are looked at before anything else is believed.
    pub(crate) fn prepare(
        &self,
        bytes: &[u8],
        trust: &TrustRoots,
        begins: impl Fn(Stage),
    ) -> Result<(VerifiedComponent, Prepared, CompileOrigin), PrepareError> {
        begins(Stage::Verifying);
        let verified = trellis_claims::verify_component(bytes, trust, UnixTime::now())?;
        let (component, origin) =
            self.engine
                .compile(&verified.content_hash.to_string(), bytes, || {
                    begins(Stage::Compiling);
                })?;
        let prepared = self.link(&component, &verified)?;
        Ok((verified, prepared, origin))
    }

    fn link(
        &self,
        component: &Component,
        verified: &VerifiedComponent,
    ) -> Result<Prepared, PrepareError> {
        let engine = self.engine.wasmtime();
        let ty = component.component_type();
        let mut linker = Linker::clone(&self.linker);
        let mut imported = Vec::new();
        for (name, import) in ty.imports(engine) {
            let interface = name.parse::<InterfaceName>().ok();
            let (Some(interface), ComponentItem::ComponentInstance(instance)) =
                (interface, import.ty)
            else {
                return Err(PrepareError::Import {
                    import: name.to_owned(),
                });
            };
            let does_something = instance
                .exports(engine)
                .any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
            if does_something {
                if classify(&interface) == ImportKind::Custom {
                    self.link_custom(&mut linker, name, &interface, &instance)?;
                }
                imported.push(interface);
            }
        }
        let mut exported = Vec::new();
        let mut exports = HashMap::new();
        for (name, export) in ty.exports(engine) {
            let (Ok(interface), ComponentItem::ComponentInstance(instance)) =
                (name.parse::<InterfaceName>(), export.ty)
            else {
                // A function at the root belongs to no interface, so nobody on the lattice can name it.
                continue;
            };
            // HTTP is called by its typed door and not by dynamic values.
            if interface.namespace() != "wasi" {
                exports.insert(
                    interface.without_version().to_string(),
                    self.exports_of(component, name, &instance)?,
                );
            }
            exported.push(interface);
        }
        if let Some(missing) = MissingGrants::of(
            imported.iter(),
            exported.iter(),
            &verified.claims.capabilities,
        ) {
            return Err(PrepareError::NotGranted(missing));
        }
        let unlinkable = |error: wasmtime::Error| PrepareError::Instantiate(format!("{error:#}"));
        let pre = linker.instantiate_pre(component).map_err(unlinkable)?;
        let serves_http = exported.iter().any(|e| {
            (e.namespace(), e.package(), e.interface()) == ("wasi", "http", "incoming-handler")
        });
        let http = serves_http
            .then(|| ProxyPre::new(pre.clone()))
            .transpose()
            .map_err(unlinkable)?;
        // Those of the largest memory: wasmtime does not tell the others', which are small in what tools make.
        let memory_bytes_min = component
            .resources_required()
            .and_then(|needs| needs.max_initial_memory_size)
            .and_then(|pages| usize::try_from(pages.saturating_mul(WASM_PAGE_BYTES)).ok())
            .unwrap_or(0);
        Ok(Prepared {
            pre,
            http,
            exports,
            memory_bytes_min,
        })
    }

    fn link_custom(
        &self,
        linker: &mut Linker<State>,
        name: &str,
        interface: &InterfaceName,
        instance: &ComponentInstance,
    ) -> Result<(), PrepareError> {
        let mut linked = linker
            .instance(name)
            .map_err(|error| PrepareError::Instantiate(format!("{error:#}")))?;
        for (function, item) in instance.exports(self.engine.wasmtime()) {
            let unsupported = |reason| PrepareError::Unsupported {
                operation: format!("{name}#{function}"),
                reason,
            };
            match item.ty {
                ComponentItem::ComponentFunc(ty) => {
                    let shape = function_shape(&ty).map_err(unsupported)?;
                    imports::custom::link(&mut linked, name, interface, function, shape)
                        .map_err(|error| PrepareError::Instantiate(format!("{error:#}")))?;
                }
                ComponentItem::Resource(_) => return Err(unsupported(Unsupported::Resource)),
                _ => {}
            }
        }
        Ok(())
    }

    fn exports_of(
        &self,
        component: &Component,
        name: &str,
        instance: &ComponentInstance,
    ) -> Result<HashMap<String, Export>, PrepareError> {
        let unknown = || PrepareError::Instantiate(format!("`{name}` is not where it was"));
        let (_, interface) = component.get_export(None, name).ok_or_else(unknown)?;
        let mut exports = HashMap::new();
        for (function, item) in instance.exports(self.engine.wasmtime()) {
            let unsupported = |reason| PrepareError::Unsupported {
                operation: format!("{name}#{function}"),
                reason,
            };
            match item.ty {
                ComponentItem::ComponentFunc(ty) => {
                    let shape = function_shape(&ty).map_err(unsupported)?;
                    let (_, index) = component
                        .get_export(Some(&interface), function)
                        .ok_or_else(unknown)?;
                    let type_hash = shape.type_hash();
                    exports.insert(
                        function.to_owned(),
                        Export {
                            index,
                            type_hash,
                            shape: Arc::new(shape),
                            binding: Binding::of(name, function, type_hash),
                        },
                    );
                }
                // A handle would die with the instance that gave it (D18).
                ComponentItem::Resource(_) => return Err(unsupported(Unsupported::Resource)),
                _ => {}
            }
        }
        Ok(exports)
    }
}

impl Prepared {
    /// Refuses a memory limit under which no instance would ever start (D13).
    ///
    /// # Errors
    /// [`PrepareError::Memory`].
    pub(crate) fn check_memory(&self, limit_bytes: usize) -> Result<(), PrepareError> {
        if self.memory_bytes_min <= limit_bytes {
            return Ok(());
        }
        Err(PrepareError::Memory {
            needed_bytes: self.memory_bytes_min,
            limit_bytes,
        })
    }

    /// The function behind an operation, whatever version of the interface the caller names: the type hash decides
    /// whether both mean the same.
    pub(super) fn export(&self, interface: &str, function: &str) -> Option<&Export> {
        let unversioned = interface.split('@').next().unwrap_or(interface);
        self.exports.get(unversioned)?.get(function)
    }

    /// The type of a function that the component imports, whatever version of the interface is named. Looked up anew each
    /// time.
    pub(super) fn import_shape(&self, interface: &str, function: &str) -> Option<FunctionShape> {
        let unversioned = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        let engine = self.pre.engine();
        let component = self.pre.component().component_type();
        let (_, import) = component
            .imports(engine)
            .find(|(name, _)| unversioned(name) == unversioned(interface))?;
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            return None;
        };
        match instance.get_export(engine, function)?.ty {
            ComponentItem::ComponentFunc(ty) => typed_function_shape(&ty).ok(),
            _ => None,
        }
    }

    pub(super) fn export_names(&self) -> impl Iterator<Item = String> + '_ {
        self.exports.iter().flat_map(|(interface, functions)| {
            functions
                .keys()
                .map(move |function| format!("{interface}#{function}"))
        })
    }
}
