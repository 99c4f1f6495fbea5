//! Typed values of `wasmcloud:postgres`, held against dynamic ones and against a component's own types, case by case.

use trellis_protocol::shape::{FunctionShape, Shape};
use trellis_protocol::value;
use wasmtime::component::Val;

use super::*;
use crate::value::tests::functions_of;
use crate::value::{decode_params, decode_result, encode_params, encode_result};

mod guest;

fn function(interface: &str, name: &str) -> FunctionShape {
    functions_of(guest::DIRECTORY, interface)
        .remove(name)
        .expect("the function is there")
        .expect("its type can travel")
}

fn query_shape() -> FunctionShape {
    function(query::INTERFACE, "query")
}

/// The type of a parameter: `pg-value`.
fn value_shape(query: &FunctionShape) -> &Shape {
    match &query.params()[1].1 {
        Shape::List(value) => value,
        other => panic!("parameters are a list, not {other:?}"),
    }
}

/// Makes values of any type, no two alike.
struct Samples {
    next: u8,
    /// Whether lists and options have something in them.
    full: bool,
}

impl Samples {
    fn number(&mut self) -> u8 {
        self.next = self.next.wrapping_mul(37).wrapping_add(11);
        self.next
    }

    fn of(&mut self, shape: &Shape) -> Val {
        match shape {
            Shape::Bool => Val::Bool(self.number() > 127),
            Shape::U8 => Val::U8(self.number()),
            Shape::U32 => Val::U32(u32::from(self.number()) << 24),
            Shape::U64 => Val::U64(u64::from(self.number()) << 56),
            Shape::U16 => Val::U16(u16::from(self.number()) << 8),
            Shape::S8 => Val::S8(-100),
            Shape::S16 => Val::S16(-i16::from(self.number()) * 100),
            Shape::S32 => Val::S32(-i32::from(self.number())),
            Shape::S64 => Val::S64(i64::MIN + i64::from(self.number())),
            Shape::String => Val::String(format!("ü {}", self.number())),
            Shape::List(element) => {
                let length = if self.full { 3 } else { 0 };
                Val::List((0..length).map(|_| self.of(element)).collect())
            }
            Shape::Option(content) => Val::Option(match self.full {
                true => Some(Box::new(self.of(content))),
                false => None,
            }),
            Shape::Tuple(elements) => Val::Tuple(elements.iter().map(|e| self.of(e)).collect()),
            Shape::Record(fields) => Val::Record(
                fields
                    .iter()
                    .map(|(name, shape)| (name.clone(), self.of(shape)))
                    .collect(),
            ),
            Shape::Variant(cases) => {
                let at = usize::from(self.number()) % cases.len();
                self.case(&cases[at])
            }
            Shape::Enum(cases) => {
                Val::Enum(cases[usize::from(self.number()) % cases.len()].clone())
            }
            other => panic!("nothing here has the type {other:?}"),
        }
    }

    fn case(&mut self, (name, payload): &(String, Option<Shape>)) -> Val {
        let payload = payload.as_ref().map(|shape| Box::new(self.of(shape)));
        Val::Variant(name.clone(), payload)
    }
}

/// Values of each case of a variant, with something in them and without.
fn each_case(shape: &Shape) -> Vec<Val> {
    let Shape::Variant(cases) = shape else {
        panic!("{shape:?} is no variant");
    };
    let mut values = Vec::new();
    for full in [false, true] {
        let mut samples = Samples { next: 5, full };
        values.extend(cases.iter().map(|case| samples.case(case)));
    }
    values
}

fn result_of(value: &Val) -> Val {
    let entry = Val::Record(vec![
        ("column-name".to_owned(), Val::String("c".to_owned())),
        ("value".to_owned(), value.clone()),
    ]);
    let rows = Val::List(vec![
        Val::List(vec![entry.clone(), entry]),
        Val::List(vec![]),
    ]);
    Val::Result(Ok(Some(Box::new(rows))))
}

#[test]
fn a_value_of_each_case_has_the_same_bytes_typed_and_dynamic() {
    let query = query_shape();
    let cases = each_case(value_shape(&query));
    assert_eq!(cases.len(), 2 * 97);
    for case in cases {
        let params = [
            Val::String("SELECT".to_owned()),
            Val::List(vec![case.clone()]),
        ];
        let bytes = encode_params(&query, &params).expect("it encodes");
        let (sql, typed): (String, Vec<PgValue>) = value::decode(&bytes).expect("it decodes");
        let written = value::encode(&(&*sql, &*typed)).expect("it encodes");
        assert_eq!(written, bytes, "{case:?}");
        let read = decode_params(&query, &written).expect("it decodes");
        assert_eq!(read, params);

        let result = result_of(&case);
        let bytes = encode_result(&query, std::slice::from_ref(&result)).expect("it encodes");
        let typed: Result<Vec<ResultRow>, QueryError> = value::decode(&bytes).expect("it decodes");
        assert_eq!(
            value::encode(&typed).expect("it encodes"),
            bytes,
            "{case:?}"
        );
        assert_eq!(
            decode_result(&query, &bytes).expect("it decodes"),
            Some(result)
        );
    }
}

#[test]
fn errors_have_the_same_bytes_typed_and_dynamic() {
    fn same<T>(interface: &str, name: &str)
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let function = function(interface, name);
        let Some(Shape::Result { err: Some(err), .. }) = function.result() else {
            panic!("`{name}` has no error");
        };
        for error in each_case(err) {
            let result = Val::Result(Err(Some(Box::new(error))));
            let bytes = encode_result(&function, &[result]).expect("it encodes");
            let typed: T = value::decode(&bytes).expect("it decodes");
            assert_eq!(value::encode(&typed).expect("it encodes"), bytes);
        }
    }
    same::<Result<Vec<ResultRow>, QueryError>>(query::INTERFACE, "query");
    same::<Result<(), QueryError>>(query::INTERFACE, "query-batch");
    same::<Result<String, StatementPrepareError>>(prepared::INTERFACE, "prepare");
    same::<Result<u64, PreparedStatementExecError>>(prepared::INTERFACE, "exec");
}

#[test]
fn typed_and_dynamic_callers_know_the_functions_by_the_same_types() {
    for (interface, functions) in [
        (query::INTERFACE, query::FUNCTIONS),
        (prepared::INTERFACE, prepared::FUNCTIONS),
    ] {
        for known in functions {
            let shape = function(interface, known.name);
            let name = known.name;
            assert_eq!(shape.type_hash(), known.type_hash, "{interface}#{name}");
        }
    }
}

#[test]
fn a_component_gives_back_a_value_of_each_case_as_it_was_given() {
    let query = query_shape();
    let cases = each_case(value_shape(&query));
    let bytes: Vec<_> = cases
        .iter()
        .map(|case| encode_result(&query, &[result_of(case)]).expect("it encodes"))
        .collect();
    let mut typed = guest::Guest::typed();
    let mut dynamic = guest::Guest::dynamic();
    for (case, bytes) in cases.iter().zip(&bytes) {
        let taken = typed.pass(bytes);
        assert_eq!(taken, dynamic.pass(bytes), "{case:?}");
        let params = [
            Val::String("take".to_owned()),
            Val::List(vec![case.clone()]),
        ];
        assert_eq!(taken, encode_params(&query, &params).expect("it encodes"));
    }
}

#[test]
fn a_component_links_with_both_interfaces() {
    guest::links_with(link);
}

#[test]
fn only_the_end_of_a_call_stops_the_guest() {
    let refused = |code| {
        let refusal = Refusal::new(code, "so it is");
        answer::<(), _>(Err(refusal), unexpected_query)
    };
    for code in [RefusalCode::Cancelled, RefusalCode::DeadlineExceeded] {
        assert!(refused(code).is_err());
    }
    let (told,) = refused(RefusalCode::NoLink).expect("the guest goes on");
    assert_eq!(
        told,
        Err(QueryError::Unexpected("no-link: so it is".to_owned()))
    );
}
