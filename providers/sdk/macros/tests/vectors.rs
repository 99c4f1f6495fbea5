//! What the macro makes of the vectors' WIT: the same bytes and the same type hashes as by hand.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use trellis_protocol::shape::{FunctionShape, Shape};
use trellis_protocol::value::{self, ByteList, NestedOption};
use values::{Access, Bucket, Colour, Error, FUNCTIONS, Nested, Point};

trellis_provider_sdk::interfaces!({
    path: "../../../interfaces/protocol/vectors/values.wit",
    interfaces: ["trellis:vectors/values@0.1.0"],
});

fn vectors() -> serde_json::Value {
    let text = include_str!("../../../../interfaces/protocol/vectors/values.json");
    serde_json::from_str(text).unwrap()
}

fn is<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: T) {
    let vectors = vectors();
    let vector = ["values", "parameters"]
        .iter()
        .flat_map(|list| vectors[*list].as_array().unwrap())
        .find(|vector| vector["name"] == name)
        .unwrap();
    let bytes = data_encoding::HEXLOWER
        .decode(vector["hex"].as_str().unwrap().as_bytes())
        .unwrap();
    assert_eq!(value::encode(&value).unwrap(), bytes, "{name}");
    assert_eq!(value::decode::<T>(&bytes).unwrap(), value, "{name}");
}

#[test]
fn generated_types_have_the_bytes_of_the_vectors() {
    is("record", Point { x: 1, y: -1 });
    is(
        "record-nested",
        Nested {
            name: "n".to_owned(),
            at: Point { x: 0, y: 70_000 },
            tags: vec!["t".to_owned()],
            note: None,
            blob: ByteList(vec![255]),
        },
    );
    is("variant-bare", Error::AccessDenied);
    is("variant-string", Error::Other("x".to_owned()));
    is("variant-record", Error::MovedTo(Point { x: 1, y: 2 }));
    is("variant-tuple", Error::Pair((1, "b".to_owned())));
    is("variant-option-none", Error::Maybe(None));
    is(
        "list-variant",
        vec![Error::NoSuchStore, Error::Other(String::new())],
    );
    is(
        "result-err-payload",
        Err::<u8, _>(Error::Other("x".to_owned())),
    );
    is("enum", Colour::DarkGreen);
    is("flags-none", Access::empty());
    is("flags-some", Access::LIST_KEYS | Access::READ);
    is("flags-all", Access::all());
    is("handle", Bucket(300));
    is("params-of-a-method", (Bucket(1), "k".to_owned()));
}

#[test]
fn a_client_sends_the_parameters_of_the_vectors() {
    use std::sync::Mutex;
    use trellis_provider_sdk::interface::Caller;
    use trellis_provider_sdk::{Operation, Refusal};

    /// Answers everything with one result, and keeps what it was asked.
    struct Recorder(Mutex<Vec<(String, u64, Vec<u8>)>>, &'static [u8]);

    impl Caller for Recorder {
        async fn call(
            &self,
            operation: &Operation,
            type_hash: u64,
            payload: bytes::Bytes,
        ) -> Result<bytes::Bytes, Refusal> {
            let mut asked = self.0.lock().unwrap();
            asked.push((operation.to_string(), type_hash, payload.to_vec()));
            Ok(bytes::Bytes::from_static(self.1))
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let nil = values::Client(Recorder(Mutex::default(), b"\xc0"));
        nil.none().await.unwrap();
        nil.v_option_option_u8(NestedOption(Some(None)))
            .await
            .unwrap();
        nil.v_bytes(b"a").await.unwrap();
        nil.v_list_string(&["a".to_owned()]).await.unwrap();
        nil.drop_bucket(Bucket(1)).await.unwrap();
        let asked = nil.0.0.into_inner().unwrap();
        let payloads: Vec<_> = asked.iter().map(|(_, _, payload)| &payload[..]).collect();
        assert_eq!(
            payloads,
            [
                &b"\x90"[..],
                b"\x91\x91\xc0",
                b"\x91\xc4\x01a",
                b"\x91\x91\xa1a",
                b"\x91\x01"
            ]
        );
        assert_eq!(
            asked[4].0,
            "trellis:vectors/values@0.1.0#[resource-drop]bucket"
        );
        assert_eq!(asked[4].1, values::type_hash::DROP_BUCKET);

        let ok = values::Client(Recorder(Mutex::default(), b"\x81\xa2Ok\xc0"));
        assert_eq!(ok.bucket_touch(Bucket(1), "k").await.unwrap(), Ok(()));
        assert_eq!(ok.0.0.lock().unwrap()[0].2, b"\x92\x01\xa1k");
        let twice = values::Client(Recorder(Mutex::default(), b"\x91\xc0"));
        assert_eq!(twice.result_only().await.unwrap(), NestedOption(Some(None)));
        assert_eq!(
            twice.none().await.unwrap_err().code,
            trellis_provider_sdk::RefusalCode::BadPayload
        );
    });
}

fn hash(params: &[(&str, Shape)], result: Option<Shape>) -> u64 {
    let params = params
        .iter()
        .map(|(name, shape)| ((*name).to_owned(), shape.clone()))
        .collect();
    FunctionShape::new(params, result).unwrap().type_hash()
}

fn error() -> Shape {
    let point = Shape::Record(vec![("x".into(), Shape::S32), ("y".into(), Shape::S32)]);
    Shape::Variant(vec![
        ("no-such-store".into(), None),
        ("access-denied".into(), None),
        ("other".into(), Some(Shape::String)),
        ("moved-to".into(), Some(point)),
        (
            "pair".into(),
            Some(Shape::Tuple(vec![Shape::U8, Shape::String])),
        ),
        ("maybe".into(), Some(Shape::option(Shape::U8))),
    ])
}

#[test]
fn generated_type_hashes_are_those_of_shapes_built_by_hand() {
    let of = |name: &str| {
        FUNCTIONS
            .iter()
            .find(|function| function.name == name)
            .unwrap()
            .type_hash
    };
    assert_eq!(of("none"), hash(&[], None));
    assert_eq!(of("v-bool"), hash(&[("v", Shape::Bool)], None));
    assert_eq!(
        of("v-list-bytes"),
        hash(&[("v", Shape::list(Shape::list(Shape::U8)))], None)
    );
    assert_eq!(of("v-error"), hash(&[("v", error())], None));
    assert_eq!(
        of("v-access"),
        hash(
            &[(
                "v",
                Shape::Flags(vec!["read".into(), "write".into(), "list-keys".into()])
            )],
            None
        )
    );
    assert_eq!(
        of("v-colour"),
        hash(
            &[(
                "v",
                Shape::Enum(vec!["red".into(), "dark-green".into(), "blue".into()])
            )],
            None
        )
    );
    assert_eq!(
        of("result-only"),
        hash(&[], Some(Shape::option(Shape::option(Shape::U8))))
    );
    assert_eq!(
        of("[method]bucket.touch"),
        hash(
            &[("self", Shape::Handle), ("key", Shape::String)],
            Some(Shape::result(None, Some(error())))
        )
    );
    assert_eq!(
        of("[resource-drop]bucket"),
        FunctionShape::resource_drop().type_hash()
    );
}
