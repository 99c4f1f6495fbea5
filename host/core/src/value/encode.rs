//! From dynamic values to bytes.

use rmp::encode as msgpack;
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_protocol::shape::{FunctionShape, Shape};
use trellis_protocol::{Refusal, RefusalCode};
use wasmtime::component::Val;

use crate::limits::DYNAMIC_LIST_MAX;

/// Encodes a function's parameters: one array.
///
/// # Errors
/// `too-large` beyond the protocol's limit for a value or [`DYNAMIC_LIST_MAX`]; `internal` where a value is not of its
/// type, which wasmtime rules out.
pub(crate) fn encode_params(function: &FunctionShape, values: &[Val]) -> Result<Vec<u8>, Refusal> {
    let mut writer = Writer::default();
    let params = function.params();
    if params.len() != values.len() {
        return Err(not_of_its_type());
    }
    writer.array(params.len())?;
    for ((_, shape), value) in params.iter().zip(values) {
        writer.value(shape, value)?;
    }
    writer.finish()
}

/// Encodes a function's result: the bare value, or nil for none.
///
/// # Errors
/// As [`encode_params`].
pub(crate) fn encode_result(function: &FunctionShape, values: &[Val]) -> Result<Vec<u8>, Refusal> {
    let mut writer = Writer::default();
    match (function.result(), values) {
        (None, []) => writer.nil(),
        (Some(shape), [value]) => writer.value(shape, value)?,
        _ => return Err(not_of_its_type()),
    }
    writer.finish()
}

fn not_of_its_type() -> Refusal {
    Refusal::new(RefusalCode::Internal, "a value is not of its own type")
}

fn too_large() -> Refusal {
    Refusal::new(
        RefusalCode::TooLarge,
        format!("the encoded value exceeds {VALUE_BYTES_MAX} bytes"),
    )
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
}

/// Writing to a vector cannot fail.
macro_rules! write {
    ($writer:expr, $function:ident $(, $argument:expr)*) => {
        { let _ = msgpack::$function(&mut $writer.out $(, $argument)*); }
    };
}

impl Writer {
    fn finish(self) -> Result<Vec<u8>, Refusal> {
        if self.out.len() > VALUE_BYTES_MAX {
            return Err(too_large());
        }
        Ok(self.out)
    }

    fn nil(&mut self) {
        write!(self, write_nil);
    }

    fn array(&mut self, length: usize) -> Result<(), Refusal> {
        if length > DYNAMIC_LIST_MAX {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!("a list of {length} elements exceeds {DYNAMIC_LIST_MAX}"),
            ));
        }
        // Lists of lists multiply, so the sum is looked at on the way and not only at the end.
        if self.out.len() > VALUE_BYTES_MAX {
            return Err(too_large());
        }
        write!(self, write_array_len, length as u32);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Refusal> {
        if self.out.len() + text.len() > VALUE_BYTES_MAX {
            return Err(too_large());
        }
        write!(self, write_str, text);
        Ok(())
    }

    fn value(&mut self, shape: &Shape, value: &Val) -> Result<(), Refusal> {
        match (shape, value) {
            (Shape::Bool, Val::Bool(v)) => write!(self, write_bool, *v),
            (Shape::U8, Val::U8(v)) => write!(self, write_uint, u64::from(*v)),
            (Shape::U16, Val::U16(v)) => write!(self, write_uint, u64::from(*v)),
            (Shape::U32, Val::U32(v)) => write!(self, write_uint, u64::from(*v)),
            (Shape::U64, Val::U64(v)) => write!(self, write_uint, *v),
            (Shape::S8, Val::S8(v)) => write!(self, write_sint, i64::from(*v)),
            (Shape::S16, Val::S16(v)) => write!(self, write_sint, i64::from(*v)),
            (Shape::S32, Val::S32(v)) => write!(self, write_sint, i64::from(*v)),
            (Shape::S64, Val::S64(v)) => write!(self, write_sint, *v),
            (Shape::F32, Val::Float32(v)) => {
                write!(self, write_f32, if v.is_nan() { f32::NAN } else { *v });
            }
            (Shape::F64, Val::Float64(v)) => {
                write!(self, write_f64, if v.is_nan() { f64::NAN } else { *v });
            }
            (Shape::Char, Val::Char(v)) => self.text(v.encode_utf8(&mut [0; 4]))?,
            (Shape::String, Val::String(v)) => self.text(v)?,
            (Shape::List(element), Val::List(values)) => self.list(element, values)?,
            (Shape::Option(content), Val::Option(value)) => {
                self.option(content, value.as_deref())?;
            }
            (Shape::Result { ok, err }, Val::Result(result)) => {
                let (name, shape, value) = match result {
                    Ok(value) => ("Ok", ok, value),
                    Err(value) => ("Err", err, value),
                };
                write!(self, write_map_len, 1);
                self.text(name)?;
                match (shape, value) {
                    (Some(shape), Some(value)) => self.value(shape, value)?,
                    (None, None) => self.nil(),
                    _ => return Err(not_of_its_type()),
                }
            }
            (Shape::Tuple(shapes), Val::Tuple(values)) if shapes.len() == values.len() => {
                self.array(shapes.len())?;
                for (shape, value) in shapes.iter().zip(values) {
                    self.value(shape, value)?;
                }
            }
            (Shape::Record(fields), Val::Record(values)) if fields.len() == values.len() => {
                self.array(fields.len())?;
                for ((name, shape), (given, value)) in fields.iter().zip(values) {
                    if name != given {
                        return Err(not_of_its_type());
                    }
                    self.value(shape, value)?;
                }
            }
            (Shape::Variant(cases), Val::Variant(name, value)) => {
                let (_, shape) = cases
                    .iter()
                    .find(|(case, _)| case == name)
                    .ok_or_else(not_of_its_type)?;
                match (shape, value) {
                    (Some(shape), Some(value)) => {
                        write!(self, write_map_len, 1);
                        self.text(name)?;
                        self.value(shape, value)?;
                    }
                    (None, None) => self.text(name)?,
                    _ => return Err(not_of_its_type()),
                }
            }
            (Shape::Enum(names), Val::Enum(name)) if names.contains(name) => self.text(name)?,
            (Shape::Flags(names), Val::Flags(set)) => {
                self.array(set.len())?;
                for name in names.iter().filter(|name| set.contains(name)) {
                    self.text(name)?;
                }
            }
            _ => return Err(not_of_its_type()),
        }
        Ok(())
    }

    fn list(&mut self, element: &Shape, values: &[Val]) -> Result<(), Refusal> {
        if *element != Shape::U8 {
            self.array(values.len())?;
            return values
                .iter()
                .try_for_each(|value| self.value(element, value));
        }
        if values.len() > DYNAMIC_LIST_MAX || self.out.len() + values.len() > VALUE_BYTES_MAX {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!(
                    "a `list<u8>` of {} bytes exceeds {DYNAMIC_LIST_MAX} in a custom interface",
                    values.len()
                ),
            ));
        }
        write!(self, write_bin_len, values.len() as u32);
        for value in values {
            let Val::U8(byte) = value else {
                return Err(not_of_its_type());
            };
            self.out.push(*byte);
        }
        Ok(())
    }

    fn option(&mut self, content: &Shape, value: Option<&Val>) -> Result<(), Refusal> {
        match (content.may_be_nil(), value) {
            (false, None) => self.nil(),
            (false, Some(value)) => self.value(content, value)?,
            (true, None) => self.array(0)?,
            (true, Some(value)) => {
                self.array(1)?;
                self.value(content, value)?;
            }
        }
        Ok(())
    }
}
