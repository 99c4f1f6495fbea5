//! For tests: tokens that no honest signer would make, correctly signed all the same, and the keys and times around.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::key::{KeyKind, PublicKey, SigningKey};
use crate::token::Validity;
use crate::trust::TrustRoots;
use crate::unix_time::UnixTime;

/// When all tests take place.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// An hour from now on.
pub(crate) const HOUR: Validity = Validity {
    not_before: NOW,
    expires: UnixTime::from_secs(NOW.as_secs() + 3600),
};

pub(crate) fn new_key(kind: KeyKind) -> SigningKey {
    SigningKey::generate(kind)
}

pub(crate) fn new_public(kind: KeyKind) -> PublicKey {
    new_key(kind).public().clone()
}

pub(crate) fn trusting(roots: &[&SigningKey]) -> TrustRoots {
    let mut trusted = TrustRoots::default();
    for root in roots {
        trusted
            .insert(root.public().clone())
            .expect("a new account or operator key can be a root");
    }
    trusted
}

/// A token of exactly this header and payload, signed by `key` as if they were in order.
pub(crate) fn forge(key: &SigningKey, header: &Value, payload: &Value) -> String {
    let signed = unsigned(header, &payload.to_string());
    let signature = key.sign_bytes(signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// Header and payload of a token, with the dot between them.
pub(crate) fn unsigned(header: &Value, payload: &str) -> String {
    format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(header.to_string().as_bytes()),
        BASE64URL_NOPAD.encode(payload.as_bytes())
    )
}

/// The header that good tokens have.
pub(crate) fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "JWT"})
}

/// The token's payload, for changing.
pub(crate) fn payload_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token has three parts");
    let payload = BASE64URL_NOPAD
        .decode(payload.as_bytes())
        .expect("our tokens are base64url");
    serde_json::from_slice(&payload).expect("our tokens are JSON")
}
