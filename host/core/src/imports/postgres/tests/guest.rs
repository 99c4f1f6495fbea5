//! A component that is given one value by `query` and gives it back as a parameter, written by hand.

use trellis_protocol::shape::FunctionShape;
use trellis_protocol::value;
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, MemArg, MemorySection, MemoryType,
    Module, TypeSection, ValType,
};
use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Engine, Store};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use super::super::*;
use crate::value::{decode_result, encode_params};

pub(super) const DIRECTORY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../interfaces/wit/wasmcloud-postgres"
);

const WORLD: &str = "package test:guest;\n\
                     world guest { import wasmcloud:postgres/query@0.1.1-draft; export run: func(); }";

/// Where results are put, and where what is allocated begins.
const RESULT: i32 = 1024;
const HEAP: i32 = 4096;

/// The guest with `query` bound in one way or the other.
pub(super) struct Guest {
    store: Store<Carried>,
    instance: Instance,
}

/// What the guest is given, and what it gave back, as bytes of the lattice.
#[derive(Default)]
struct Carried {
    given: Vec<u8>,
    taken: Vec<u8>,
}

impl Guest {
    pub(super) fn typed() -> Self {
        Self::bound(|linker| {
            linker.instance(query::INTERFACE)?.func_wrap(
                "query",
                |mut store, (sql, params): (String, Vec<PgValue>)| {
                    let carried: &mut Carried = store.data_mut();
                    let answer: Result<Vec<ResultRow>, QueryError> = match &*sql {
                        "give" => value::decode(&carried.given)?,
                        _ => {
                            carried.taken = value::encode(&(&*sql, &*params))?;
                            Ok(vec![])
                        }
                    };
                    Ok((answer,))
                },
            )
        })
    }

    pub(super) fn dynamic() -> Self {
        let shape: FunctionShape = super::query_shape();
        Self::bound(|linker| {
            linker.instance(query::INTERFACE)?.func_new(
                "query",
                move |mut store, _, params, results| {
                    let carried: &mut Carried = store.data_mut();
                    results[0] = match &params[0] {
                        Val::String(sql) if sql == "give" => {
                            decode_result(&shape, &carried.given)?.expect("a result")
                        }
                        _ => {
                            carried.taken = encode_params(&shape, params)?;
                            Val::Result(Ok(Some(Box::new(Val::List(vec![])))))
                        }
                    };
                    Ok(())
                },
            )
        })
    }

    fn bound(bind: impl FnOnce(&mut Linker<Carried>) -> wasmtime::Result<()>) -> Self {
        let engine = Engine::default();
        let component = component(&engine);
        let mut linker = Linker::new(&engine);
        bind(&mut linker).expect("the function can be bound");
        let mut store = Store::new(&engine, Carried::default());
        let instance = linker
            .instantiate(&mut store, &component)
            .expect("the guest's types are those of the binding");
        Self { store, instance }
    }

    /// Gives the guest an encoded result, and has back the encoded parameters that it made of the first value of it.
    pub(super) fn pass(&mut self, given: &[u8]) -> Vec<u8> {
        self.store.data_mut().given = given.to_vec();
        let run = self
            .instance
            .get_typed_func::<(), ()>(&mut self.store, "run")
            .expect("the guest has it");
        run.call(&mut self.store, ()).expect("the guest runs");
        std::mem::take(&mut self.store.data_mut().taken)
    }
}

/// Links a component that imports all of `query` and `prepared` with the host's own functions.
pub(super) fn links_with(link: impl FnOnce(&mut Linker<State>) -> wasmtime::Result<()>) {
    let engine = Engine::default();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(DIRECTORY).expect("the WIT parses");
    let world = resolve
        .select_world(&[package], Some("imports"))
        .expect("it has that world");
    let module =
        wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    let component = encoded(&engine, module, &resolve, world);
    let mut linker = Linker::new(&engine);
    link(&mut linker).expect("the functions can be bound");
    linker
        .instantiate_pre(&component)
        .expect("the component's types are those of the host");
}

fn component(engine: &Engine) -> Component {
    let mut resolve = Resolve::default();
    resolve.push_path(DIRECTORY).expect("the WIT parses");
    let package = resolve
        .push_str("guest.wit", WORLD)
        .expect("the world parses");
    let world = resolve
        .select_world(&[package], None)
        .expect("there is one world");
    encoded(engine, module(), &resolve, world)
}

fn encoded(
    engine: &Engine,
    mut module: Vec<u8>,
    resolve: &Resolve,
    world: wit_parser::WorldId,
) -> Component {
    wit_component::embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8)
        .expect("the module takes its metadata");
    let component = ComponentEncoder::default()
        .module(&module)
        .expect("the module is one")
        .encode()
        .expect("the component encodes");
    Component::new(engine, component).expect("the component compiles")
}

/// `query("give", [])`, and `query("take", [v])` with the value in the first column of the first row.
fn module() -> Vec<u8> {
    let (i32_, at) = (ValType::I32, |offset| MemArg {
        offset,
        align: 2,
        memory_index: 0,
    });
    let mut types = TypeSection::new();
    types.ty().function([i32_; 5], []);
    types.ty().function([i32_; 4], [i32_]);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import(query::INTERFACE, "query", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(1).function(2);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 16,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    globals.global(
        GlobalType {
            val_type: i32_,
            mutable: true,
            shared: false,
        },
        &ConstExpr::i32_const(HEAP),
    );
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("cabi_realloc", ExportKind::Func, 1);
    exports.export("run", ExportKind::Func, 2);
    // What is allocated is never freed while the guest runs, and nothing is ever enlarged.
    let mut realloc = Function::new([(1, i32_)]);
    realloc
        .instructions()
        .global_get(0)
        .local_get(2)
        .i32_add()
        .i32_const(1)
        .i32_sub()
        .i32_const(0)
        .local_get(2)
        .i32_sub()
        .i32_and()
        .local_tee(4)
        .local_get(3)
        .i32_add()
        .global_set(0)
        .local_get(4)
        .end();
    let mut run = Function::new([]);
    run.instructions()
        .i32_const(HEAP)
        .global_set(0)
        .i32_const(0)
        .i32_const(4)
        .i32_const(8)
        .i32_const(0)
        .i32_const(RESULT)
        .call(0)
        .i32_const(4)
        .i32_const(4)
        // The rows, the first one's columns, the first one's value behind its name.
        .i32_const(RESULT)
        .i32_load(at(4))
        .i32_load(at(0))
        .i32_const(8)
        .i32_add()
        .i32_const(1)
        .i32_const(RESULT)
        .call(0)
        .end();
    let mut code = CodeSection::new();
    code.function(&realloc).function(&run);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), *b"givetake");
    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&functions)
        .section(&memories)
        .section(&globals)
        .section(&exports)
        .section(&code)
        .section(&data);
    module.finish()
}
