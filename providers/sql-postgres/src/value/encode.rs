//! A parameter as the bytes of the type that the statement wants.
//!
//! A value fits a type if it is of that type, or of one that PostgreSQL itself would widen to it without a loss: whole
//! numbers to wider or exact ones, the kinds of text to each other. A type that the interface has no case for takes
//! text in PostgreSQL's own form, which the server reads. Nothing else is guessed.

use std::error::Error;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

use super::{calendar, float, kind, numeric};
use crate::wit::types::PgValue;

/// Why a value is no parameter of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    /// It is of another type.
    #[error("the statement wants {wanted}, `{given}` was given")]
    Mismatch { wanted: String, given: &'static str },
    /// It is of the type, and not valid.
    #[error("`{given}` for {wanted}: {reason}")]
    Invalid {
        wanted: String,
        given: &'static str,
        reason: String,
    },
    /// The provider does not serve this case yet.
    #[error(
        "the case `{given}` is not served; give the value as `text`, and cast it in the statement"
    )]
    Unserved { given: &'static str },
}

/// A parameter, ready to be sent.
pub(crate) struct Parameter {
    bytes: Option<Vec<u8>>,
    format: Format,
}

impl fmt::Debug for Parameter {
    /// Shows how long it is: what a guest sends is nobody's to log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.as_ref().map(Vec::len);
        f.debug_struct("Parameter").field("bytes", &bytes).finish()
    }
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match &self.bytes {
            None => IsNull::Yes,
            Some(bytes) => {
                out.put_slice(bytes);
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        self.format
    }

    to_sql_checked!();
}

/// A value for a parameter of this type.
pub(crate) fn encode(value: &PgValue, ty: &Type) -> Result<Parameter, EncodeError> {
    if matches!(value, PgValue::Null) {
        let format = Format::Binary;
        return Ok(Parameter {
            bytes: None,
            format,
        });
    }
    let mut bytes = Vec::new();
    let binary = |bytes| Parameter {
        bytes: Some(bytes),
        format: Format::Binary,
    };
    let ty = base(ty);
    match array(ty) {
        None if has_form(ty) => {
            scalar(value, ty, &mut bytes)?;
            Ok(binary(bytes))
        }
        Some(element) if has_form(element) => {
            list(value, ty, element, &mut bytes)?;
            Ok(binary(bytes))
        }
        _ => match text_of(value)? {
            // The server reads what we have no form for.
            Some(text) => Ok(Parameter {
                bytes: Some(text.as_bytes().to_vec()),
                format: Format::Text,
            }),
            None => Err(mismatch(value, ty)),
        },
    }
}

/// What stands behind domains.
fn base(mut ty: &Type) -> &Type {
    while let Kind::Domain(inner) = ty.kind() {
        ty = inner;
    }
    ty
}

fn array(ty: &Type) -> Option<&Type> {
    match ty.kind() {
        Kind::Array(element) if *ty != Type::INT2_VECTOR && *ty != Type::OID_VECTOR => {
            Some(base(element))
        }
        _ => None,
    }
}

/// Whether values of the type are written here rather than by the server.
fn has_form(ty: &Type) -> bool {
    is_textual(ty)
        || matches!(
            *ty,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
                | Type::BYTEA
                | Type::UUID
                | Type::JSON
                | Type::JSONB
                | Type::DATE
                | Type::TIME
                | Type::TIMETZ
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
        )
}

/// Types whose bytes are text.
fn is_textual(ty: &Type) -> bool {
    matches!(
        *ty,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML
    ) || matches!(ty.kind(), Kind::Enum(_))
        || ty.name() == "citext"
}

fn mismatch(value: &PgValue, ty: &Type) -> EncodeError {
    let given = kind::name(value);
    match kind::is_served(value) {
        true => EncodeError::Mismatch {
            wanted: ty.to_string(),
            given,
        },
        false => EncodeError::Unserved { given },
    }
}

fn scalar(value: &PgValue, ty: &Type, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let invalid = |reason: String| EncodeError::Invalid {
        wanted: ty.to_string(),
        given: kind::name(value),
        reason,
    };
    if let Some(number) = whole(value) {
        return write_whole(number, ty, out).unwrap_or_else(|| Err(mismatch(value, ty)));
    }
    if is_textual(ty) {
        let text = match (value, ty) {
            (PgValue::Xml(text), &Type::XML) => Some(text.as_str()),
            _ => text_of(value)?,
        };
        out.extend(text.ok_or_else(|| mismatch(value, ty))?.as_bytes());
        return Ok(());
    }
    match (value, ty) {
        (PgValue::Bool(value) | PgValue::Boolean(value), &Type::BOOL) => out.push(u8::from(*value)),
        (PgValue::Double(triple) | PgValue::Float8(triple), &Type::FLOAT8 | &Type::FLOAT4) => {
            let number = float::to_f64(*triple).ok_or_else(|| invalid(SIGN.to_owned()))?;
            match *ty {
                Type::FLOAT8 => out.extend(number.to_be_bytes()),
                _ => {
                    let number =
                        float::narrowed(number).ok_or_else(|| invalid(RANGE.to_owned()))?;
                    out.extend(number.to_be_bytes());
                }
            }
        }
        (PgValue::Real(triple) | PgValue::Float4(triple), &Type::FLOAT4 | &Type::FLOAT8) => {
            let number =
                float::to_f32(*triple).ok_or_else(|| invalid(format!("{SIGN}, or {RANGE}")))?;
            match *ty {
                Type::FLOAT4 => out.extend(number.to_be_bytes()),
                _ => out.extend(f64::from(number).to_be_bytes()),
            }
        }
        (PgValue::Numeric(text) | PgValue::Decimal(text), &Type::NUMERIC) => {
            numeric::encode(text, out).map_err(invalid)?;
        }
        (PgValue::Bytea(bytes), &Type::BYTEA) => out.extend(&bytes.0),
        (PgValue::Uuid(text), &Type::UUID) => {
            let id = uuid::Uuid::try_parse(text).map_err(|_| invalid("not a UUID".to_owned()))?;
            out.extend(id.as_bytes());
        }
        (PgValue::Json(text) | PgValue::Jsonb(text), &Type::JSON) => out.extend(text.as_bytes()),
        (PgValue::Json(text) | PgValue::Jsonb(text), &Type::JSONB) => {
            // The version of the binary form, which is text again.
            out.push(1);
            out.extend(text.as_bytes());
        }
        (PgValue::Date(date), &Type::DATE) => {
            out.extend(calendar::days(date).map_err(invalid)?.to_be_bytes());
        }
        (PgValue::Time(time), &Type::TIME) => {
            out.extend(calendar::micros(time).map_err(invalid)?.to_be_bytes());
        }
        (PgValue::TimeTz(time), &Type::TIMETZ) => {
            out.extend(
                calendar::micros(&time.time)
                    .map_err(&invalid)?
                    .to_be_bytes(),
            );
            out.extend(
                calendar::seconds_west(&time.timesonze)
                    .map_err(invalid)?
                    .to_be_bytes(),
            );
        }
        (PgValue::Timestamp(moment), &Type::TIMESTAMP) => {
            out.extend(
                calendar::timestamp_micros(moment)
                    .map_err(invalid)?
                    .to_be_bytes(),
            );
        }
        (PgValue::TimestampTz(moment), &Type::TIMESTAMPTZ) => {
            out.extend(
                calendar::timestamp_tz_micros(moment)
                    .map_err(invalid)?
                    .to_be_bytes(),
            );
        }
        _ => return Err(mismatch(value, ty)),
    }
    Ok(())
}

const SIGN: &str = "its sign is neither 1 nor -1";
const RANGE: &str = "it is out of range";

/// The number of every case that is a whole one.
fn whole(value: &PgValue) -> Option<i64> {
    Some(match *value {
        PgValue::BigInt(n) | PgValue::Int8(n) | PgValue::BigSerial(n) | PgValue::Serial8(n) => n,
        PgValue::Integer(n) | PgValue::Int(n) | PgValue::Int4(n) => i64::from(n),
        PgValue::Serial(n) | PgValue::Serial4(n) => i64::from(n),
        PgValue::SmallInt(n) | PgValue::Int2(n) | PgValue::SmallSerial(n) | PgValue::Serial2(n) => {
            i64::from(n)
        }
        _ => return None,
    })
}

/// Writes a whole number as any type that holds it; `None` where the type is no number's.
fn write_whole(number: i64, ty: &Type, out: &mut Vec<u8>) -> Option<Result<(), EncodeError>> {
    let out_of_range = || {
        Err(EncodeError::Invalid {
            wanted: ty.to_string(),
            given: "integer",
            reason: format!("{number} is out of range"),
        })
    };
    macro_rules! narrow {
        ($ty:ty) => {
            match <$ty>::try_from(number) {
                Ok(number) => out.extend(number.to_be_bytes()),
                Err(_) => return Some(out_of_range()),
            }
        };
    }
    match *ty {
        Type::INT2 => narrow!(i16),
        Type::INT4 => narrow!(i32),
        Type::INT8 => out.extend(number.to_be_bytes()),
        Type::OID => narrow!(u32),
        Type::NUMERIC => {
            numeric::encode(&number.to_string(), out).expect("a whole number is a number");
        }
        Type::FLOAT8 => {
            let float = number as f64;
            // i128 holds every double that a 64-bit number rounds to.
            if float as i128 != i128::from(number) {
                return Some(out_of_range());
            }
            out.extend(float.to_be_bytes());
        }
        Type::FLOAT4 => {
            let float = number as f32;
            if float as i128 != i128::from(number) {
                return Some(out_of_range());
            }
            out.extend(float.to_be_bytes());
        }
        _ => return None,
    }
    Some(Ok(()))
}

/// The text of every case that is text; `None` for other cases.
fn text_of(value: &PgValue) -> Result<Option<&str>, EncodeError> {
    let invalid = |reason: &str| EncodeError::Invalid {
        wanted: "text".to_owned(),
        given: kind::name(value),
        reason: reason.to_owned(),
    };
    let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| invalid("not UTF-8"));
    Ok(match value {
        PgValue::Text(text) | PgValue::Name(text) => Some(text),
        PgValue::Varchar((limit, bytes)) => {
            let text = utf8(&bytes.0)?;
            match limit {
                Some(limit) if text.chars().count() > *limit as usize => {
                    return Err(invalid("longer than its own limit"));
                }
                _ => Some(text),
            }
        }
        PgValue::Char((length, bytes)) => {
            let text = utf8(&bytes.0)?;
            match *length as usize == bytes.0.len() || *length as usize == text.chars().count() {
                true => Some(text),
                false => return Err(invalid("not of the length that it states")),
            }
        }
        _ => None,
    })
}

/// Writes a list as an array of one dimension.
fn list(value: &PgValue, ty: &Type, element: &Type, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let elements = elements(value).ok_or_else(|| mismatch(value, ty))?;
    let too_long = |_| EncodeError::Invalid {
        wanted: ty.to_string(),
        given: kind::name(value),
        reason: "too long".to_owned(),
    };
    let count = i32::try_from(elements.len()).map_err(too_long)?;
    let dimensions = i32::from(count > 0);
    out.extend(dimensions.to_be_bytes());
    out.extend(0_i32.to_be_bytes());
    out.extend(element.oid().to_be_bytes());
    if count > 0 {
        out.extend(count.to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
    for value in &elements {
        let at = out.len();
        out.extend([0; 4]);
        scalar(value, element, out)?;
        let length = i32::try_from(out.len() - at - 4).map_err(too_long)?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// The elements of every list that is served.
fn elements(value: &PgValue) -> Option<Vec<PgValue>> {
    fn each<T: Clone>(list: &[T], case: fn(T) -> PgValue) -> Option<Vec<PgValue>> {
        Some(list.iter().cloned().map(case).collect())
    }
    match value {
        PgValue::BoolArray(list) => each(list, PgValue::Bool),
        PgValue::Int2Array(list) | PgValue::Int2Vector(list) => each(list, PgValue::Int2),
        PgValue::Int4Array(list) => each(list, PgValue::Int4),
        PgValue::Int8Array(list) => each(list, PgValue::Int8),
        PgValue::Float4Array(list) => each(list, PgValue::Float4),
        PgValue::Float8Array(list) => each(list, PgValue::Float8),
        PgValue::NumericArray(list) => each(list, PgValue::Numeric),
        PgValue::ByteaArray(list) => each(list, PgValue::Bytea),
        PgValue::TextArray(list) => each(list, PgValue::Text),
        PgValue::NameArray(list) => each(list, PgValue::Name),
        PgValue::VarcharArray(list) => each(list, PgValue::Varchar),
        PgValue::CharArray(list) => each(list, PgValue::Char),
        PgValue::XmlArray(list) => each(list, PgValue::Xml),
        PgValue::UuidArray(list) => each(list, PgValue::Uuid),
        PgValue::JsonArray(list) => each(list, PgValue::Json),
        PgValue::JsonbArray(list) => each(list, PgValue::Jsonb),
        PgValue::DateArray(list) => each(list, PgValue::Date),
        PgValue::TimeArray(list) => each(list, PgValue::Time),
        PgValue::TimeTzArray(list) => each(list, PgValue::TimeTz),
        PgValue::TimestampArray(list) => each(list, PgValue::Timestamp),
        PgValue::TimestampTzArray(list) => each(list, PgValue::TimestampTz),
        _ => None,
    }
}
