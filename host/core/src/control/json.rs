//! JSON for the values of WIT types, so that people can write arguments and read results.
//!
//! | WIT | JSON |
//! | --- | --- |
//! | `bool`, `string`, `char` | the same |
//! | integers | a number |
//! | floats | a number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `list<T>`, `tuple` | an array |
//! | `option<T>` | `null`, or the value; around a type that can itself be `null`, an array of none or one |
//! | `result<T, E>` | `{"ok": …}` or `{"err": …}`; `null` where there is no payload |
//! | `record` | an object with WIT's names |
//! | `variant` | `"case"`, or `{"case": payload}` |
//! | `enum` | `"case"` |
//! | `flags` | an array of names |
//!
//! The rules are the ones of the MessagePack encoding, where JSON has a way to say the same.

use serde_json::{Map, Number, Value};
use trellis_protocol::shape::{FunctionShape, Shape};
use wasmtime::component::Val;

/// Arguments in order, as a function takes them.
///
/// # Errors
/// A sentence that names the parameter and what it should be.
pub(super) fn to_params(function: &FunctionShape, args: &[Value]) -> Result<Vec<Val>, String> {
    let params = function.params();
    if params.len() != args.len() {
        let names: Vec<_> = params.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!(
            "the function takes {} arguments ({}), {} were given",
            params.len(),
            names.join(", "),
            args.len()
        ));
    }
    let pairs = params.iter().zip(args);
    pairs
        .map(|((name, shape), arg)| {
            to_val(shape, arg).map_err(|reason| format!("the argument `{name}` {reason}"))
        })
        .collect()
}

/// A result as JSON; `null` where the function has none.
pub(super) fn from_result(function: &FunctionShape, result: Option<&Val>) -> Value {
    match (function.result(), result) {
        (Some(shape), Some(val)) => from_val(shape, val),
        _ => Value::Null,
    }
}

/// The end of a sentence that began with what holds the value.
fn not(what: &str) -> String {
    format!("is not {what}, or holds something that is not")
}

fn integer<T: TryFrom<i128>>(value: &Value, what: &str) -> Result<T, String> {
    let number = value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| not(what))
}

fn float(value: &Value) -> Result<f64, String> {
    match value.as_str() {
        Some("NaN") => Ok(f64::NAN),
        Some("Infinity") => Ok(f64::INFINITY),
        Some("-Infinity") => Ok(f64::NEG_INFINITY),
        _ => value.as_f64().ok_or_else(|| not("a number")),
    }
}

fn array(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| not("an array"))
}

fn to_val(shape: &Shape, value: &Value) -> Result<Val, String> {
    Ok(match shape {
        Shape::Bool => Val::Bool(value.as_bool().ok_or_else(|| not("true or false"))?),
        Shape::U8 => Val::U8(integer(value, "a u8")?),
        Shape::U16 => Val::U16(integer(value, "a u16")?),
        Shape::U32 => Val::U32(integer(value, "a u32")?),
        Shape::U64 => Val::U64(integer(value, "a u64")?),
        Shape::S8 => Val::S8(integer(value, "an s8")?),
        Shape::S16 => Val::S16(integer(value, "an s16")?),
        Shape::S32 => Val::S32(integer(value, "an s32")?),
        Shape::S64 => Val::S64(integer(value, "an s64")?),
        // What is given in decimal is rounded to the nearest value of the type.
        Shape::F32 => Val::Float32(float(value)? as f32),
        Shape::F64 => Val::Float64(float(value)?),
        Shape::Char => {
            let mut characters = value.as_str().unwrap_or_default().chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) => Val::Char(character),
                _ => return Err(not("one character")),
            }
        }
        Shape::String => Val::String(value.as_str().ok_or_else(|| not("a string"))?.to_owned()),
        Shape::List(element) => Val::List(all(array(value)?.iter().map(|v| to_val(element, v)))?),
        Shape::Option(content) => Val::Option(option(content, value)?.map(Box::new)),
        Shape::Result { ok, err } => result(ok.as_deref(), err.as_deref(), value)?,
        Shape::Tuple(shapes) => {
            let values = array(value)?;
            if values.len() != shapes.len() {
                return Err(not(&format!("an array of {}", shapes.len())));
            }
            Val::Tuple(all(shapes.iter().zip(values).map(|(s, v)| to_val(s, v)))?)
        }
        Shape::Record(fields) => {
            let object = value.as_object().ok_or_else(|| not("an object"))?;
            if let Some(unknown) = object
                .keys()
                .find(|key| !fields.iter().any(|(name, _)| name == *key))
            {
                return Err(format!("has a field `{unknown}`, which its type has not"));
            }
            Val::Record(all(fields.iter().map(|(name, shape)| {
                // What may be null may be left out.
                let field = object.get(name).unwrap_or(&Value::Null);
                let val =
                    to_val(shape, field).map_err(|e| format!("has a field `{name}` that {e}"));
                Ok((name.clone(), val?))
            }))?)
        }
        Shape::Variant(cases) => variant(cases, value)?,
        Shape::Enum(names) => Val::Enum(one_of(names, value)?),
        Shape::Flags(names) => {
            Val::Flags(all(array(value)?.iter().map(|flag| one_of(names, flag)))?)
        }
        Shape::Handle => return Err("is a resource, which cannot be given from outside".to_owned()),
    })
}

fn all<T>(results: impl Iterator<Item = Result<T, String>>) -> Result<Vec<T>, String> {
    results.collect()
}

fn one_of(names: &[String], value: &Value) -> Result<String, String> {
    names
        .iter()
        .find(|name| value.as_str() == Some(name))
        .cloned()
        .ok_or_else(|| not(&format!("one of {}", names.join(", "))))
}

fn option(content: &Shape, value: &Value) -> Result<Option<Val>, String> {
    if !content.may_be_nil() {
        return (!value.is_null())
            .then(|| to_val(content, value))
            .transpose();
    }
    match array(value)?.as_slice() {
        [] => Ok(None),
        [value] => to_val(content, value).map(Some),
        _ => Err(not("an array of none or one")),
    }
}

fn result(ok: Option<&Shape>, err: Option<&Shape>, value: &Value) -> Result<Val, String> {
    let what = "an object with `ok` or `err`";
    let object = value.as_object().filter(|object| object.len() == 1);
    let (case, payload) = object
        .and_then(|object| object.iter().next())
        .ok_or_else(|| not(what))?;
    let of = |shape: Option<&Shape>| match shape {
        Some(shape) => to_val(shape, payload).map(|val| Some(Box::new(val))),
        None if payload.is_null() => Ok(None),
        None => Err(not("null, which stands for no payload")),
    };
    match case.as_str() {
        "ok" => Ok(Val::Result(Ok(of(ok)?))),
        "err" => Ok(Val::Result(Err(of(err)?))),
        _ => Err(not(what)),
    }
}

fn variant(cases: &[(String, Option<Shape>)], value: &Value) -> Result<Val, String> {
    let (name, payload) = match value {
        Value::String(name) => (name, None),
        Value::Object(object) if object.len() == 1 => object
            .iter()
            .next()
            .map(|(name, payload)| (name, Some(payload)))
            .ok_or_else(|| not("a case"))?,
        _ => return Err(not("a case, or an object of one case to its payload")),
    };
    let names = || {
        cases
            .iter()
            .map(|(n, _)| n.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (_, shape) = cases
        .iter()
        .find(|(case, _)| case == name)
        .ok_or_else(|| not(&format!("one of the cases {}", names())))?;
    match (shape, payload) {
        (Some(shape), Some(payload)) => Ok(Val::Variant(
            name.clone(),
            Some(Box::new(to_val(shape, payload)?)),
        )),
        (None, None) => Ok(Val::Variant(name.clone(), None)),
        (Some(_), None) => Err(format!("lacks the payload of the case `{name}`")),
        (None, Some(_)) => Err(format!(
            "has a payload for the case `{name}`, which takes none"
        )),
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or_else(
        || {
            Value::from(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Value::Number,
    )
}

/// Values come out of the decoder, so they are of their shape; one that is not becomes `null`.
fn from_val(shape: &Shape, val: &Val) -> Value {
    let payload = |shape: &Option<Box<Shape>>, val: &Option<Box<Val>>| match (shape, val) {
        (Some(shape), Some(val)) => from_val(shape, val),
        _ => Value::Null,
    };
    match (shape, val) {
        (_, Val::Bool(v)) => Value::from(*v),
        (_, Val::U8(v)) => Value::from(*v),
        (_, Val::U16(v)) => Value::from(*v),
        (_, Val::U32(v)) => Value::from(*v),
        (_, Val::U64(v)) => Value::from(*v),
        (_, Val::S8(v)) => Value::from(*v),
        (_, Val::S16(v)) => Value::from(*v),
        (_, Val::S32(v)) => Value::from(*v),
        (_, Val::S64(v)) => Value::from(*v),
        (_, Val::Float32(v)) => number(f64::from(*v)),
        (_, Val::Float64(v)) => number(*v),
        (_, Val::Char(v)) => Value::from(v.to_string()),
        (_, Val::String(v)) => Value::from(v.as_str()),
        (_, Val::Enum(name)) => Value::from(name.as_str()),
        (_, Val::Flags(names)) => names.iter().map(String::as_str).collect(),
        (Shape::List(element), Val::List(values)) => values
            .iter()
            .map(|value| from_val(element, value))
            .collect(),
        (Shape::Option(content), Val::Option(value)) => {
            let value = value.as_deref().map(|value| from_val(content, value));
            if content.may_be_nil() {
                Value::Array(value.into_iter().collect())
            } else {
                value.unwrap_or(Value::Null)
            }
        }
        (Shape::Result { ok, err }, Val::Result(result)) => {
            let (case, value) = match result {
                Ok(value) => ("ok", payload(ok, value)),
                Err(value) => ("err", payload(err, value)),
            };
            Value::Object(Map::from_iter([(case.to_owned(), value)]))
        }
        (Shape::Tuple(shapes), Val::Tuple(values)) => {
            let pairs = shapes.iter().zip(values);
            pairs.map(|(shape, value)| from_val(shape, value)).collect()
        }
        (Shape::Record(shapes), Val::Record(values)) => {
            let pairs = shapes.iter().zip(values);
            let fields =
                pairs.map(|((name, shape), (_, value))| (name.clone(), from_val(shape, value)));
            Value::Object(fields.collect())
        }
        (Shape::Variant(cases), Val::Variant(name, value)) => {
            let shape = cases.iter().find(|(case, _)| case == name);
            match (shape.and_then(|(_, shape)| shape.as_ref()), value) {
                (Some(shape), Some(value)) => {
                    Value::Object(Map::from_iter([(name.clone(), from_val(shape, value))]))
                }
                _ => Value::from(name.as_str()),
            }
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    fn function(shape: Shape) -> FunctionShape {
        FunctionShape::new(vec![("x".to_owned(), shape.clone())], Some(shape)).unwrap()
    }

    fn there_and_back(shape: Shape, value: Value) {
        let function = function(shape);
        let params = to_params(&function, std::slice::from_ref(&value)).unwrap();
        assert_eq!(from_result(&function, params.first()), value);
    }

    fn refused(shape: Shape, value: Value) -> String {
        to_params(&function(shape), &[value]).unwrap_err()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_kind_of_value_survives_the_way_there_and_back() {
        let record = Shape::Record(vec![
            ("a-b".to_owned(), Shape::U8),
            ("c".to_owned(), Shape::option(Shape::String)),
        ]);
        let variant = Shape::Variant(vec![
            ("none".to_owned(), None),
            ("some".to_owned(), Some(Shape::S64)),
        ]);
        for (shape, value) in [
            (Shape::Bool, json!(true)),
            (Shape::U64, json!(u64::MAX)),
            (Shape::S64, json!(i64::MIN)),
            (Shape::F64, json!(1.5)),
            (Shape::F64, json!("-Infinity")),
            (Shape::Char, json!("ä")),
            (Shape::list(Shape::U8), json!([0, 255])),
            (Shape::option(Shape::U8), json!(null)),
            (Shape::option(Shape::option(Shape::U8)), json!([null])),
            (Shape::option(Shape::option(Shape::U8)), json!([])),
            (Shape::result(Some(Shape::U8), None), json!({"ok": 1})),
            (Shape::result(Some(Shape::U8), None), json!({"err": null})),
            (
                Shape::Tuple(vec![Shape::U8, Shape::String]),
                json!([1, "x"]),
            ),
            (record, json!({"a-b": 1, "c": null})),
            (variant.clone(), json!("none")),
            (variant, json!({"some": -1})),
            (Shape::Enum(names(&["a", "b"])), json!("b")),
            (Shape::Flags(names(&["a", "b"])), json!(["a", "b"])),
        ] {
            there_and_back(shape, value);
        }
    }

    #[test]
    fn an_integer_is_held_to_its_type_on_both_sides() {
        for (value, fits) in [(-129, false), (-128, true), (127, true), (128, false)] {
            let params = to_params(&function(Shape::S8), &[json!(value)]);
            assert_eq!(params.is_ok(), fits, "{value}");
        }
        assert!(refused(Shape::U8, json!(1.5)).contains("`x` is not a u8"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let record = Shape::Record(vec![("a".to_owned(), Shape::U8)]);
        assert!(refused(record.clone(), json!({"a": 1, "b": 2})).contains("`b`"));
        assert!(refused(record, json!({})).contains("field `a`"));
        assert!(refused(Shape::Enum(names(&["a", "b"])), json!("c")).contains("a, b"));
        assert!(refused(Shape::Handle, json!(1)).contains("resource"));
        let none = FunctionShape::new(vec![], None).unwrap();
        assert!(
            to_params(&none, &[json!(1)])
                .unwrap_err()
                .contains("takes 0")
        );
    }

    #[test]
    fn a_function_without_a_result_gives_null() {
        let function = FunctionShape::new(vec![], None).unwrap();
        assert_eq!(from_result(&function, None), Value::Null);
    }
}
