#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::*;

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn link(source: &str, target: &str, interfaces: &[&str]) -> Value {
    json!({
        "source_id": source, "target": target, "name": "default", "wit_namespace": "wasi",
        "wit_package": "keyvalue", "interfaces": interfaces, "source_config": [], "target_config": []
    })
}

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

#[test]
fn one_bad_link_costs_itself_alone() {
    let mut data = LatticeData::default();
    let value = bytes(&json!({"url": "u", "links": [
        link("a", "b", &["store"]), "nonsense", link("b", "c", &["store"]), link("a", "c", &["../x"]),
        link("a", "d", &["atomics"])
    ]}));
    assert!(matches!(
        data.apply("COMPONENT_a", Some(&value)),
        Err(Skip::Malformed(_))
    ));
    let targets: Vec<_> = data.sources[&id("a")]
        .links
        .iter()
        .map(|l| l.target.as_str())
        .collect();
    assert_eq!(targets, ["b", "d"]);
}

#[test]
fn what_cannot_be_read_removes_what_was_there() {
    let mut data = LatticeData::default();
    let good = bytes(&json!({"url": "u", "links": [link("a", "b", &["store"])]}));
    assert_eq!(data.apply("COMPONENT_a", Some(&good)), Ok(Applied::Changed));
    assert_eq!(data.apply("COMPONENT_a", Some(&good)), Ok(Applied::Same));
    assert!(data.apply("COMPONENT_a", Some(b"{")).is_err());
    assert!(data.sources.is_empty());

    let mut data = TrellisData::default();
    let good = bytes(&json!({"subject": "MABC", "token": "t"}));
    assert_eq!(data.apply("TOKEN_a", Some(&good)), Ok(Applied::Changed));
    assert!(
        data.apply("TOKEN_a", Some(br#"{"subject":"M A"}"#))
            .is_err()
    );
    assert!(data.holders.is_empty());

    let mut data = ConfigData::default();
    assert_eq!(data.apply("c", Some(br#"{"k":"v"}"#)), Ok(Applied::Changed));
    assert!(data.apply("c", Some(br#"{"k":1}"#)).is_err());
    assert!(data.configs.is_empty());
}

#[test]
fn keys_of_others_are_passed_over() {
    let mut data = LatticeData::default();
    for key in ["LINKDEF_x", "REFMAP_x", "x", ""] {
        assert_eq!(
            data.apply(key, Some(b"\xff")),
            Ok(Applied::Foreign),
            "{key}"
        );
    }
    assert_eq!(
        TrellisData::default().apply("LEASE", Some(b"")),
        Ok(Applied::Foreign)
    );
    assert!(data.apply("COMPONENT_a.b", Some(b"{}")).is_err());
}

#[test]
fn a_reference_to_a_secret_is_no_configuration() {
    let mut data = ConfigData::default();
    let reference = br#"{"name":"db","backend":"vault","key":"db/password"}"#;
    assert_eq!(
        data.apply("SECRET_db", Some(reference)),
        Ok(Applied::Changed)
    );
    assert!(data.configs.is_empty());
    assert_eq!(data.secrets["SECRET_db"]["backend"], "vault");
    assert_eq!(data.apply("SECRET_db", None), Ok(Applied::Changed));
    assert!(data.secrets.is_empty());
}

#[test]
fn claims_of_another_subject_than_the_keys_are_skipped() {
    let mut data = LatticeData::default();
    let claims = bytes(&json!({"issuer": "A", "subject": "M1", "name": "n"}));
    assert_eq!(data.apply("CLAIMS_M1", Some(&claims)), Ok(Applied::Changed));
    assert!(data.apply("CLAIMS_M2", Some(&claims)).is_err());
    assert_eq!(data.claims.len(), 1);
    assert_eq!(data.apply("CLAIMS_M1", None), Ok(Applied::Changed));
    assert!(data.claims.is_empty());
}

#[test]
fn a_reason_never_repeats_a_value() {
    let mut data = ConfigData::default();
    let error = data
        .apply("c", Some(br#"{"password":hunter2}"#))
        .unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = data.apply("c", Some(br#"["hunter2"]"#)).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn a_source_keeps_its_first_links_up_to_the_limit() {
    let mut data = LatticeData::default();
    let links = |count: usize| -> Vec<_> {
        (0..count)
            .map(|n| link("a", &format!("t{n}"), &["store"]))
            .collect()
    };
    let value = bytes(&json!({"url": "", "links": links(LINKS_PER_SOURCE_MAX)}));
    assert_eq!(
        data.apply("COMPONENT_a", Some(&value)),
        Ok(Applied::Changed)
    );
    let value = bytes(&json!({"url": "", "links": links(LINKS_PER_SOURCE_MAX + 1)}));
    assert_eq!(
        data.apply("COMPONENT_a", Some(&value)),
        Err(Skip::Limit("links of a source"))
    );
    assert_eq!(data.sources[&id("a")].links.len(), LINKS_PER_SOURCE_MAX);
}

#[test]
fn a_bucket_is_bounded_in_keys_and_in_bytes() {
    let mut data = Bounded::<ConfigData>::default();
    for n in 0..ENTRIES_MAX {
        data.apply(&n.to_string(), Some(b"{}")).unwrap();
    }
    assert_eq!(
        data.apply("one-more", Some(b"{}")),
        Err(Skip::Limit("keys in a bucket"))
    );
    assert_eq!(
        data.apply("0", Some(br#"{"still":"there"}"#)),
        Ok(Applied::Changed)
    );
    data.apply("1", None).unwrap();
    assert_eq!(data.apply("one-more", Some(b"{}")), Ok(Applied::Changed));

    let mut data = Bounded::<ConfigData>::default();
    let large = bytes(&json!({"k": "v".repeat(VALUE_BYTES_MAX - 8)}));
    assert_eq!(large.len(), VALUE_BYTES_MAX);
    for n in 0..BUCKET_BYTES_MAX / VALUE_BYTES_MAX {
        data.apply(&n.to_string(), Some(&large)).unwrap();
    }
    assert_eq!(
        data.apply("over", Some(&large)),
        Err(Skip::Limit("bytes in a bucket"))
    );
    assert_eq!(
        data.content.configs.len(),
        BUCKET_BYTES_MAX / VALUE_BYTES_MAX
    );
    let mut larger = large;
    larger.push(b' ');
    assert_eq!(
        data.apply("0", Some(&larger)),
        Err(Skip::Limit("bytes in a value"))
    );
    assert!(!data.content.configs.contains_key("0"));
}

#[test]
fn mutated_values_never_panic() {
    let value = bytes(&json!({"url": "u", "links": [link("a", "b", &["store"])]}));
    let mut data = LatticeData::default();
    for position in 0..value.len() {
        for byte in [0, b'"', b'{', b'[', 0xff] {
            let mut mutated = value.clone();
            mutated[position] = byte;
            let _ = data.apply("COMPONENT_a", Some(&mutated));
            let _ = data.apply("CLAIMS_a", Some(&mutated));
        }
    }
}
