//! The structure of WIT types, and the hash by which two ends know that they mean the same function (D17).
//!
//! Records travel as arrays, so a receiver that knows the fields in another order would read wrong values without
//! noticing. Each invocation therefore carries the hash of the function's type as its sender knows it, and a receiver
//! that knows it by another refuses with `type-mismatch`.
//!
//! # What is hashed
//!
//! The first eight bytes, big endian, of the SHA-256 of the text `trellis.shape.v1` and a zero byte, followed by the
//! function:
//!
//! - a function: the number of its parameters; for each its name and its type; 0 where it has no result, else 1 and the
//!   result's type. A method's first parameter is called `self`, as WIT has it.
//! - a type: one byte for its kind (its position in [`Shape`], from 1 for `bool`), then what that kind has:
//!   `list`, `option`: the type inside. `result`: for each of `ok` and `err` 0, or 1 and the type. `tuple`: the number of
//!   elements, and each type. `record`: the number of fields; for each its name and type. `variant`: the number of cases;
//!   for each its name, and 0, or 1 and the type. `enum`, `flags`: the number of names, and each name. All others:
//!   nothing.
//! - a number: four bytes, big endian. A name: its length in bytes as a number, and its bytes.
//!
//! Names of types are not hashed, nor is which resource a handle is of, nor whether it is owned or borrowed: the sides
//! do not all see them, and none of them changes a byte of a value. Aliases stand for what they name. A hash that
//! happened to be zero is one instead, since zero says HTTP, which has no such type.

use sha2::{Digest, Sha256};

use crate::limits::VALUE_DEPTH_MAX;

/// What precedes the function in what is hashed.
const DOMAIN: &[u8] = b"trellis.shape.v1\0";

/// The type hash of an HTTP request, whose type is fixed.
pub const TYPE_HASH_HTTP: u64 = 0;

/// Deepest nesting of a type. As deep as values go, so that no type passes whose values would be refused.
pub const SHAPE_DEPTH_MAX: usize = VALUE_DEPTH_MAX - 1;

/// The structure of a WIT type that a value over the lattice can have.
///
/// Streams, futures, maps and error contexts have no variant: they cannot travel in a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `bool`
    Bool,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `s8`
    S8,
    /// `s16`
    S16,
    /// `s32`
    S32,
    /// `s64`
    S64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// `string`
    String,
    /// `list<T>`; of `u8` it travels as binary.
    List(Box<Shape>),
    /// `option<T>`
    Option(Box<Shape>),
    /// `result<T, E>`, either of which may be missing.
    Result {
        /// The payload of `ok`.
        ok: Option<Box<Shape>>,
        /// The payload of `err`.
        err: Option<Box<Shape>>,
    },
    /// `tuple<…>`
    Tuple(Vec<Shape>),
    /// `record`: names and types of the fields.
    Record(Vec<(String, Shape)>),
    /// `variant`: names and payloads of the cases.
    Variant(Vec<(String, Option<Shape>)>),
    /// `enum`: names of the cases.
    Enum(Vec<String>),
    /// `flags`: the names.
    Flags(Vec<String>),
    /// `own<R>` or `borrow<R>` of any resource.
    Handle,
}

/// Why a function cannot be called over the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A type nests deeper than [`SHAPE_DEPTH_MAX`].
    #[error("a type nests deeper than {SHAPE_DEPTH_MAX}")]
    TooDeep,
}

/// The structure of a function's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionShape {
    params: Vec<(String, Shape)>,
    result: Option<Shape>,
}

impl Shape {
    /// `list` of a type.
    pub fn list(element: Shape) -> Self {
        Self::List(Box::new(element))
    }

    /// `option` of a type.
    pub fn option(content: Shape) -> Self {
        Self::Option(Box::new(content))
    }

    /// `result` of two types or none.
    pub fn result(ok: Option<Shape>, err: Option<Shape>) -> Self {
        Self::Result {
            ok: ok.map(Box::new),
            err: err.map(Box::new),
        }
    }

    /// Whether some value of this type is encoded as nil, so that an option around it must be an array (see
    /// [`crate::value`]).
    ///
    /// A loop and not a recursion, so that it may be asked of any type.
    pub fn may_be_nil(&self) -> bool {
        let mut nil = false;
        let mut shape = self;
        // Options alternate from the inside: nil or value, array, nil or value.
        while let Self::Option(content) = shape {
            nil = !nil;
            shape = content;
        }
        nil
    }

    /// Whether this is `list<u8>`, which is encoded as binary.
    pub fn is_byte_list(&self) -> bool {
        matches!(self, Self::List(element) if **element == Self::U8)
    }

    /// Whether the types nested in each other, this one included, are at most so many.
    fn fits(&self, depth_left: usize) -> bool {
        let Some(left) = depth_left.checked_sub(1) else {
            return false;
        };
        let fits = |shape: &Shape| shape.fits(left);
        match self {
            Self::List(content) | Self::Option(content) => content.fits(left),
            Self::Result { ok, err } => [ok, err]
                .into_iter()
                .flatten()
                .all(|shape| shape.fits(left)),
            Self::Tuple(elements) => elements.iter().all(fits),
            Self::Record(fields) => fields.iter().all(|(_, shape)| fits(shape)),
            Self::Variant(cases) => cases
                .iter()
                .filter_map(|(_, shape)| shape.as_ref())
                .all(fits),
            _ => true,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Bool => 1,
            Self::U8 => 2,
            Self::U16 => 3,
            Self::U32 => 4,
            Self::U64 => 5,
            Self::S8 => 6,
            Self::S16 => 7,
            Self::S32 => 8,
            Self::S64 => 9,
            Self::F32 => 10,
            Self::F64 => 11,
            Self::Char => 12,
            Self::String => 13,
            Self::List(_) => 14,
            Self::Option(_) => 15,
            Self::Result { .. } => 16,
            Self::Tuple(_) => 17,
            Self::Record(_) => 18,
            Self::Variant(_) => 19,
            Self::Enum(_) => 20,
            Self::Flags(_) => 21,
            Self::Handle => 22,
        }
    }

    fn feed(&self, hash: &mut Hash) {
        hash.byte(self.kind());
        match self {
            Self::List(content) | Self::Option(content) => content.feed(hash),
            Self::Result { ok, err } => {
                hash.optional(ok.as_deref());
                hash.optional(err.as_deref());
            }
            Self::Tuple(elements) => {
                hash.count(elements.len());
                elements.iter().for_each(|element| element.feed(hash));
            }
            Self::Record(fields) => {
                hash.count(fields.len());
                for (name, shape) in fields {
                    hash.name(name);
                    shape.feed(hash);
                }
            }
            Self::Variant(cases) => {
                hash.count(cases.len());
                for (name, payload) in cases {
                    hash.name(name);
                    hash.optional(payload.as_ref());
                }
            }
            Self::Enum(names) | Self::Flags(names) => {
                hash.count(names.len());
                names.iter().for_each(|name| hash.name(name));
            }
            _ => {}
        }
    }
}

impl FunctionShape {
    /// A function of these parameters and this result.
    ///
    /// # Errors
    /// [`ShapeError::TooDeep`]. Whoever builds shapes of types that others wrote bounds their own recursion as well, by
    /// [`SHAPE_DEPTH_MAX`].
    pub fn new(params: Vec<(String, Shape)>, result: Option<Shape>) -> Result<Self, ShapeError> {
        let mut shapes = params.iter().map(|(_, shape)| shape).chain(&result);
        if shapes.all(|shape| shape.fits(SHAPE_DEPTH_MAX)) {
            Ok(Self { params, result })
        } else {
            Err(ShapeError::TooDeep)
        }
    }

    /// What releasing a handle is called with: `[resource-drop]bucket` is a function of `self`, without a result.
    pub fn resource_drop() -> Self {
        Self {
            params: vec![("self".to_owned(), Shape::Handle)],
            result: None,
        }
    }

    /// Names and types of the parameters, in order.
    pub fn params(&self) -> &[(String, Shape)] {
        &self.params
    }

    /// The result's type.
    pub fn result(&self) -> Option<&Shape> {
        self.result.as_ref()
    }

    /// The structural hash that invocations of this function carry. Never zero.
    pub fn type_hash(&self) -> u64 {
        let mut hash = Hash(Sha256::new_with_prefix(DOMAIN));
        hash.count(self.params.len());
        for (name, shape) in &self.params {
            hash.name(name);
            shape.feed(&mut hash);
        }
        hash.optional(self.result.as_ref());
        hash.finish()
    }
}

struct Hash(Sha256);

impl Hash {
    fn byte(&mut self, byte: u8) {
        self.0.update([byte]);
    }

    /// Counts beyond four bytes do not exist: a component has at most 4 GiB.
    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.update(count.to_be_bytes());
    }

    fn name(&mut self, name: &str) {
        self.count(name.len());
        self.0.update(name.as_bytes());
    }

    fn optional(&mut self, shape: Option<&Shape>) {
        match shape {
            None => self.byte(0),
            Some(shape) => {
                self.byte(1);
                shape.feed(self);
            }
        }
    }

    fn finish(self) -> u64 {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first).max(1)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn hash(params: &[(&str, Shape)], result: Option<Shape>) -> u64 {
        let params = params
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), shape.clone()))
            .collect();
        FunctionShape::new(params, result).unwrap().type_hash()
    }

    #[test]
    fn the_hash_is_the_one_of_the_bytes_written_out() {
        let mut bytes = b"trellis.shape.v1\0".to_vec();
        bytes.extend(b"\0\0\0\x02");
        bytes.extend(b"\0\0\0\x04self\x16");
        bytes.extend(b"\0\0\0\x03key\x0d");
        // result<option<list<u8>>, variant { a, b(string) }>
        bytes.extend(b"\x01\x10\x01\x0f\x0e\x02\x01\x13\0\0\0\x02\0\0\0\x01a\0\0\0\0\x01b\x01\x0d");
        let digest = Sha256::digest(&bytes);
        assert_eq!(
            hash(
                &[("self", Shape::Handle), ("key", Shape::String)],
                Some(Shape::result(
                    Some(Shape::option(Shape::list(Shape::U8))),
                    Some(Shape::Variant(vec![
                        ("a".to_owned(), None),
                        ("b".to_owned(), Some(Shape::String)),
                    ])),
                )),
            )
            .to_be_bytes(),
            digest[..8]
        );
    }

    #[test]
    fn names_order_and_types_all_count() {
        let record = |fields: &[(&str, Shape)]| {
            Shape::Record(
                fields
                    .iter()
                    .map(|(name, shape)| ((*name).to_owned(), shape.clone()))
                    .collect(),
            )
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let hashes = [
            hash(&[], None),
            hash(&[("a", Shape::U8)], None),
            hash(&[("b", Shape::U8)], None),
            hash(&[("a", Shape::S8)], None),
            hash(&[], Some(Shape::U8)),
            hash(&[("a", Shape::U8), ("b", Shape::U8)], None),
            hash(&[("b", Shape::U8), ("a", Shape::U8)], None),
            hash(
                &[("r", record(&[("a", Shape::U8), ("b", Shape::U8)]))],
                None,
            ),
            hash(
                &[("r", record(&[("b", Shape::U8), ("a", Shape::U8)]))],
                None,
            ),
            hash(&[("r", Shape::Tuple(vec![Shape::U8, Shape::U8]))], None),
            hash(&[("r", Shape::Enum(names(&["a", "b"])))], None),
            hash(&[("r", Shape::Enum(names(&["ab"])))], None),
            hash(&[("r", Shape::Flags(names(&["a", "b"])))], None),
            hash(&[("r", Shape::result(Some(Shape::U8), None))], None),
            hash(&[("r", Shape::result(None, Some(Shape::U8)))], None),
        ];
        for (i, one) in hashes.iter().enumerate() {
            for other in &hashes[i + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn the_deepest_type_is_accepted_and_one_deeper_is_refused() {
        let nested = |depth: usize| (1..depth).fold(Shape::Bool, |inner, _| Shape::list(inner));
        assert!(FunctionShape::new(vec![], Some(nested(SHAPE_DEPTH_MAX))).is_ok());
        assert_eq!(
            FunctionShape::new(vec![], Some(nested(SHAPE_DEPTH_MAX + 1))),
            Err(ShapeError::TooDeep)
        );
    }

    #[test]
    fn options_alternate_between_nil_and_array() {
        let mut shape = Shape::U8;
        for nil in [false, true, false, true, false] {
            assert_eq!(shape.may_be_nil(), nil);
            shape = Shape::option(shape);
        }
        assert!(!Shape::result(None, None).may_be_nil());
        assert!(!Shape::Record(vec![]).may_be_nil());
    }
}
