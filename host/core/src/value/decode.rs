//! From bytes to dynamic values. The bytes are somebody else's: they are checked whole before the first is believed.

use rmp::Marker;
use trellis_protocol::shape::{FunctionShape, Shape};
use trellis_protocol::value;
use trellis_protocol::{Refusal, RefusalCode};
use wasmtime::component::Val;

use crate::limits::DYNAMIC_LIST_MAX;

/// Reads a function's parameters.
///
/// # Errors
/// `bad-payload` where the bytes are no encoding of these types; `too-large` beyond the protocol's limits or
/// [`DYNAMIC_LIST_MAX`].
pub(crate) fn decode_params(function: &FunctionShape, bytes: &[u8]) -> Result<Vec<Val>, Refusal> {
    let mut reader = Reader::checked(bytes)?;
    let params = function.params();
    if reader.array()? != params.len() {
        return Err(mismatch("the number of parameters differs"));
    }
    params
        .iter()
        .map(|(_, shape)| reader.value(shape))
        .collect()
}

/// Reads a function's result; `None` where it has none.
///
/// # Errors
/// As [`decode_params`].
pub(crate) fn decode_result(
    function: &FunctionShape,
    bytes: &[u8],
) -> Result<Option<Val>, Refusal> {
    let mut reader = Reader::checked(bytes)?;
    match function.result() {
        Some(shape) => reader.value(shape).map(Some),
        None => match reader.marker()? {
            Marker::Null => Ok(None),
            _ => Err(mismatch("a value where there is none")),
        },
    }
}

fn mismatch(what: &str) -> Refusal {
    Refusal::new(
        RefusalCode::BadPayload,
        format!("not a value of this type: {what}"),
    )
}

/// Reads bytes that `value::check` has passed: every length is there, every string is UTF-8, and the nesting is bounded.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn checked(bytes: &'a [u8]) -> Result<Self, Refusal> {
        value::check(bytes)?;
        Ok(Self { rest: bytes })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| mismatch("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    fn marker(&mut self) -> Result<Marker, Refusal> {
        Ok(Marker::from_u8(self.byte()?))
    }

    fn peek(&self) -> Option<Marker> {
        self.rest.first().map(|byte| Marker::from_u8(*byte))
    }

    fn big_endian(&mut self, bytes: usize) -> Result<u64, Refusal> {
        Ok(self
            .take(bytes)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Refusal> {
        let length = self.big_endian(bytes)?;
        usize::try_from(length).map_err(|_| mismatch("a length out of range"))
    }

    /// An integer of any width, with its sign.
    fn integer(&mut self) -> Result<i128, Refusal> {
        Ok(match self.marker()? {
            Marker::FixPos(v) => i128::from(v),
            Marker::FixNeg(v) => i128::from(v),
            Marker::U8 => i128::from(self.big_endian(1)?),
            Marker::U16 => i128::from(self.big_endian(2)?),
            Marker::U32 => i128::from(self.big_endian(4)?),
            Marker::U64 => i128::from(self.big_endian(8)?),
            Marker::I8 => i128::from(self.big_endian(1)? as u8 as i8),
            Marker::I16 => i128::from(self.big_endian(2)? as u16 as i16),
            Marker::I32 => i128::from(self.big_endian(4)? as u32 as i32),
            Marker::I64 => i128::from(self.big_endian(8)? as i64),
            _ => return Err(mismatch("an integer was expected")),
        })
    }

    fn integer_as<T: TryFrom<i128>>(&mut self) -> Result<T, Refusal> {
        T::try_from(self.integer()?).map_err(|_| mismatch("an integer is out of range"))
    }

    fn text(&mut self) -> Result<&'a str, Refusal> {
        let length = match self.marker()? {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return Err(mismatch("a string was expected")),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| mismatch("a string is not UTF-8"))
    }

    fn array(&mut self) -> Result<usize, Refusal> {
        match self.marker()? {
            Marker::FixArray(length) => Ok(usize::from(length)),
            Marker::Array16 => self.length(2),
            Marker::Array32 => self.length(4),
            _ => Err(mismatch("an array was expected")),
        }
    }

    /// A map of exactly one entry, as results and cases with a payload are.
    fn map_of_one(&mut self) -> Result<(), Refusal> {
        let length = match self.marker()? {
            Marker::FixMap(length) => usize::from(length),
            Marker::Map16 => self.length(2)?,
            Marker::Map32 => self.length(4)?,
            _ => return Err(mismatch("a map was expected")),
        };
        if length == 1 {
            Ok(())
        } else {
            Err(mismatch("a map of one entry was expected"))
        }
    }

    fn value(&mut self, shape: &Shape) -> Result<Val, Refusal> {
        Ok(match shape {
            Shape::Bool => match self.marker()? {
                Marker::True => Val::Bool(true),
                Marker::False => Val::Bool(false),
                _ => return Err(mismatch("a boolean was expected")),
            },
            Shape::U8 => Val::U8(self.integer_as()?),
            Shape::U16 => Val::U16(self.integer_as()?),
            Shape::U32 => Val::U32(self.integer_as()?),
            Shape::U64 => Val::U64(self.integer_as()?),
            Shape::S8 => Val::S8(self.integer_as()?),
            Shape::S16 => Val::S16(self.integer_as()?),
            Shape::S32 => Val::S32(self.integer_as()?),
            Shape::S64 => Val::S64(self.integer_as()?),
            Shape::F32 => match self.marker()? {
                Marker::F32 => {
                    Val::Float32(canonical_f32(f32::from_bits(self.big_endian(4)? as u32)))
                }
                _ => return Err(mismatch("a float of 32 bits was expected")),
            },
            Shape::F64 => match self.marker()? {
                Marker::F64 => Val::Float64(canonical_f64(f64::from_bits(self.big_endian(8)?))),
                _ => return Err(mismatch("a float of 64 bits was expected")),
            },
            Shape::Char => {
                let mut characters = self.text()?.chars();
                match (characters.next(), characters.next()) {
                    (Some(character), None) => Val::Char(character),
                    _ => return Err(mismatch("one character was expected")),
                }
            }
            Shape::String => Val::String(self.text()?.to_owned()),
            Shape::List(element) => Val::List(self.list(element)?),
            Shape::Option(content) => Val::Option(self.option(content)?.map(Box::new)),
            Shape::Result { ok, err } => {
                self.map_of_one()?;
                match self.text()? {
                    "Ok" => Val::Result(Ok(self.payload(ok.as_deref())?)),
                    "Err" => Val::Result(Err(self.payload(err.as_deref())?)),
                    _ => return Err(mismatch("a result is `Ok` or `Err`")),
                }
            }
            Shape::Tuple(shapes) => {
                self.array_of(shapes.len())?;
                Val::Tuple(
                    shapes
                        .iter()
                        .map(|shape| self.value(shape))
                        .collect::<Result<_, _>>()?,
                )
            }
            Shape::Record(fields) => {
                self.array_of(fields.len())?;
                Val::Record(
                    fields
                        .iter()
                        .map(|(name, shape)| Ok((name.clone(), self.value(shape)?)))
                        .collect::<Result<_, Refusal>>()?,
                )
            }
            Shape::Variant(cases) => self.variant(cases)?,
            Shape::Enum(names) => {
                let name = self.text()?;
                if !names.iter().any(|n| n == name) {
                    return Err(mismatch("an enum has no such case"));
                }
                Val::Enum(name.to_owned())
            }
            Shape::Flags(names) => self.flags(names)?,
            Shape::Handle => return Err(mismatch("a handle cannot be passed here")),
        })
    }

    fn array_of(&mut self, length: usize) -> Result<(), Refusal> {
        if self.array()? == length {
            Ok(())
        } else {
            Err(mismatch("the number of fields differs"))
        }
    }

    /// What a case of a result has: nil stands for no payload.
    fn payload(&mut self, shape: Option<&Shape>) -> Result<Option<Box<Val>>, Refusal> {
        match shape {
            Some(shape) => Ok(Some(Box::new(self.value(shape)?))),
            None => match self.marker()? {
                Marker::Null => Ok(None),
                _ => Err(mismatch("a payload where there is none")),
            },
        }
    }

    fn list(&mut self, element: &Shape) -> Result<Vec<Val>, Refusal> {
        let bounded = |length: usize| {
            if length > DYNAMIC_LIST_MAX {
                return Err(Refusal::new(
                    RefusalCode::TooLarge,
                    format!(
                        "a list of {length} elements exceeds {DYNAMIC_LIST_MAX} in a custom interface"
                    ),
                ));
            }
            Ok(length)
        };
        if *element != Shape::U8 {
            let length = bounded(self.array()?)?;
            // An element takes a byte at least, so a list cannot be longer than what is left.
            let mut values = Vec::with_capacity(length.min(self.rest.len()));
            for _ in 0..length {
                values.push(self.value(element)?);
            }
            return Ok(values);
        }
        let length = match self.marker()? {
            Marker::Bin8 => self.length(1)?,
            Marker::Bin16 => self.length(2)?,
            Marker::Bin32 => self.length(4)?,
            _ => return Err(mismatch("binary was expected")),
        };
        Ok(self
            .take(bounded(length)?)?
            .iter()
            .map(|byte| Val::U8(*byte))
            .collect())
    }

    fn option(&mut self, content: &Shape) -> Result<Option<Val>, Refusal> {
        if content.may_be_nil() {
            return match self.array()? {
                0 => Ok(None),
                1 => self.value(content).map(Some),
                _ => Err(mismatch("an option is an array of none or one here")),
            };
        }
        if self.peek() == Some(Marker::Null) {
            self.byte()?;
            return Ok(None);
        }
        self.value(content).map(Some)
    }

    fn variant(&mut self, cases: &[(String, Option<Shape>)]) -> Result<Val, Refusal> {
        let find = |name: &str| {
            cases
                .iter()
                .find(|(case, _)| case == name)
                .ok_or_else(|| mismatch("a variant has no such case"))
        };
        let with_payload = matches!(
            self.peek(),
            Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32)
        );
        if with_payload {
            self.map_of_one()?;
        }
        let (name, shape) = find(self.text()?)?;
        match (with_payload, shape) {
            (true, Some(shape)) => {
                let value = self.value(shape)?;
                Ok(Val::Variant(name.clone(), Some(Box::new(value))))
            }
            (false, None) => Ok(Val::Variant(name.clone(), None)),
            _ => Err(mismatch("a case's payload is missing, or one too many")),
        }
    }

    fn flags(&mut self, names: &[String]) -> Result<Val, Refusal> {
        let length = self.array()?;
        if length > names.len() {
            return Err(mismatch("more flags than there are"));
        }
        let mut set: Vec<String> = Vec::with_capacity(length);
        let mut next = 0;
        for _ in 0..length {
            let name = self.text()?;
            let position = names
                .iter()
                .position(|n| n == name)
                .ok_or_else(|| mismatch("there is no such flag"))?;
            if position < next {
                return Err(mismatch("flags stand twice or out of order"));
            }
            next = position + 1;
            set.push(name.to_owned());
        }
        Ok(Val::Flags(set))
    }
}

fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

fn canonical_f64(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}
