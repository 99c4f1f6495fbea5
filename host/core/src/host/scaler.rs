//! Who manages an actor, as application managers write it into its annotations.
//!
//! A manager of wasmCloud 1.x knows its instances by annotations alone. One of them names the scaler, and a scaler that
//! is changed in any way (another reference, another configuration) is another one: the new one starts what it wants,
//! then the old one ends what it had (D12).

use trellis_protocol::control::Map;

/// The annotation that names the scaler.
const SCALER: &str = "wasmcloud.dev/scaler";

/// The scaler that annotations name.
pub(super) fn scaler_of(annotations: &Map) -> Option<&str> {
    annotations.get(SCALER).map(String::as_str)
}

/// Whether two are different scalers. Whoever names none is no scaler, and means whatever runs.
pub(super) fn are_rivals(one: Option<&str>, other: Option<&str>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scalers_are_rivals_and_nobody_else_is() {
        assert!(are_rivals(Some("a"), Some("b")));
        assert!(!are_rivals(Some("a"), Some("a")));
        assert!(!are_rivals(None, Some("a")));
        assert!(!are_rivals(Some("a"), None));
        assert!(!are_rivals(None, None));
    }

    #[test]
    fn the_scaler_is_one_annotation_of_several() {
        let pairs = [("wasmcloud.dev/managed-by", "wadm"), (SCALER, "s")];
        let annotations = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(scaler_of(&Map::from(annotations)), Some("s"));
        assert_eq!(scaler_of(&Map::new()), None);
    }
}
