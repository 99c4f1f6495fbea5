//! Signatures on the control interface: where they travel, what needs one, and what a link's signature covers.
//!
//! A command's signature is a token in a NATS header beside the request, so that the body stays what every tool of the
//! interface sends. A link's signature is an extra key of the link itself: it is stored with the link, and each host
//! judges the link by it (D1). The same key of a deletion holds a token that says so, and is stored in the link's place.
//!
//! The tokens themselves are made and read in `trellis-claims`; who is believed is for a host to say.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use trellis_claims::LinkStatement;

use super::{ControlError, Request};
use crate::link::{Link, LinkKey};

/// The header of a control request that carries its signature, a JWT.
pub const SIGNATURE_HEADER: &str = "Trellis-Signature";

/// Longest such header, in bytes: a command's token, with an operator's token inside, has about two kilobytes.
pub const SIGNATURE_BYTES_MAX: usize = 8 * 1024;

/// Most deletions that are kept for one source. Of more the earliest goes; hosts remember what they have seen.
pub const DELETIONS_PER_SOURCE_MAX: usize = 128;

/// What the hash of a link's fields begins with, so that it is no hash of anything else.
const FIELDS_CONTEXT: &[u8] = b"trellis link 1\0";

/// Whether a request only asks. Everything else changes something, or shows what actors say to each other, and is a
/// command, which a host can insist on being signed. An unknown request is a command.
#[must_use]
pub fn is_question(noun: &str, verb: &str) -> bool {
    matches!(
        (noun, verb),
        ("host", "ping" | "get" | "links" | "stats")
            | ("component" | "provider", "auction")
            | ("link" | "claims" | "config", "get")
    )
}

/// The signature that a link, or the request to delete one, carries. Extra keys are for later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkProof {
    /// The token, a JWT.
    pub signature: String,
}

/// A link with what its operator signed: the body of `link.put`, and an entry of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedLink {
    /// The link.
    #[serde(flatten)]
    pub link: Link,
    /// Its signature, where it has one.
    #[serde(default, rename = "trellis", skip_serializing_if = "Option::is_none")]
    pub proof: Option<LinkProof>,
}

/// A deletion with what its operator signed: the body of `link.del`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedDeletion {
    /// Which links.
    #[serde(flatten)]
    pub key: LinkKey,
    /// Its signature, where it has one.
    #[serde(default, rename = "trellis", skip_serializing_if = "Option::is_none")]
    pub proof: Option<LinkProof>,
}

/// A link as `link.get` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedLink {
    /// The link.
    #[serde(flatten)]
    pub link: Link,
    /// Whether somebody whom the host that answers trusts has signed it, and no later statement says otherwise. Hosts of
    /// other makers do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<bool>,
}

impl From<Link> for SignedLink {
    fn from(link: Link) -> Self {
        Self { link, proof: None }
    }
}

impl From<LinkKey> for SignedDeletion {
    fn from(key: LinkKey) -> Self {
        Self { key, proof: None }
    }
}

impl SignedLink {
    /// The token, where there is one.
    #[must_use]
    pub fn signature(&self) -> Option<&str> {
        self.proof.as_ref().map(|proof| &*proof.signature)
    }
}

impl SignedDeletion {
    /// The token, where there is one.
    #[must_use]
    pub fn signature(&self) -> Option<&str> {
        self.proof.as_ref().map(|proof| &*proof.signature)
    }
}

impl Request for SignedLink {
    fn check(&self) -> Result<(), ControlError> {
        <Link as Request>::check(&self.link)?;
        check_length(self.signature())
    }
}

impl Request for SignedDeletion {
    fn check(&self) -> Result<(), ControlError> {
        self.key.check()?;
        check_length(self.signature())
    }
}

fn check_length(signature: Option<&str>) -> Result<(), ControlError> {
    let bytes = signature.map_or(0, str::len);
    if bytes <= SIGNATURE_BYTES_MAX {
        return Ok(());
    }
    let reason =
        format!("has a signature of {bytes} bytes, at most {SIGNATURE_BYTES_MAX} are accepted");
    Err(ControlError::invalid("trellis", reason))
}

impl Link {
    /// What is signed of a link: that it stands, with everything it says.
    ///
    /// The hash is SHA-256 over a context, then source, target, name, namespace and package, then interfaces, source and
    /// target configurations; a text is its length (four bytes, big endian) and its bytes, a list its number of texts
    /// (the same) and the texts, in their order.
    #[must_use]
    pub fn statement(&self) -> LinkStatement {
        let mut hash = Sha256::new();
        hash.update(FIELDS_CONTEXT);
        for text in [
            self.source_id.as_str(),
            self.target.as_str(),
            self.name.as_str(),
            &self.wit_namespace,
            &self.wit_package,
        ] {
            take_text(&mut hash, text);
        }
        for list in [&self.interfaces, &self.source_config, &self.target_config] {
            hash.update(length(list.len()));
            for text in list {
                take_text(&mut hash, text);
            }
        }
        LinkStatement::Put {
            fields: hash.finalize().into(),
        }
    }
}

impl LinkKey {
    /// What is signed of a deletion.
    #[must_use]
    pub fn deletion(&self) -> LinkStatement {
        LinkStatement::Delete {
            source: self.source_id.to_string(),
            name: self.name.to_string(),
            package: self.package(),
        }
    }

    /// Namespace and package, `wasi:keyvalue`.
    #[must_use]
    pub fn package(&self) -> String {
        format!("{}:{}", self.wit_namespace, self.wit_package)
    }
}

fn take_text(hash: &mut Sha256, text: &str) {
    hash.update(length(text.len()));
    hash.update(text.as_bytes());
}

/// Lengths are far below 2^32 in whatever has been checked; one that is not cannot be anybody's.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn link() -> Link {
        serde_json::from_value(json!({
            "source_id": "shortlink", "target": "kv", "name": "default",
            "wit_namespace": "wasi", "wit_package": "keyvalue", "interfaces": ["store", "atomics"],
            "source_config": [], "target_config": ["bucket"],
        }))
        .unwrap()
    }

    fn fields(link: &Link) -> [u8; 32] {
        match link.statement() {
            LinkStatement::Put { fields } => fields,
            LinkStatement::Delete { .. } => panic!("a link stands"),
        }
    }

    #[test]
    fn the_hash_of_a_links_fields_is_this() {
        let mut bytes = b"trellis link 1\0".to_vec();
        for text in ["shortlink", "kv", "default", "wasi", "keyvalue"] {
            bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(
            *b"\0\0\0\x02\0\0\0\x05store\0\0\0\x07atomics\0\0\0\0\0\0\0\x01\0\0\0\x06bucket",
        );
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(fields(&link()), expected);
        assert_eq!(
            hex(&expected),
            "16cd62a341018c31ef2a662cb4e3b9242d2ac8e0e83a0ba0061e76e7fc1cc74e"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_field_of_a_link_is_covered() {
        let changes: [fn(&mut Link); 10] = [
            |link| link.source_id = "other".parse().unwrap(),
            |link| link.target = "other".parse().unwrap(),
            |link| link.name = "other".parse().unwrap(),
            |link| link.wit_namespace = "other".into(),
            |link| link.wit_package = "other".into(),
            |link| link.interfaces.push("batch".into()),
            |link| link.interfaces.swap(0, 1),
            |link| link.source_config.push("x".into()),
            |link| link.target_config.clear(),
            // The same words, another list.
            |link| std::mem::swap(&mut link.source_config, &mut link.target_config),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = link();
            change(&mut changed);
            assert_ne!(fields(&changed), fields(&link()), "change {number}");
        }
    }

    #[test]
    fn a_signature_is_an_extra_key_that_older_readers_pass_over() {
        let signed = SignedLink {
            link: link(),
            proof: Some(LinkProof {
                signature: "a.b.c".into(),
            }),
        };
        let json = serde_json::to_value(&signed).unwrap();
        assert_eq!(json["trellis"], json!({"signature": "a.b.c"}));
        assert_eq!(
            serde_json::from_value::<Link>(json.clone()).unwrap(),
            link()
        );
        assert_eq!(serde_json::from_value::<SignedLink>(json).unwrap(), signed);
        let plain = serde_json::to_value(SignedLink::from(link())).unwrap();
        assert_eq!(plain, serde_json::to_value(link()).unwrap());
    }

    #[test]
    fn a_signature_has_a_longest_length() {
        let of = |bytes: usize| SignedDeletion {
            key: link().key(),
            proof: Some(LinkProof {
                signature: "x".repeat(bytes),
            }),
        };
        assert!(of(SIGNATURE_BYTES_MAX).check().is_ok());
        assert!(of(SIGNATURE_BYTES_MAX + 1).check().is_err());
    }

    #[test]
    fn what_is_not_known_to_be_a_question_is_a_command() {
        assert!(is_question("host", "ping") && is_question("config", "get"));
        for (noun, verb) in [
            ("host", "stop"),
            ("component", "call"),
            ("component", "spy"),
            ("component", "logs"),
            ("registry", "put"),
            ("later", "thing"),
        ] {
            assert!(!is_question(noun, verb), "{noun} {verb}");
        }
    }
}
