//! A column's bytes as a value of the interface.
//!
//! Everything is checked as if the server were not trusted, and everything that a value will take is paid for from
//! [`Room`] before it is made: some types need far fewer bytes on the wire than as text.

use tokio_postgres::types::{Kind, Type};
use trellis_protocol::value::ByteList;

use super::{calendar, float, numeric};
use crate::wit::types::PgValue;

/// What one value takes in an answer beside its own bytes, at most: the name of its case and the framing of both.
const VALUE_BYTES: usize = 24;

/// What one element of a list takes, at least.
///
/// Some take less. But a list may have no more elements than a value has bytes for, divided by this.
const ELEMENT_BYTES: usize = 4;

/// Why a column cannot be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The interface has no case for the type.
    Unsupported,
    /// The interface's lists hold no nulls.
    NullElement,
    /// The interface's lists have one dimension.
    Dimensions,
    /// There is more than an answer may hold.
    TooLarge,
    /// The bytes are not of the type.
    Malformed,
}

/// Bytes that are left of what an answer may hold.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    pub(crate) fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.0 = self.0.checked_sub(bytes).ok_or(DecodeError::TooLarge)?;
        Ok(())
    }
}

/// A value of a column of this type; `None` is null.
pub(crate) fn decode(
    ty: &Type,
    raw: Option<&[u8]>,
    room: &mut Room,
) -> Result<PgValue, DecodeError> {
    room.take(VALUE_BYTES)?;
    let Some(raw) = raw else {
        return Ok(PgValue::Null);
    };
    Ok(match *ty {
        Type::BOOL => PgValue::Bool(boolean(raw)?),
        Type::INT2 => PgValue::Int2(int2(raw)?),
        Type::INT4 => PgValue::Int4(int4(raw)?),
        Type::INT8 => PgValue::Int8(int8(raw)?),
        // There is no case for numbers of objects; the next wider one holds them all.
        Type::OID | Type::XID | Type::CID => {
            PgValue::Int8(i64::from(u32::from_be_bytes(exact(raw)?)))
        }
        Type::FLOAT4 => PgValue::Float4(float4(raw)?),
        Type::FLOAT8 => PgValue::Float8(float8(raw)?),
        Type::NUMERIC => PgValue::Numeric(numeric::decode(raw, room)?),
        Type::BYTEA => PgValue::Bytea(bytes(raw, room)?),
        Type::TEXT | Type::UNKNOWN => PgValue::Text(text(raw, room)?),
        Type::VARCHAR => PgValue::Varchar(varchar(raw, room)?),
        Type::BPCHAR | Type::CHAR => PgValue::Char(char(raw, room)?),
        Type::NAME => PgValue::Name(text(raw, room)?),
        Type::XML => PgValue::Xml(text(raw, room)?),
        Type::UUID => PgValue::Uuid(uuid(raw, room)?),
        Type::JSON => PgValue::Json(text(raw, room)?),
        Type::JSONB => PgValue::Jsonb(jsonb(raw, room)?),
        Type::DATE => PgValue::Date(calendar::date(int4(raw)?)),
        Type::TIME => PgValue::Time(some(calendar::time(int8(raw)?))?),
        Type::TIMETZ => PgValue::TimeTz(time_tz(raw)?),
        Type::TIMESTAMP => PgValue::Timestamp(some(calendar::timestamp(int8(raw)?))?),
        Type::TIMESTAMPTZ => PgValue::TimestampTz(some(calendar::timestamp_tz(int8(raw)?))?),
        // The interface's `interval` is a span between two days, which this is not.
        Type::INTERVAL => PgValue::Text(interval(raw, room)?),
        // What a function without a result gives back.
        Type::VOID => PgValue::Null,
        Type::BOOL_ARRAY => PgValue::BoolArray(list(raw, room, |raw, _| boolean(raw))?),
        Type::INT2_ARRAY => PgValue::Int2Array(list(raw, room, |raw, _| int2(raw))?),
        Type::INT2_VECTOR => PgValue::Int2Vector(list(raw, room, |raw, _| int2(raw))?),
        Type::INT4_ARRAY => PgValue::Int4Array(list(raw, room, |raw, _| int4(raw))?),
        Type::INT8_ARRAY => PgValue::Int8Array(list(raw, room, |raw, _| int8(raw))?),
        Type::FLOAT4_ARRAY => PgValue::Float4Array(list(raw, room, |raw, _| float4(raw))?),
        Type::FLOAT8_ARRAY => PgValue::Float8Array(list(raw, room, |raw, _| float8(raw))?),
        Type::NUMERIC_ARRAY => PgValue::NumericArray(list(raw, room, numeric::decode)?),
        Type::BYTEA_ARRAY => PgValue::ByteaArray(list(raw, room, bytes)?),
        Type::TEXT_ARRAY => PgValue::TextArray(list(raw, room, text)?),
        Type::VARCHAR_ARRAY => PgValue::VarcharArray(list(raw, room, varchar)?),
        Type::BPCHAR_ARRAY | Type::CHAR_ARRAY => PgValue::CharArray(list(raw, room, char)?),
        Type::NAME_ARRAY => PgValue::NameArray(list(raw, room, text)?),
        Type::XML_ARRAY => PgValue::XmlArray(list(raw, room, text)?),
        Type::UUID_ARRAY => PgValue::UuidArray(list(raw, room, uuid)?),
        Type::JSON_ARRAY => PgValue::JsonArray(list(raw, room, text)?),
        Type::JSONB_ARRAY => PgValue::JsonbArray(list(raw, room, jsonb)?),
        Type::DATE_ARRAY => {
            PgValue::DateArray(list(raw, room, |raw, _| Ok(calendar::date(int4(raw)?)))?)
        }
        Type::TIME_ARRAY => {
            PgValue::TimeArray(list(raw, room, |raw, _| some(calendar::time(int8(raw)?)))?)
        }
        Type::TIMETZ_ARRAY => PgValue::TimeTzArray(list(raw, room, |raw, _| time_tz(raw))?),
        Type::TIMESTAMP_ARRAY => PgValue::TimestampArray(list(raw, room, |raw, _| {
            some(calendar::timestamp(int8(raw)?))
        })?),
        Type::TIMESTAMPTZ_ARRAY => PgValue::TimestampTzArray(list(raw, room, |raw, _| {
            some(calendar::timestamp_tz(int8(raw)?))
        })?),
        Type::INTERVAL_ARRAY => PgValue::TextArray(list(raw, room, interval)?),
        _ => return other(ty, raw, room),
    })
}

/// A type that the database itself defined.
fn other(ty: &Type, raw: &[u8], room: &mut Room) -> Result<PgValue, DecodeError> {
    match ty.kind() {
        Kind::Enum(_) => Ok(PgValue::Text(text(raw, room)?)),
        Kind::Domain(base) => decode(base, Some(raw), room),
        Kind::Array(element) => match element.kind() {
            Kind::Enum(_) => Ok(PgValue::TextArray(list(raw, room, text)?)),
            _ if element.name() == "citext" => Ok(PgValue::TextArray(list(raw, room, text)?)),
            _ => Err(DecodeError::Unsupported),
        },
        _ if ty.name() == "citext" => Ok(PgValue::Text(text(raw, room)?)),
        _ => Err(DecodeError::Unsupported),
    }
}

fn some<T>(value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Malformed)
}

fn exact<const N: usize>(raw: &[u8]) -> Result<[u8; N], DecodeError> {
    raw.try_into().map_err(|_| DecodeError::Malformed)
}

fn boolean(raw: &[u8]) -> Result<bool, DecodeError> {
    match raw {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(DecodeError::Malformed),
    }
}

fn int2(raw: &[u8]) -> Result<i16, DecodeError> {
    exact(raw).map(i16::from_be_bytes)
}

fn int4(raw: &[u8]) -> Result<i32, DecodeError> {
    exact(raw).map(i32::from_be_bytes)
}

fn int8(raw: &[u8]) -> Result<i64, DecodeError> {
    exact(raw).map(i64::from_be_bytes)
}

fn float4(raw: &[u8]) -> Result<float::Triple, DecodeError> {
    exact(raw).map(|raw| float::of_f32(f32::from_be_bytes(raw)))
}

fn float8(raw: &[u8]) -> Result<float::Triple, DecodeError> {
    exact(raw).map(|raw| float::of_f64(f64::from_be_bytes(raw)))
}

fn bytes(raw: &[u8], room: &mut Room) -> Result<ByteList, DecodeError> {
    room.take(raw.len())?;
    Ok(ByteList(raw.to_vec()))
}

fn text(raw: &[u8], room: &mut Room) -> Result<String, DecodeError> {
    room.take(raw.len())?;
    let text = std::str::from_utf8(raw).map_err(|_| DecodeError::Malformed)?;
    Ok(text.to_owned())
}

/// The declared length is not among the bytes, so none is given.
fn varchar(raw: &[u8], room: &mut Room) -> Result<(Option<u32>, ByteList), DecodeError> {
    Ok((None, bytes(raw, room)?))
}

/// Padded with spaces to the declared length, as PostgreSQL keeps it.
fn char(raw: &[u8], room: &mut Room) -> Result<(u32, ByteList), DecodeError> {
    let length = u32::try_from(raw.len()).map_err(|_| DecodeError::TooLarge)?;
    Ok((length, bytes(raw, room)?))
}

fn uuid(raw: &[u8], room: &mut Room) -> Result<String, DecodeError> {
    room.take(40)?;
    exact(raw).map(|raw| uuid::Uuid::from_bytes(raw).to_string())
}

fn jsonb(raw: &[u8], room: &mut Room) -> Result<String, DecodeError> {
    match raw {
        [1, json @ ..] => text(json, room),
        _ => Err(DecodeError::Malformed),
    }
}

fn time_tz(raw: &[u8]) -> Result<crate::wit::types::TimeTz, DecodeError> {
    let raw: [u8; 12] = exact(raw)?;
    let (micros, west) = raw.split_at(8);
    some(calendar::time_tz(int8(micros)?, int4(west)?))
}

/// A span of time in ISO 8601's form, `P1Y2M3DT4H5M6.789S`, which PostgreSQL reads as well.
fn interval(raw: &[u8], room: &mut Room) -> Result<String, DecodeError> {
    use std::fmt::Write as _;
    room.take(64)?;
    let raw: [u8; 16] = exact(raw)?;
    let (micros, days_and_months) = raw.split_at(8);
    let (days, months) = days_and_months.split_at(4);
    let (micros, days, months) = (int8(micros)?, int4(days)?, int4(months)?);
    let mut text = "P".to_owned();
    let mut part = |amount: i64, unit: char| {
        if amount != 0 {
            write!(text, "{amount}{unit}").expect("a String takes every write");
        }
    };
    part(i64::from(months / 12), 'Y');
    part(i64::from(months % 12), 'M');
    part(i64::from(days), 'D');
    if micros == 0 {
        if text == "P" {
            text.push_str("T0S");
        }
        return Ok(text);
    }
    text.push('T');
    let mut part = |amount: i64, unit: char| {
        if amount != 0 {
            write!(text, "{amount}{unit}").expect("a String takes every write");
        }
    };
    part(micros / 3_600_000_000, 'H');
    part(micros / 60_000_000 % 60, 'M');
    let (seconds, fraction) = (micros / 1_000_000 % 60, micros % 1_000_000);
    if seconds != 0 || fraction != 0 {
        let sign = if micros < 0 { "-" } else { "" };
        write!(text, "{sign}{}", seconds.unsigned_abs()).expect("a String takes every write");
        if fraction != 0 {
            let digits = format!("{:06}", fraction.unsigned_abs());
            write!(text, ".{}", digits.trim_end_matches('0')).expect("a String takes every write");
        }
        text.push('S');
    }
    Ok(text)
}

/// The elements of an array of one dimension, or of none.
fn list<T>(
    raw: &[u8],
    room: &mut Room,
    element: impl Fn(&[u8], &mut Room) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut rest = raw;
    let mut word = || -> Result<i32, DecodeError> {
        let (word, left) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        rest = left;
        Ok(i32::from_be_bytes(*word))
    };
    let (dimensions, _has_nulls, _type) = (word()?, word()?, word()?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let (count, _lower_bound) = (word()?, word()?);
            usize::try_from(count).map_err(|_| DecodeError::Malformed)?
        }
        _ => return Err(DecodeError::Dimensions),
    };
    // Every element has a length of four bytes, so the count is checked before it is believed.
    if count > rest.len() / 4 {
        return Err(DecodeError::Malformed);
    }
    room.take(count.saturating_mul(size_of::<T>().clamp(ELEMENT_BYTES, VALUE_BYTES)))?;
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, left) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            return Err(DecodeError::NullElement);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
        let (value, left) = left
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed)?;
        elements.push(element(value, room)?);
        rest = left;
    }
    match rest.is_empty() {
        true => Ok(elements),
        false => Err(DecodeError::Malformed),
    }
}
