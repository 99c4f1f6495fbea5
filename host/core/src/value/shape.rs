//! From wasmtime's types to the protocol's shapes.

use trellis_protocol::shape::{FunctionShape, SHAPE_DEPTH_MAX, Shape};
use wasmtime::component::types::{ComponentFunc, Type};

/// Why a function cannot be called over the lattice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// The type cannot travel in a value.
    #[error("{0} cannot travel between actors")]
    Type(&'static str),
    /// A handle to a resource, for which custom interfaces have no way yet.
    #[error("resources in custom interfaces cannot travel between actors yet")]
    Resource,
    /// The type nests too deep.
    #[error("a type nests deeper than {SHAPE_DEPTH_MAX}")]
    TooDeep,
    /// More than one result, which today's WIT cannot say.
    #[error("a function has more than one result")]
    Results,
}

/// The shape of a function as it stands in a component.
pub(crate) fn function_shape(function: &ComponentFunc) -> Result<FunctionShape, Unsupported> {
    function_shape_with(function, Handles::Refused)
}

/// The shape of a function that is served by typed bindings, and so may pass handles.
///
/// # Errors
/// [`Unsupported`], for every other type that cannot travel.
pub(crate) fn typed_function_shape(function: &ComponentFunc) -> Result<FunctionShape, Unsupported> {
    function_shape_with(function, Handles::Passed)
}

/// Whether handles have a shape.
#[derive(Clone, Copy)]
enum Handles {
    Refused,
    Passed,
}

fn function_shape_with(
    function: &ComponentFunc,
    handles: Handles,
) -> Result<FunctionShape, Unsupported> {
    if function.async_() {
        return Err(Unsupported::Type("an `async` function's completion"));
    }
    let params = function
        .params()
        .map(|(name, ty)| Ok((name.to_owned(), shape(&ty, handles, SHAPE_DEPTH_MAX)?)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut results = function.results();
    let result = results
        .next()
        .map(|ty| shape(&ty, handles, SHAPE_DEPTH_MAX))
        .transpose()?;
    if results.next().is_some() {
        return Err(Unsupported::Results);
    }
    FunctionShape::new(params, result).map_err(|_| Unsupported::TooDeep)
}

fn shape(ty: &Type, handles: Handles, depth_left: usize) -> Result<Shape, Unsupported> {
    let left = depth_left.checked_sub(1).ok_or(Unsupported::TooDeep)?;
    let inner = |ty: Type| shape(&ty, handles, left);
    Ok(match ty {
        Type::Bool => Shape::Bool,
        Type::U8 => Shape::U8,
        Type::U16 => Shape::U16,
        Type::U32 => Shape::U32,
        Type::U64 => Shape::U64,
        Type::S8 => Shape::S8,
        Type::S16 => Shape::S16,
        Type::S32 => Shape::S32,
        Type::S64 => Shape::S64,
        Type::Float32 => Shape::F32,
        Type::Float64 => Shape::F64,
        Type::Char => Shape::Char,
        Type::String => Shape::String,
        Type::List(list) => Shape::list(inner(list.ty())?),
        Type::Option(option) => Shape::option(inner(option.ty())?),
        Type::Result(result) => Shape::result(
            result.ok().map(inner).transpose()?,
            result.err().map(inner).transpose()?,
        ),
        Type::Tuple(tuple) => Shape::Tuple(tuple.types().map(inner).collect::<Result<_, _>>()?),
        Type::Record(record) => Shape::Record(
            record
                .fields()
                .map(|field| Ok((field.name.to_owned(), inner(field.ty)?)))
                .collect::<Result<_, _>>()?,
        ),
        Type::Variant(variant) => Shape::Variant(
            variant
                .cases()
                .map(|case| Ok((case.name.to_owned(), case.ty.map(inner).transpose()?)))
                .collect::<Result<_, _>>()?,
        ),
        Type::Enum(names) => Shape::Enum(names.names().map(str::to_owned).collect()),
        Type::Flags(names) => Shape::Flags(names.names().map(str::to_owned).collect()),
        Type::Own(_) | Type::Borrow(_) => match handles {
            Handles::Passed => Shape::Handle,
            Handles::Refused => return Err(Unsupported::Resource),
        },
        Type::Map(_) => return Err(Unsupported::Type("a map")),
        Type::Future(_) => return Err(Unsupported::Type("a future")),
        Type::Stream(_) => return Err(Unsupported::Type("a stream")),
        Type::ErrorContext => return Err(Unsupported::Type("an error context")),
        Type::FixedLengthList(_) => return Err(Unsupported::Type("a list of fixed length")),
    })
}
