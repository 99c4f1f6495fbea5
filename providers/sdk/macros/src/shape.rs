//! WIT types as [`Shape`]s, which refuses what the lattice cannot carry.

use trellis_protocol::shape::{FunctionShape, SHAPE_DEPTH_MAX, Shape};
use wit_parser::{Function, Handle, Type, TypeDefKind, TypeId};

use crate::package::Package;

/// Most elements of a tuple, and most parameters of a function: what serde has tuples for.
pub(crate) const TUPLE_MAX: usize = 16;

/// The structure of a function. The error says what about it cannot be carried.
pub(crate) fn of_function(package: &Package, function: &Function) -> Result<FunctionShape, String> {
    if function.params.len() > TUPLE_MAX {
        return Err(format!("it has more than {TUPLE_MAX} parameters"));
    }
    let params = function
        .params
        .iter()
        .map(|param| Ok((param.name.clone(), of_type(package, &param.ty, 0)?)))
        .collect::<Result<_, String>>()?;
    let result = function
        .result
        .as_ref()
        .map(|ty| of_type(package, ty, 0))
        .transpose()?;
    FunctionShape::new(params, result).map_err(|error| error.to_string())
}

/// The structure of a type.
pub(crate) fn of_type(package: &Package, ty: &Type, depth: usize) -> Result<Shape, String> {
    if depth > SHAPE_DEPTH_MAX {
        return Err(format!("a type nests deeper than {SHAPE_DEPTH_MAX}"));
    }
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
        Type::F32 => Shape::F32,
        Type::F64 => Shape::F64,
        Type::Char => Shape::Char,
        Type::String => Shape::String,
        Type::ErrorContext => return Err(cannot_travel("an error context")),
        Type::Id(id) => of_definition(package, *id, depth + 1)?,
    })
}

fn cannot_travel(what: &str) -> String {
    format!("{what} cannot travel over the lattice yet")
}

fn of_definition(package: &Package, id: TypeId, depth: usize) -> Result<Shape, String> {
    let shape = |ty: &Type| of_type(package, ty, depth);
    let optional = |ty: &Option<Type>| ty.as_ref().map(shape).transpose();
    Ok(match &package.resolve.types[id].kind {
        TypeDefKind::Type(ty) => shape(ty)?,
        TypeDefKind::List(ty) => Shape::list(shape(ty)?),
        TypeDefKind::Option(ty) => Shape::option(shape(ty)?),
        TypeDefKind::Result(result) => Shape::result(optional(&result.ok)?, optional(&result.err)?),
        TypeDefKind::Tuple(tuple) if tuple.types.is_empty() || tuple.types.len() > TUPLE_MAX => {
            return Err(format!("a tuple has 1 to {TUPLE_MAX} elements"));
        }
        TypeDefKind::Tuple(tuple) => {
            Shape::Tuple(tuple.types.iter().map(shape).collect::<Result<_, _>>()?)
        }
        TypeDefKind::Record(record) => Shape::Record(
            record
                .fields
                .iter()
                .map(|field| Ok((field.name.clone(), shape(&field.ty)?)))
                .collect::<Result<_, String>>()?,
        ),
        TypeDefKind::Variant(variant) => Shape::Variant(
            variant
                .cases
                .iter()
                .map(|case| Ok((case.name.clone(), optional(&case.ty)?)))
                .collect::<Result<_, String>>()?,
        ),
        TypeDefKind::Enum(enumeration) => {
            Shape::Enum(enumeration.cases.iter().map(|c| c.name.clone()).collect())
        }
        TypeDefKind::Flags(flags) => {
            Shape::Flags(flags.flags.iter().map(|f| f.name.clone()).collect())
        }
        TypeDefKind::Handle(Handle::Own(resource) | Handle::Borrow(resource)) => {
            of_handle(package, *resource)?
        }
        TypeDefKind::Resource => of_handle(package, id)?,
        TypeDefKind::Future(_) => return Err(cannot_travel("a future")),
        TypeDefKind::Stream(_) => return Err(cannot_travel("a stream")),
        TypeDefKind::Map(..) => return Err(cannot_travel("a map")),
        TypeDefKind::FixedLengthList(..) => return Err(cannot_travel("a list of fixed length")),
        TypeDefKind::Unknown => return Err(cannot_travel("a type that is not resolved")),
    })
}

fn of_handle(package: &Package, resource: TypeId) -> Result<Shape, String> {
    let resource = package.target(resource);
    match package.owner(resource) {
        Some(interface) if package.serves(interface) => Ok(Shape::Handle),
        owner => {
            let interface = owner.and_then(|id| package.resolve.id_of(id));
            let name = package.resolve.types[resource].name.as_deref();
            Err(format!(
                "it passes a handle of the resource `{}` of `{}`, which is not among the listed interfaces: a \
                 resource travels only as a handle of the provider that serves it",
                name.unwrap_or("?"),
                interface.as_deref().unwrap_or("?"),
            ))
        }
    }
}
