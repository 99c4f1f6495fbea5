//! The protocol's byte vectors, held against the side of dynamic values.

use std::collections::HashMap;

use serde::Deserialize;
use trellis_protocol::RefusalCode;
use trellis_protocol::shape::{FunctionShape, Shape};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{ManglingAndAbi, Resolve};

use super::*;

const VECTORS: &str = include_str!("../../../../interfaces/protocol/vectors/values.json");
const WIT: &str = include_str!("../../../../interfaces/protocol/vectors/values.wit");

#[derive(Deserialize)]
struct Vectors {
    values: Vec<Vector>,
    parameters: Vec<Vector>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    function: String,
    hex: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    function: String,
    code: RefusalCode,
    hex: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).expect("the vectors are JSON")
}

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex")
}

type Functions = HashMap<String, Result<FunctionShape, Unsupported>>;

/// The functions of `values.wit` as wasmtime shows them in a component that imports them.
fn functions() -> Functions {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("values.wit", WIT).expect("the WIT parses");
    let interface = *resolve.packages[package]
        .interfaces
        .values()
        .next()
        .expect("one interface");
    imported(resolve, interface)
}

/// The functions of an interface of a directory of WIT, likewise.
pub(crate) fn functions_of(directory: &str, interface: &str) -> Functions {
    let mut resolve = Resolve::default();
    resolve.push_path(directory).expect("the WIT parses");
    let (interface, _) = resolve
        .interfaces
        .iter()
        .find(|(id, _)| resolve.id_of(*id).as_deref() == Some(interface))
        .expect("the interface is there");
    imported(resolve, interface)
}

fn imported(mut resolve: Resolve, interface: wit_parser::InterfaceId) -> Functions {
    let world = world_that_imports(&mut resolve, interface);
    let mut module = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the module takes its metadata");
    let component = ComponentEncoder::default()
        .module(&module)
        .expect("the module is one")
        .encode()
        .expect("the component encodes");
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("the component compiles");
    let ty = component.component_type();
    let mut functions = HashMap::new();
    for (_, import) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        for (name, item) in instance.exports(&engine) {
            if let ComponentItem::ComponentFunc(function) = item.ty {
                functions.insert(name.to_owned(), function_shape(&function));
            }
        }
    }
    functions
}

fn world_that_imports(
    resolve: &mut Resolve,
    interface: wit_parser::InterfaceId,
) -> wit_parser::WorldId {
    let name = resolve.id_of(interface).expect("the interface has a name");
    let world = format!("package test:importer;\nworld importer {{ import {name}; }}");
    let importer = resolve
        .push_str("world.wit", &world)
        .expect("the world parses");
    *resolve.packages[importer]
        .worlds
        .values()
        .next()
        .expect("one world")
}

/// A function whose only parameter, and result, is the type of a vector.
fn of_one(shape: &Shape) -> FunctionShape {
    FunctionShape::new(vec![("v".into(), shape.clone())], Some(shape.clone())).expect("a shape")
}

#[test]
fn every_vector_reads_and_writes_the_same_bytes_as_the_typed_side() {
    let functions = functions();
    let mut tested = 0;
    for vector in vectors().values {
        let function = match &functions[&vector.function] {
            Ok(function) => function,
            Err(Unsupported::Resource) => continue,
            Err(error) => panic!("{}: {error}", vector.name),
        };
        let shape = of_one(&function.params()[0].1);
        let expected = bytes(&vector.hex);
        let value = decode_result(&shape, &expected)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", vector.name))
            .expect("a value");
        let written = encode_result(&shape, &[value]).expect("it encodes");
        assert_eq!(written, expected, "{}", vector.name);
        tested += 1;
    }
    assert!(tested >= 40, "{tested} vectors were tested");
}

#[test]
fn every_parameter_list_reads_and_writes_the_same_bytes() {
    let functions = functions();
    for vector in vectors().parameters {
        let Some(Ok(function)) = functions.get(&vector.function) else {
            continue;
        };
        let expected = bytes(&vector.hex);
        let values = decode_params(function, &expected)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", vector.name));
        let written = encode_params(function, &values).expect("it encodes");
        assert_eq!(written, expected, "{}", vector.name);
    }
}

#[test]
fn whatever_the_typed_side_refuses_is_refused_with_the_same_code() {
    let functions = functions();
    let mut tested = 0;
    for refused in vectors().refused {
        let Ok(function) = &functions[&refused.function] else {
            continue;
        };
        let shape = of_one(&function.params()[0].1);
        let refusal = decode_result(&shape, &bytes(&refused.hex)).expect_err(&refused.name);
        assert_eq!(refusal.code, refused.code, "{}: {refusal}", refused.name);
        tested += 1;
    }
    assert!(tested >= 30, "{tested} vectors were tested");
}

#[test]
fn a_vector_with_any_byte_changed_or_missing_never_panics() {
    let functions = functions();
    for vector in vectors().values {
        let Ok(function) = &functions[&vector.function] else {
            continue;
        };
        let shape = of_one(&function.params()[0].1);
        let original = bytes(&vector.hex);
        for length in 0..original.len() {
            let _ = decode_result(&shape, &original[..length]);
        }
        for position in 0..original.len().min(64) {
            for value in 0..=255 {
                let mut changed = original.clone();
                changed[position] = value;
                let _ = decode_result(&shape, &changed);
            }
        }
    }
}
