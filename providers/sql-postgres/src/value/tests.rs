//! Values against types: what fits, what is refused, and bytes that are not what they should be.

use tokio_postgres::types::Type;
use trellis_protocol::value::ByteList;

use super::decode::{DecodeError, Room, decode};
use super::encode::{EncodeError, Parameter, encode};
use crate::wit::types::Date;
use crate::wit::types::{Interval, PgValue};

fn bytes(value: &PgValue, ty: &Type) -> Vec<u8> {
    let parameter = encode(value, ty).unwrap();
    let mut out = bytes::BytesMut::new();
    tokio_postgres::types::ToSql::to_sql(&parameter, ty, &mut out).unwrap();
    out.to_vec()
}

fn refused(value: &PgValue, ty: &Type) -> EncodeError {
    match encode(value, ty) {
        Err(error) => error,
        Ok(parameter) => panic!("{value:?} became {parameter:?}"),
    }
}

fn read(ty: &Type, raw: &[u8]) -> Result<PgValue, DecodeError> {
    decode(ty, Some(raw), &mut Room::of(1 << 20))
}

#[test]
fn whole_numbers_widen_and_are_checked_when_they_narrow() {
    for value in [
        PgValue::SmallInt(7),
        PgValue::Int2(7),
        PgValue::Int(7),
        PgValue::Serial(7),
        PgValue::BigInt(7),
    ] {
        assert_eq!(bytes(&value, &Type::INT8), 7_i64.to_be_bytes());
        assert_eq!(bytes(&value, &Type::INT4), 7_i32.to_be_bytes());
        assert_eq!(bytes(&value, &Type::INT2), 7_i16.to_be_bytes());
        assert_eq!(bytes(&value, &Type::FLOAT8), 7_f64.to_be_bytes());
    }
    for (value, ty) in [
        (PgValue::BigInt(1 << 31), Type::INT4),
        (PgValue::Int4(1 << 15), Type::INT2),
        (PgValue::BigInt(-1), Type::OID),
        (PgValue::BigInt((1 << 53) + 1), Type::FLOAT8),
        (PgValue::Int4((1 << 24) + 1), Type::FLOAT4),
    ] {
        assert!(
            matches!(refused(&value, &ty), EncodeError::Invalid { .. }),
            "{value:?} {ty}"
        );
    }
}

#[test]
fn values_of_other_types_are_refused_with_both_names() {
    for (value, ty) in [
        (PgValue::Text("1".to_owned()), Type::INT4),
        (PgValue::Int4(1), Type::TEXT),
        (PgValue::Int4(1), Type::BOOL),
        (PgValue::Bool(true), Type::INT4),
        (PgValue::Text("{}".to_owned()), Type::JSONB),
        (PgValue::Bytea(ByteList(vec![1])), Type::TEXT),
        (PgValue::Int4Array(vec![1]), Type::INT4),
        (PgValue::Int4(1), Type::INT4_ARRAY),
        (PgValue::Int4(1), Type::INET),
        (PgValue::TextArray(vec![]), Type::TEXT),
    ] {
        let error = refused(&value, &ty);
        assert!(matches!(error, EncodeError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(&ty.to_string()), "{error}");
    }
}

#[test]
fn cases_that_are_not_served_say_so_for_every_type() {
    let span = Interval {
        start: Date::NegativeInfinity,
        start_inclusive: true,
        end: Date::PositiveInfinity,
        end_inclusive: true,
    };
    for value in [
        PgValue::Interval(span),
        PgValue::Inet("::1".to_owned()),
        PgValue::Money("1".to_owned()),
        PgValue::Bit((1, ByteList(vec![1]))),
        PgValue::Hstore(vec![]),
        PgValue::Int2VectorArray(vec![]),
    ] {
        for ty in [
            Type::INT4,
            Type::TEXT,
            Type::INTERVAL,
            Type::INET,
            Type::TEXT_ARRAY,
        ] {
            assert!(
                matches!(refused(&value, &ty), EncodeError::Unserved { .. }),
                "{value:?} {ty}"
            );
        }
    }
}

#[test]
fn text_with_a_length_of_its_own_is_held_to_it() {
    let varchar = |limit, text: &[u8]| PgValue::Varchar((limit, ByteList(text.to_vec())));
    assert_eq!(
        bytes(&varchar(Some(3), "äöü".as_bytes()), &Type::TEXT),
        "äöü".as_bytes()
    );
    assert_eq!(bytes(&varchar(None, b"x"), &Type::VARCHAR), b"x");
    refused(&varchar(Some(2), "äöü".as_bytes()), &Type::VARCHAR);
    refused(&varchar(None, b"\xff"), &Type::VARCHAR);
    refused(&PgValue::Char((2, ByteList(b"x".to_vec()))), &Type::BPCHAR);
}

#[test]
fn a_parameter_does_not_show_in_debug_output() {
    let parameter: Parameter = encode(&PgValue::Text("hunter2".to_owned()), &Type::TEXT).unwrap();
    assert!(!format!("{parameter:?}").contains("hunter2"));
}

#[test]
fn lists_come_back_and_what_is_not_a_list_is_refused() {
    let list = PgValue::Int8Array(vec![1, -1, i64::MAX]);
    let raw = bytes(&list, &Type::INT8_ARRAY);
    assert_eq!(read(&Type::INT8_ARRAY, &raw), Ok(list));
    let empty = bytes(&PgValue::TextArray(vec![]), &Type::TEXT_ARRAY);
    assert_eq!(
        read(&Type::TEXT_ARRAY, &empty),
        Ok(PgValue::TextArray(vec![]))
    );
    for end in 0..raw.len() {
        assert_eq!(
            read(&Type::INT8_ARRAY, &raw[..end]),
            Err(DecodeError::Malformed),
            "{end}"
        );
    }
    let mut null = raw.clone();
    null[20..24].copy_from_slice(&(-1_i32).to_be_bytes());
    assert_eq!(
        read(&Type::INT8_ARRAY, &null),
        Err(DecodeError::NullElement)
    );
    let mut square = raw.clone();
    square[3] = 2;
    assert_eq!(
        read(&Type::INT8_ARRAY, &square),
        Err(DecodeError::Dimensions)
    );
    let mut long = raw;
    long[12..16].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(read(&Type::INT8_ARRAY, &long), Err(DecodeError::Malformed));
}

#[test]
fn bytes_of_any_kind_are_never_a_panic() {
    let mut seed = 1_u64;
    for oid in 0..6000 {
        let Some(ty) = Type::from_oid(oid) else {
            continue;
        };
        for length in 0..40 {
            let raw: Vec<u8> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 60) as u8 * if seed & 0x100 == 0 { 1 } else { 17 }
                })
                .collect();
            let _ = read(&ty, &raw);
        }
    }
}

#[test]
fn what_does_not_fit_into_the_answer_is_refused_before_it_is_made() {
    let raw = bytes(
        &PgValue::NumericArray(vec!["1e131071".to_owned(); 100]),
        &Type::NUMERIC_ARRAY,
    );
    assert!(raw.len() < 2000);
    assert_eq!(read(&Type::NUMERIC_ARRAY, &raw), Err(DecodeError::TooLarge));
    let long = vec![b'x'; 1 << 20];
    assert_eq!(read(&Type::TEXT, &long), Err(DecodeError::TooLarge));
}
