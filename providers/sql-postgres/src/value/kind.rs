//! The interface's cases by name, for error messages, and which of them the provider serves.

use crate::wit::types::PgValue;

/// The case's name in WIT.
pub(crate) fn name(value: &PgValue) -> &'static str {
    match value {
        PgValue::Null => "null",
        PgValue::BigInt(_) => "big-int",
        PgValue::Int8(_) => "int8",
        PgValue::Int8Array(_) => "int8-array",
        PgValue::BigSerial(_) => "big-serial",
        PgValue::Serial8(_) => "serial8",
        PgValue::Bool(_) => "bool",
        PgValue::Boolean(_) => "boolean",
        PgValue::BoolArray(_) => "bool-array",
        PgValue::Double(_) => "double",
        PgValue::Float8(_) => "float8",
        PgValue::Float8Array(_) => "float8-array",
        PgValue::Real(_) => "real",
        PgValue::Float4(_) => "float4",
        PgValue::Float4Array(_) => "float4-array",
        PgValue::Integer(_) => "integer",
        PgValue::Int(_) => "int",
        PgValue::Int4(_) => "int4",
        PgValue::Int4Array(_) => "int4-array",
        PgValue::Numeric(_) => "numeric",
        PgValue::Decimal(_) => "decimal",
        PgValue::NumericArray(_) => "numeric-array",
        PgValue::Serial(_) => "serial",
        PgValue::Serial4(_) => "serial4",
        PgValue::SmallInt(_) => "small-int",
        PgValue::Int2(_) => "int2",
        PgValue::Int2Array(_) => "int2-array",
        PgValue::Int2Vector(_) => "int2-vector",
        PgValue::Int2VectorArray(_) => "int2-vector-array",
        PgValue::SmallSerial(_) => "small-serial",
        PgValue::Serial2(_) => "serial2",
        PgValue::Bit(_) => "bit",
        PgValue::BitArray(_) => "bit-array",
        PgValue::BitVarying(_) => "bit-varying",
        PgValue::Varbit(_) => "varbit",
        PgValue::VarbitArray(_) => "varbit-array",
        PgValue::Bytea(_) => "bytea",
        PgValue::ByteaArray(_) => "bytea-array",
        PgValue::Char(_) => "char",
        PgValue::CharArray(_) => "char-array",
        PgValue::Varchar(_) => "varchar",
        PgValue::VarcharArray(_) => "varchar-array",
        PgValue::Cidr(_) => "cidr",
        PgValue::CidrArray(_) => "cidr-array",
        PgValue::Inet(_) => "inet",
        PgValue::InetArray(_) => "inet-array",
        PgValue::Macaddr(_) => "macaddr",
        PgValue::MacaddrArray(_) => "macaddr-array",
        PgValue::Macaddr8(_) => "macaddr8",
        PgValue::Macaddr8Array(_) => "macaddr8-array",
        PgValue::Box_(_) => "box",
        PgValue::BoxArray(_) => "box-array",
        PgValue::Circle(_) => "circle",
        PgValue::CircleArray(_) => "circle-array",
        PgValue::Line(_) => "line",
        PgValue::LineArray(_) => "line-array",
        PgValue::Lseg(_) => "lseg",
        PgValue::LsegArray(_) => "lseg-array",
        PgValue::Path(_) => "path",
        PgValue::PathArray(_) => "path-array",
        PgValue::Point(_) => "point",
        PgValue::PointArray(_) => "point-array",
        PgValue::Polygon(_) => "polygon",
        PgValue::PolygonArray(_) => "polygon-array",
        PgValue::Date(_) => "date",
        PgValue::DateArray(_) => "date-array",
        PgValue::Interval(_) => "interval",
        PgValue::IntervalArray(_) => "interval-array",
        PgValue::Time(_) => "time",
        PgValue::TimeArray(_) => "time-array",
        PgValue::TimeTz(_) => "time-tz",
        PgValue::TimeTzArray(_) => "time-tz-array",
        PgValue::Timestamp(_) => "timestamp",
        PgValue::TimestampArray(_) => "timestamp-array",
        PgValue::TimestampTz(_) => "timestamp-tz",
        PgValue::TimestampTzArray(_) => "timestamp-tz-array",
        PgValue::Json(_) => "json",
        PgValue::JsonArray(_) => "json-array",
        PgValue::Jsonb(_) => "jsonb",
        PgValue::JsonbArray(_) => "jsonb-array",
        PgValue::Money(_) => "money",
        PgValue::MoneyArray(_) => "money-array",
        PgValue::PgLsn(_) => "pg-lsn",
        PgValue::PgLsnArray(_) => "pg-lsn-array",
        PgValue::PgSnapshot(_) => "pg-snapshot",
        PgValue::TxidSnapshot(_) => "txid-snapshot",
        PgValue::Name(_) => "name",
        PgValue::NameArray(_) => "name-array",
        PgValue::Text(_) => "text",
        PgValue::TextArray(_) => "text-array",
        PgValue::Xml(_) => "xml",
        PgValue::XmlArray(_) => "xml-array",
        PgValue::TsQuery(_) => "ts-query",
        PgValue::TsVector(_) => "ts-vector",
        PgValue::Uuid(_) => "uuid",
        PgValue::UuidArray(_) => "uuid-array",
        PgValue::Hstore(_) => "hstore",
    }
}

/// Whether the case can be a parameter of some type.
///
/// The others are types that a program seldom has at hand: bits, addresses, shapes, money, and PostgreSQL's own. Their
/// values go as `text`, which the server reads where it expects such a type.
pub(crate) fn is_served(value: &PgValue) -> bool {
    !matches!(
        value,
        PgValue::Int2VectorArray(_)
            | PgValue::Bit(_)
            | PgValue::BitArray(_)
            | PgValue::BitVarying(_)
            | PgValue::Varbit(_)
            | PgValue::VarbitArray(_)
            | PgValue::Cidr(_)
            | PgValue::CidrArray(_)
            | PgValue::Inet(_)
            | PgValue::InetArray(_)
            | PgValue::Macaddr(_)
            | PgValue::MacaddrArray(_)
            | PgValue::Macaddr8(_)
            | PgValue::Macaddr8Array(_)
            | PgValue::Box_(_)
            | PgValue::BoxArray(_)
            | PgValue::Circle(_)
            | PgValue::CircleArray(_)
            | PgValue::Line(_)
            | PgValue::LineArray(_)
            | PgValue::Lseg(_)
            | PgValue::LsegArray(_)
            | PgValue::Path(_)
            | PgValue::PathArray(_)
            | PgValue::Point(_)
            | PgValue::PointArray(_)
            | PgValue::Polygon(_)
            | PgValue::PolygonArray(_)
            | PgValue::Interval(_)
            | PgValue::IntervalArray(_)
            | PgValue::Money(_)
            | PgValue::MoneyArray(_)
            | PgValue::PgLsn(_)
            | PgValue::PgLsnArray(_)
            | PgValue::PgSnapshot(_)
            | PgValue::TxidSnapshot(_)
            | PgValue::TsQuery(_)
            | PgValue::TsVector(_)
            | PgValue::Hstore(_)
    )
}
