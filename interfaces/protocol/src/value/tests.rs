//! The serde side against the vectors, and hostile bytes against the scan.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::{Deserialize, Deserializer, Serializer};

use super::*;
use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LENGTH_MAX};

#[derive(Deserialize)]
struct File {
    values: Vec<Vector>,
    parameters: Vec<Vector>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    hex: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    wit: String,
    code: RefusalCode,
    hex: String,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
struct Nested {
    name: String,
    at: Point,
    tags: Vec<String>,
    note: Option<String>,
    blob: ByteList,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Error {
    NoSuchStore,
    AccessDenied,
    Other(String),
    MovedTo(Point),
    Pair((u8, String)),
    Maybe(Option<u8>),
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    Red,
    DarkGreen,
    Blue,
}

#[derive(Debug, Clone, PartialEq)]
struct Access(u64);

const ACCESS: &[&str] = &["read", "write", "list-keys"];

impl serde::Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        flags::serialize(ACCESS, self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        flags::deserialize(ACCESS, deserializer).map(Self)
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
struct Bucket(u64);

fn file() -> File {
    serde_json::from_str(include_str!("../../vectors/values.json")).unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// Which of the tests below states a vector's value.
#[derive(PartialEq)]
enum Group {
    Plain,
    Outcome,
    Composite,
}

fn group(vector: &Vector) -> Group {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|b| vector.name.starts_with(b));
    if begins(&["option", "result"]) {
        Group::Outcome
    } else if begins(&["tuple", "record", "variant", "enum", "flags", "handle"])
        || begins(&["list-variant", "list-tuple", "list-option"])
    {
        Group::Composite
    } else {
        Group::Plain
    }
}

/// Ticks vectors off as the test states their values.
struct Book {
    open: BTreeSet<String>,
    vectors: Vec<Vector>,
}

impl Book {
    fn of(vectors: Vec<Vector>) -> Self {
        let open = vectors.iter().map(|v| v.name.clone()).collect();
        Self { open, vectors }
    }

    /// Written, the value is the vector's bytes; read back, these are the value again.
    fn is<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: T) {
        let read = self.writes(name, &value);
        assert_eq!(decode::<T>(&read).unwrap(), value, "{name}");
    }

    fn writes<T: Serialize>(&mut self, name: &str, value: &T) -> Vec<u8> {
        assert!(
            self.open.remove(name),
            "{name} is no vector, or stands twice"
        );
        let vector = self.vectors.iter().find(|v| v.name == name).unwrap();
        let expected = bytes_of(&vector.hex);
        assert_eq!(encode(value).unwrap(), expected, "{name}");
        expected
    }

    fn close(self) {
        assert!(self.open.is_empty(), "not tested: {:?}", self.open);
    }
}

fn bytes(bytes: &[u8]) -> ByteList {
    ByteList::from(bytes)
}

#[test]
fn scalars_strings_and_lists_have_the_bytes_of_the_vectors() {
    let vectors = file().values;
    let mut book = Book::of(
        vectors
            .into_iter()
            .filter(|v| group(v) == Group::Plain)
            .collect(),
    );
    book.is("bool-true", true);
    book.is("bool-false", false);
    book.is("u8-zero", 0u8);
    book.is("u8-max", u8::MAX);
    book.is("u16-max", u16::MAX);
    book.is("u32-127", 127u32);
    book.is("u32-128", 128u32);
    book.is("u32-max", u32::MAX);
    book.is("u64-256", 256u64);
    book.is("u64-max", u64::MAX);
    book.is("s8-min", i8::MIN);
    book.is("s16-min", i16::MIN);
    book.is("s32-minus-32", -32i32);
    book.is("s32-minus-33", -33i32);
    book.is("s32-min", i32::MIN);
    book.is("s64-min", i64::MIN);
    book.is("s64-max", i64::MAX);
    book.is("f32-one-and-a-half", 1.5f32);
    book.is("f64-minus-zero", -0.0f64);
    book.is("f64-whole", 3.0f64);
    book.is("f64-infinity", f64::INFINITY);
    let nan = book.writes("f32-nan", &f32::from_bits(0x7fc1_2345));
    assert_eq!(encode(&f32::from_bits(0xff80_0001)).unwrap(), nan);
    let nan = book.writes("f64-nan", &f64::from_bits(0xfff8_0000_0000_0001));
    assert_eq!(encode(&f64::from_bits(0x7ff0_0000_0000_0001)).unwrap(), nan);
    assert!(decode::<f64>(&nan).unwrap().is_nan());
    book.writes(
        "list-f64-nan",
        &[f64::from_bits(0xfff8_0000_0000_0001), 1.0].to_vec(),
    );
    book.is("char-ascii", 'a');
    book.is("char-beyond-the-first-plane", '🦀');
    book.is("string-empty", String::new());
    book.is("string-umlaut", "grüße".to_owned());
    book.is("string-31", "x".repeat(31));
    book.is("string-32", "x".repeat(32));
    book.is("bytes-empty", bytes(&[]));
    book.is("bytes", bytes(&[0, 127, 128, 255]));
    book.is("bytes-256", bytes(&[7; 256]));
    book.is(
        "list-of-bytes",
        vec![bytes(&[]), bytes(&[1]), bytes(&[2, 3])],
    );
    book.is("list-of-bytes-empty", Vec::<ByteList>::new());
    book.is("list-u16", vec![1u16, 300]);
    book.is("list-u16-of-16", vec![1u16; 16]);
    book.is("list-string", vec!["a".to_owned(), String::new()]);
    book.close();
}

#[test]
fn options_and_results_have_the_bytes_of_the_vectors() {
    let vectors = file().values.into_iter();
    let mut book = Book::of(vectors.filter(|v| group(v) == Group::Outcome).collect());
    book.is("option-none", None::<u8>);
    book.is("option-some", Some(5u8));
    book.is("option-bytes-some-empty", Some(bytes(&[])));
    type Twice = NestedOption<Option<u8>>;
    book.is("option-option-none", NestedOption(None::<Option<u8>>));
    book.is("option-option-some-none", NestedOption(Some(None::<u8>)));
    book.is("option-option-some-some", NestedOption(Some(Some(5u8))));
    book.is("option-thrice-none", None::<Twice>);
    book.is(
        "option-thrice-some-none",
        Some(NestedOption(None::<Option<u8>>)),
    );
    book.is(
        "option-thrice-some-some-none",
        Some(NestedOption(Some(None::<u8>))),
    );
    book.is("option-thrice-some", Some(NestedOption(Some(Some(5u8)))));
    book.is("option-result-none", None::<Result<(), ()>>);
    book.is("option-result-ok", Some(Ok::<(), ()>(())));
    type Outcome = Result<u8, String>;
    book.is(
        "option-option-result-none",
        NestedOption(None::<Option<Outcome>>),
    );
    book.is(
        "option-option-result-some-none",
        NestedOption(Some(None::<Outcome>)),
    );
    book.is(
        "option-option-result-err",
        NestedOption(Some(Some(Outcome::Err("no".to_owned())))),
    );
    book.is("result-ok", Ok::<u8, Error>(1));
    book.is("result-err-bare-case", Err::<u8, _>(Error::NoSuchStore));
    book.is(
        "result-err-payload",
        Err::<u8, _>(Error::Other("x".to_owned())),
    );
    book.is("result-ok-only", Err::<String, ()>(()));
    book.is("result-err-only-ok", Ok::<(), Error>(()));
    book.is("result-empty-err", Err::<(), ()>(()));
    book.is("result-option-none", Ok::<Option<ByteList>, Error>(None));
    book.is("result-option-some", Ok::<_, Error>(Some(bytes(&[1, 2]))));
    book.close();
}

#[test]
fn composite_types_have_the_bytes_of_the_vectors() {
    let vectors = file().values.into_iter();
    let mut book = Book::of(vectors.filter(|v| group(v) == Group::Composite).collect());
    book.is("list-option", vec![None, Some(1u8)]);
    book.is("tuple-of-one", (7u8,));
    book.is("tuple", (1u8, "a".to_owned(), bytes(&[9])));
    book.is("list-tuple", vec![("k".to_owned(), bytes(&[1]))]);
    book.is(
        "list-option-tuple",
        vec![None, Some(("k".to_owned(), bytes(&[])))],
    );
    book.is("record", Point { x: 1, y: -1 });
    book.is(
        "record-nested",
        Nested {
            name: "n".to_owned(),
            at: Point { x: 0, y: 70_000 },
            tags: vec!["t".to_owned()],
            note: None,
            blob: bytes(&[255]),
        },
    );
    book.is("variant-bare", Error::AccessDenied);
    book.is("variant-string", Error::Other("x".to_owned()));
    book.is("variant-record", Error::MovedTo(Point { x: 1, y: 2 }));
    book.is("variant-tuple", Error::Pair((1, "b".to_owned())));
    book.is("variant-option-none", Error::Maybe(None));
    book.is(
        "list-variant",
        vec![Error::NoSuchStore, Error::Other(String::new())],
    );
    book.is("enum", Colour::DarkGreen);
    book.is("flags-none", Access(0));
    book.is("flags-some", Access(0b101));
    book.is("flags-all", Access(0b111));
    book.is("handle", Bucket(300));
    book.close();
}

#[test]
fn parameters_have_the_bytes_of_the_vectors() {
    let mut book = Book::of(file().parameters);
    book.is("params-none", NoParams);
    book.is(
        "params-one-nested-option",
        (NestedOption(Some(None::<u8>)),),
    );
    book.is("params-of-a-method", (Bucket(1), "k".to_owned()));
    book.is("params-of-a-drop", (Bucket(1),));
    book.is("params-one-string", ("a".to_owned(),));
    book.close();
}

#[test]
fn what_the_vectors_refuse_is_refused_with_their_code() {
    fn refuses<T: DeserializeOwned + Debug>(bytes: &[u8]) -> ValueError {
        decode::<T>(bytes).unwrap_err()
    }
    for refused in file().refused {
        let read = match &*refused.wit {
            "bool" => refuses::<bool>,
            "u8" => refuses::<u8>,
            "u32" => refuses::<u32>,
            "u64" => refuses::<u64>,
            "s8" => refuses::<i8>,
            "char" => refuses::<char>,
            "string" => refuses::<String>,
            "list<u8>" => refuses::<ByteList>,
            "list<u16>" => refuses::<Vec<u16>>,
            "option<option<u8>>" => refuses::<NestedOption<Option<u8>>>,
            "tuple<u8>" => refuses::<(u8,)>,
            "tuple<u8, string, list<u8>>" => refuses::<(u8, String, ByteList)>,
            "point" => refuses::<Point>,
            "error" => refuses::<Error>,
            "colour" => refuses::<Colour>,
            "access" => refuses::<Access>,
            "result<u8, error>" => refuses::<Result<u8, Error>>,
            "borrow<bucket>" => refuses::<Bucket>,
            other => panic!("{}: no Rust type for {other}", refused.name),
        };
        let error = read(&bytes_of(&refused.hex));
        assert_eq!(error.code(), refused.code, "{}: {error}", refused.name);
        assert_eq!(Refusal::from(error).code, refused.code);
    }
}

#[test]
fn every_cut_of_every_vector_is_refused() {
    for vector in file().values.iter().chain(&file().parameters) {
        let bytes = bytes_of(&vector.hex);
        check(&bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(
                matches!(check(&bytes[..end]), Err(ValueError::Truncated { .. })),
                "{} cut at {end}",
                vector.name
            );
        }
        let longer = [&bytes[..], &[0xc0]].concat();
        assert_eq!(check(&longer), Err(ValueError::Trailing { bytes: 1 }));
    }
}

#[test]
fn changed_bytes_never_panic_and_never_read_outside() {
    // A small generator of its own, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let originals: Vec<_> = file().values.iter().map(|v| bytes_of(&v.hex)).collect();
    for _ in 0..40_000 {
        let mut bytes = originals[random() as usize % originals.len()].clone();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => bytes.insert(at, random() as u8),
                _ => bytes[at] ^= 1 << (random() % 8),
            }
        }
        let _ = decode::<Nested>(&bytes);
        let _ = decode::<Error>(&bytes);
        let _ = decode::<Result<Option<ByteList>, Error>>(&bytes);
        let _ = decode::<Vec<Option<(String, ByteList)>>>(&bytes);
        let _ = decode::<Option<NestedOption<Option<u8>>>>(&bytes);
        let _ = decode::<Access>(&bytes);
        let _ = decode::<NoParams>(&bytes);
        let _ = scan::check_and_make_canonical(&mut bytes);
    }
}

#[test]
fn the_deepest_value_is_accepted_and_one_deeper_is_refused() {
    let nested = |depth: usize| {
        let mut bytes = vec![0x91; depth - 1];
        bytes.push(0x90);
        bytes
    };
    assert_eq!(check(&nested(VALUE_DEPTH_MAX)), Ok(()));
    assert_eq!(
        check(&nested(VALUE_DEPTH_MAX + 1)),
        Err(ValueError::TooDeep)
    );
}

#[test]
fn the_longest_list_is_accepted_and_one_element_more_is_refused() {
    assert!(encode(&vec![1u8; VALUE_LENGTH_MAX]).is_ok());
    assert_eq!(
        encode(&vec![1u8; VALUE_LENGTH_MAX + 1]),
        Err(ValueError::TooLong {
            length: VALUE_LENGTH_MAX as u32 + 1
        })
    );
}

#[test]
fn the_largest_value_is_accepted_and_one_byte_more_is_refused() {
    // Five bytes are the marker and the length.
    let largest = encode(&ByteList(vec![0; VALUE_BYTES_MAX - 5])).unwrap();
    assert_eq!(largest.len(), VALUE_BYTES_MAX);
    assert_eq!(
        decode::<ByteList>(&largest).unwrap().len(),
        VALUE_BYTES_MAX - 5
    );
    assert_eq!(
        encode(&ByteList(vec![0; VALUE_BYTES_MAX - 4])),
        Err(ValueError::TooLarge)
    );
    assert_eq!(
        check(&vec![0xc0; VALUE_BYTES_MAX + 1]),
        Err(ValueError::TooLarge)
    );
}

#[test]
fn longer_forms_of_numbers_and_lengths_are_read() {
    assert_eq!(decode::<u8>(b"\xcf\0\0\0\0\0\0\0\x05"), Ok(5));
    assert_eq!(decode::<String>(b"\xdb\0\0\0\x01a"), Ok("a".to_owned()));
    assert_eq!(decode::<ByteList>(b"\xc6\0\0\0\x01a"), Ok(bytes(b"a")));
    assert_eq!(decode::<Vec<u16>>(b"\xdd\0\0\0\x01\x07"), Ok(vec![7]));
}

#[test]
fn a_refusal_quotes_little_of_a_hostile_value() {
    let error = decode::<Error>(&encode(&"x".repeat(100_000)).unwrap()).unwrap_err();
    assert!(error.to_string().len() < 2 * DETAIL_BYTES_MAX, "{error}");
}
