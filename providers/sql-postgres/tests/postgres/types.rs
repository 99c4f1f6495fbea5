//! Values of every type that is served, both ways, against what the server itself says of them.

use trellis_protocol::value::ByteList;
use trellis_sql_postgres::wit::types::{
    Date, Offset, PgValue, Time, TimeTz, Timestamp, TimestampTz,
};

use crate::fixture::{Fixture, invalid_params, shared, text, unexpected};

fn time(hour: u32, min: u32, sec: u32, micro: u32) -> Time {
    Time {
        hour,
        min,
        sec,
        micro,
    }
}

fn bytes(text: &str) -> ByteList {
    ByteList(text.as_bytes().to_vec())
}

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The type, a value of it, and the server's own text for it.
fn matrix() -> Vec<(&'static str, PgValue, &'static str)> {
    let day = || Date::Ymd((2024, 2, 29));
    let moment = || Timestamp {
        date: day(),
        time: time(13, 14, 15, 16),
    };
    let utc = |timestamp| TimestampTz {
        timestamp,
        offset: Offset::WesternHemisphereSecs(0),
    };
    let uuid = "7f3b1c52-0000-4000-8000-00000000abcd";
    vec![
        ("int2", PgValue::Int2(i16::MIN), "-32768"),
        ("int4", PgValue::Int4(i32::MAX), "2147483647"),
        ("int8", PgValue::Int8(i64::MIN), "-9223372036854775808"),
        ("oid", PgValue::Int8(4_294_967_295), "4294967295"),
        ("bool", PgValue::Bool(true), "true"),
        (
            "float8",
            PgValue::Float8((4_503_599_627_370_496, -52, 1)),
            "1",
        ),
        (
            "float8",
            PgValue::Float8((7_205_759_403_792_794, -56, -1)),
            "-0.1",
        ),
        ("float8", PgValue::Float8((0, -1075, -1)), "-0"),
        ("float8", PgValue::Float8((2, -1075, 1)), "5e-324"),
        (
            "float8",
            PgValue::Float8((9_007_199_254_740_991, 971, 1)),
            "1.7976931348623157e+308",
        ),
        (
            "float8",
            PgValue::Float8((4_503_599_627_370_496, 972, -1)),
            "-Infinity",
        ),
        (
            "float8",
            PgValue::Float8((6_755_399_441_055_744, 972, 1)),
            "NaN",
        ),
        ("float4", PgValue::Float4((12_582_912, -23, 1)), "1.5"),
        ("float4", PgValue::Float4((8_388_608, 105, 1)), "Infinity"),
        ("float4", PgValue::Float4((2, -150, 1)), "1e-45"),
        (
            "numeric",
            PgValue::Numeric("12345678901234567890.123456789000".to_owned()),
            "12345678901234567890.123456789000",
        ),
        (
            "numeric",
            PgValue::Numeric("-0.00000000000000000001".to_owned()),
            "-0.00000000000000000001",
        ),
        ("numeric", PgValue::Numeric("NaN".to_owned()), "NaN"),
        (
            "numeric",
            PgValue::Numeric("-Infinity".to_owned()),
            "-Infinity",
        ),
        (
            "text",
            text("grüße 🦀 'quoted' \\ \""),
            "grüße 🦀 'quoted' \\ \"",
        ),
        ("text", text(""), ""),
        ("varchar", PgValue::Varchar((None, bytes("größe"))), "größe"),
        ("varchar(5)", PgValue::Varchar((None, bytes("abc"))), "abc"),
        ("bpchar", PgValue::Char((3, bytes("abc"))), "abc"),
        ("name", PgValue::Name("orders".to_owned()), "orders"),
        (
            "bytea",
            PgValue::Bytea(ByteList(vec![0, 1, 254, 255])),
            "\\x0001feff",
        ),
        ("bytea", PgValue::Bytea(ByteList(vec![])), "\\x"),
        ("uuid", PgValue::Uuid(uuid.to_owned()), uuid),
        (
            "json",
            PgValue::Json("{\"b\":  [1, null]}".to_owned()),
            "{\"b\":  [1, null]}",
        ),
        (
            "jsonb",
            PgValue::Jsonb("{\"b\": [1, null]}".to_owned()),
            "{\"b\": [1, null]}",
        ),
        ("date", PgValue::Date(day()), "2024-02-29"),
        ("date", PgValue::Date(Date::Ymd((0, 1, 1))), "0001-01-01 BC"),
        (
            "date",
            PgValue::Date(Date::Ymd((-4713, 11, 24))),
            "4714-11-24 BC",
        ),
        (
            "date",
            PgValue::Date(Date::Ymd((5_874_897, 12, 31))),
            "5874897-12-31",
        ),
        ("date", PgValue::Date(Date::PositiveInfinity), "infinity"),
        ("date", PgValue::Date(Date::NegativeInfinity), "-infinity"),
        (
            "time",
            PgValue::Time(time(23, 59, 59, 999_999)),
            "23:59:59.999999",
        ),
        ("time", PgValue::Time(time(24, 0, 0, 0)), "24:00:00"),
        (
            "timetz",
            PgValue::TimeTz(TimeTz {
                timesonze: "-05:30".to_owned(),
                time: time(1, 2, 3, 0),
            }),
            "01:02:03-05:30",
        ),
        (
            "timestamp",
            PgValue::Timestamp(moment()),
            "2024-02-29 13:14:15.000016",
        ),
        (
            "timestamp",
            PgValue::Timestamp(Timestamp {
                date: Date::Ymd((1969, 12, 31)),
                time: time(23, 59, 59, 999_999),
            }),
            "1969-12-31 23:59:59.999999",
        ),
        (
            "timestamp",
            PgValue::Timestamp(Timestamp {
                date: Date::PositiveInfinity,
                time: time(0, 0, 0, 0),
            }),
            "infinity",
        ),
        (
            "timestamptz",
            PgValue::TimestampTz(utc(moment())),
            "2024-02-29 13:14:15.000016+00",
        ),
        (
            "timestamptz",
            PgValue::TimestampTz(utc(Timestamp {
                date: Date::NegativeInfinity,
                time: time(0, 0, 0, 0),
            })),
            "-infinity",
        ),
        ("bool[]", PgValue::BoolArray(vec![true, false]), "{t,f}"),
        ("int2[]", PgValue::Int2Array(vec![1, -1]), "{1,-1}"),
        ("int4[]", PgValue::Int4Array(vec![]), "{}"),
        (
            "int8[]",
            PgValue::Int8Array(vec![i64::MAX]),
            "{9223372036854775807}",
        ),
        (
            "float4[]",
            PgValue::Float4Array(vec![(12_582_912, -23, 1)]),
            "{1.5}",
        ),
        (
            "float8[]",
            PgValue::Float8Array(vec![(4_503_599_627_370_496, -52, -1)]),
            "{-1}",
        ),
        (
            "numeric[]",
            PgValue::NumericArray(list(&["1.50", "NaN"])),
            "{1.50,NaN}",
        ),
        (
            "text[]",
            PgValue::TextArray(list(&["a", "", "b,c"])),
            "{a,\"\",\"b,c\"}",
        ),
        (
            "varchar[]",
            PgValue::VarcharArray(vec![(None, bytes("a"))]),
            "{a}",
        ),
        ("bpchar[]", PgValue::CharArray(vec![(1, bytes("a"))]), "{a}"),
        ("name[]", PgValue::NameArray(list(&["a"])), "{a}"),
        (
            "bytea[]",
            PgValue::ByteaArray(vec![ByteList(vec![255]), ByteList(vec![])]),
            "{\"\\\\xff\",\"\\\\x\"}",
        ),
        (
            "uuid[]",
            PgValue::UuidArray(list(&[uuid])),
            "{7f3b1c52-0000-4000-8000-00000000abcd}",
        ),
        ("json[]", PgValue::JsonArray(list(&["1"])), "{1}"),
        (
            "jsonb[]",
            PgValue::JsonbArray(list(&["true", "1"])),
            "{true,1}",
        ),
        (
            "date[]",
            PgValue::DateArray(vec![day(), Date::PositiveInfinity]),
            "{2024-02-29,infinity}",
        ),
        (
            "time[]",
            PgValue::TimeArray(vec![time(1, 2, 3, 4)]),
            "{01:02:03.000004}",
        ),
        (
            "timetz[]",
            PgValue::TimeTzArray(vec![TimeTz {
                timesonze: "+00:00".to_owned(),
                time: time(1, 0, 0, 0),
            }]),
            "{01:00:00+00}",
        ),
        (
            "timestamp[]",
            PgValue::TimestampArray(vec![moment()]),
            "{\"2024-02-29 13:14:15.000016\"}",
        ),
        (
            "timestamptz[]",
            PgValue::TimestampTzArray(vec![utc(moment())]),
            "{\"2024-02-29 13:14:15.000016+00\"}",
        ),
    ]
}

#[tokio::test]
async fn every_type_comes_back_as_it_went_and_is_to_the_server_what_it_should_be() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    for (ty, value, expected) in matrix() {
        let sql = format!(
            "SELECT $1::{ty} AS it, $1::{ty}::text AS words, '{}'::{ty} AS its",
            expected.replace('\'', "''")
        );
        let rows = fixture.rows(&sql, std::slice::from_ref(&value)).await;
        let words = match &rows[0][1].value {
            PgValue::Text(words) => words.as_str(),
            other => panic!("{other:?}"),
        };
        assert_eq!(words, expected, "{ty}");
        assert_eq!(rows[0][0].value, value, "{ty} {expected}");
        assert_eq!(
            rows[0][2].value, value,
            "{ty} {expected}, as the server reads it"
        );
        assert_eq!(rows[0][0].column_name, "it");
        let null = fixture
            .value(&format!("SELECT $1::{ty}"), &[PgValue::Null])
            .await;
        assert_eq!(null, PgValue::Null, "{ty}");
    }
}

#[tokio::test]
async fn a_number_of_the_largest_scale_and_precision_comes_back() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let long = format!("{}.{}", "9".repeat(131_072), "1".repeat(16_383));
    let value = PgValue::Numeric(long);
    assert_eq!(
        fixture
            .value("SELECT $1::numeric", std::slice::from_ref(&value))
            .await,
        value
    );
}

#[tokio::test]
async fn offsets_and_other_names_of_types_mean_what_they_say() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let moment = PgValue::TimestampTz(TimestampTz {
        timestamp: Timestamp {
            date: Date::Ymd((2024, 7, 1)),
            time: time(12, 0, 0, 0),
        },
        offset: Offset::EasternHemisphereSecs(7200),
    });
    for (sql, value, expected) in [
        (
            "SELECT $1::timestamptz::text",
            moment,
            "2024-07-01 10:00:00+00",
        ),
        ("SELECT $1::int8::text", PgValue::SmallInt(5), "5"),
        ("SELECT $1::numeric::text", PgValue::BigInt(-5), "-5"),
        (
            "SELECT $1::float8::text",
            PgValue::Real((12_582_912, -23, 1)),
            "1.5",
        ),
        (
            "SELECT $1::numeric::text",
            PgValue::Decimal("1e3".to_owned()),
            "1000",
        ),
        ("SELECT $1::varchar::text", text("x"), "x"),
        (
            "SELECT $1::int8[]::text",
            PgValue::Int2Array(vec![3]),
            "{3}",
        ),
        // What the interface has no case for goes and comes as text.
        (
            "SELECT $1::interval::text",
            text("1 day 02:03"),
            "1 day 02:03:00",
        ),
        ("SELECT $1::inet::text", text("10.0.0.1/8"), "10.0.0.1/8"),
        ("SELECT $1::int4range::text", text("[1,5)"), "[1,5)"),
    ] {
        assert_eq!(fixture.value(sql, &[value]).await, text(expected), "{sql}");
    }
    for (span, expected) in [
        ("1 year 2 mons -3 days 04:05:06.789", "P1Y2M-3DT4H5M6.789S"),
        ("0", "PT0S"),
        ("-00:00:00.5", "PT-0.5S"),
        ("-100:00:01", "PT-100H-1S"),
    ] {
        let sql = format!("SELECT '{span}'::interval");
        assert_eq!(fixture.value(&sql, &[]).await, text(expected));
        let back = fixture
            .value(
                "SELECT ($1::interval = $2::text::interval)",
                &[text(expected), text(span)],
            )
            .await;
        assert_eq!(back, PgValue::Bool(true), "{span}");
    }
}

#[tokio::test]
async fn types_of_the_databases_own_go_by_text() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    fixture
        .client()
        .query_batch("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN small AS int4 CHECK (VALUE < 10)")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        fixture.value("SELECT $1::mood", &[text("happy")]).await,
        text("happy")
    );
    let moods = PgValue::TextArray(list(&["sad", "happy"]));
    assert_eq!(
        fixture
            .value("SELECT $1::mood[]", std::slice::from_ref(&moods))
            .await,
        moods
    );
    assert_eq!(
        fixture.value("SELECT $1::small", &[PgValue::Int4(9)]).await,
        PgValue::Int4(9)
    );
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused_by_position_before_anything_runs() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let client = fixture.client();
    let one = PgValue::Int4(1);
    let said = invalid_params(
        client
            .query("SELECT $1::int4, $2::int4", &[one.clone(), text("2")])
            .await
            .unwrap(),
    );
    assert!(
        said.contains("$2") && said.contains("int4") && said.contains("`text`"),
        "{said}"
    );
    let said = invalid_params(client.query("SELECT $1::int4", &[]).await.unwrap());
    assert!(said.contains("1 parameters, 0 were given"), "{said}");
    let said = invalid_params(client.query("SELECT 1", &[one]).await.unwrap());
    assert!(said.contains("0 parameters, 1 were given"), "{said}");
    let said = invalid_params(
        client
            .query("SELECT $1::inet::text", &[PgValue::Inet("::1".to_owned())])
            .await
            .unwrap(),
    );
    assert!(said.contains("`inet` is not served"), "{said}");
}

#[tokio::test]
async fn columns_that_cannot_be_expressed_are_named_before_the_statement_runs() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let client = fixture.client();
    client
        .query_batch("CREATE TABLE untouched (n int)")
        .await
        .unwrap()
        .unwrap();
    let sql = "WITH w AS (INSERT INTO untouched VALUES (1)) SELECT point(1, 2) AS place";
    let said = unexpected(client.query(sql, &[]).await.unwrap());
    assert!(said.contains("`place`") && said.contains("point"), "{said}");
    assert_eq!(
        fixture.value("SELECT count(*) FROM untouched", &[]).await,
        PgValue::Int8(0)
    );
    let said = unexpected(
        client
            .query("SELECT ARRAY[1, NULL] AS holes", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("`holes`") && said.contains("nulls"), "{said}");
    let said = unexpected(
        client
            .query("SELECT ARRAY[[1], [2]] AS square", &[])
            .await
            .unwrap(),
    );
    assert!(
        said.contains("`square`") && said.contains("dimensions"),
        "{said}"
    );
}
