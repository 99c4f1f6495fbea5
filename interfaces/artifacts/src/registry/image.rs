//! What a manifest says, judged: which manifest of an index, and which layer of a manifest, is the one to fetch.

use std::collections::BTreeMap;

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex, OciImageManifest,
};
use trellis_claims::provider::Platform;

use super::reason::shortened;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::kind::Kind;
use crate::media_type;

/// The types of manifests that are asked for.
pub(super) const ACCEPTED: &str = concat!(
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, ",
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
);

/// Longest list of types that an error shows.
const SHOWN_MAX: usize = 8;

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) media_type: String,
    /// Those of the manifest.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a manifest is.
#[derive(Debug)]
pub(super) enum Parsed {
    Image(Box<OciImageManifest>),
    Index(Box<OciImageIndex>),
}

/// Why a manifest cannot be used, before it is known whose it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Nonsense(String),
    Other(RegistryError),
}

impl Parsed {
    pub(super) fn read(body: &[u8]) -> Result<Self, Unusable> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: i64,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let nonsense = |error: serde_json::Error| {
            Unusable::Nonsense(format!("its manifest cannot be read: {error}"))
        };
        let head: Head = serde_json::from_slice(body).map_err(nonsense)?;
        if head.schema_version != 2 {
            return Err(Unusable::Nonsense(format!(
                "its manifest is of version {}, only 2 is known",
                head.schema_version
            )));
        }
        let is_index = match head.media_type.as_deref() {
            Some(OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE) => true,
            Some(OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) => false,
            Some(other) => {
                return Err(Unusable::Nonsense(format!(
                    "its manifest is of the type {:?}",
                    shortened(other)
                )));
            }
            None => head.manifests.is_some(),
        };
        Ok(match is_index {
            true => Self::Index(serde_json::from_slice(body).map_err(nonsense)?),
            false => Self::Image(serde_json::from_slice(body).map_err(nonsense)?),
        })
    }
}

/// The manifest of an index that is for this machine, or for every one.
pub(super) fn choose(
    index: &OciImageIndex,
    kind: Option<Kind>,
    here: &Platform,
) -> Result<Digest, Unusable> {
    let fits = |entry: &&ImageIndexEntry| match &entry.platform {
        None => true,
        Some(platform) => {
            let (arch, os) = (platform.architecture.to_string(), platform.os.to_string());
            let is_wasm = arch == "wasm" || os.starts_with("wasi");
            let is_here = os == oci_os(here.os()) && arch == oci_arch(here.arch());
            match kind {
                Some(Kind::Component) => is_wasm,
                Some(Kind::Provider) => is_here,
                None => is_wasm || is_here,
            }
        }
    };
    let found = index.manifests.iter().find(fits).ok_or_else(|| {
        let all = index.manifests.iter().filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            Some(format!("{}/{}", platform.os, platform.architecture))
        });
        Unusable::Other(RegistryError::Platform {
            found: listed(all),
            platform: here.to_string(),
        })
    })?;
    digest(&found.digest)
}

/// OCI names machines as Go does.
fn oci_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "loongarch64" => "loong64",
        other => other,
    }
}

fn oci_os(os: &str) -> &str {
    match os {
        "macos" => "darwin",
        other => other,
    }
}

/// The layer of a manifest that holds what is looked for. Where it may be of either kind, the first that is of one.
pub(super) fn layer(
    manifest: &OciImageManifest,
    kind: Option<Kind>,
    max: impl Fn(&str) -> u64,
) -> Result<Layer, Unusable> {
    let accepted: Vec<&str> = match kind {
        Some(kind) => media_type::accepted(kind).to_vec(),
        None => [Kind::Component, Kind::Provider]
            .iter()
            .flat_map(|kind| media_type::accepted(*kind))
            .copied()
            .collect(),
    };
    let found = accepted
        .iter()
        .find_map(|wanted| {
            let mut layers = manifest.layers.iter();
            layers.find(|layer| layer.media_type == **wanted)
        })
        .ok_or_else(|| {
            Unusable::Other(RegistryError::MediaType {
                wanted: kind.map_or("component or provider".to_owned(), |kind| kind.to_string()),
                found: listed(manifest.layers.iter().map(|layer| &layer.media_type)),
                accepted: accepted.join(", "),
            })
        })?;
    let bytes = u64::try_from(found.size)
        .map_err(|_| Unusable::Nonsense("a layer has a negative size".to_owned()))?;
    let max = max(&found.media_type);
    if bytes > max {
        return Err(Unusable::Other(RegistryError::TooLarge { bytes, max }));
    }
    Ok(Layer {
        digest: digest(&found.digest)?,
        bytes,
        media_type: found.media_type.clone(),
        annotations: manifest.annotations.clone().unwrap_or_default(),
    })
}

fn digest(text: &str) -> Result<Digest, Unusable> {
    text.parse()
        .map_err(|error| Unusable::Nonsense(format!("only SHA-256 is taken: {error}")))
}

fn listed(all: impl Iterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<_> = all
        .take(SHOWN_MAX)
        .map(|one| shortened(one.as_ref()))
        .collect();
    match all.is_empty() {
        true => "nothing".to_owned(),
        false => all.join(", "),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(layers: &[(&str, i64)]) -> OciImageManifest {
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, size)| {
                serde_json::json!({"mediaType": media_type, "digest": DIGEST, "size": size})
            })
            .collect();
        let body = serde_json::json!({
            "schemaVersion": 2, "layers": layers,
            "config": {"mediaType": "application/x", "digest": DIGEST, "size": 2},
        });
        match Parsed::read(body.to_string().as_bytes()).unwrap() {
            Parsed::Image(manifest) => *manifest,
            Parsed::Index(_) => panic!("an image"),
        }
    }

    #[test]
    fn the_best_layer_of_the_kind_is_chosen() {
        let both = manifest(&[
            (media_type::IMAGE_LAYER_TAR, 1),
            (media_type::PROVIDER_ARCHIVE, 2),
            (media_type::WASM, 3),
        ]);
        let size = |kind| layer(&both, kind, |_| 10).unwrap().bytes;
        assert_eq!(size(Some(Kind::Component)), 3);
        assert_eq!(size(Some(Kind::Provider)), 2);
        assert_eq!(size(None), 3);
    }

    #[test]
    fn what_is_not_there_too_large_or_nonsense_is_refused() {
        let none = layer(
            &manifest(&[("text/plain", 1)]),
            Some(Kind::Component),
            |_| 10,
        );
        assert!(
            matches!(none, Err(Unusable::Other(RegistryError::MediaType { ref found, .. })) if found == "text/plain")
        );
        let large = manifest(&[(media_type::WASM, 11)]);
        let error = layer(&large, None, |_| 10).unwrap_err();
        assert_eq!(
            error,
            Unusable::Other(RegistryError::TooLarge { bytes: 11, max: 10 })
        );
        layer(&large, None, |_| 11).unwrap();
        let negative = manifest(&[(media_type::WASM, -1)]);
        assert!(matches!(
            layer(&negative, None, |_| 10),
            Err(Unusable::Nonsense(_))
        ));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"mediaType":"application/x"}"#,
        ] {
            assert!(
                matches!(Parsed::read(body.as_bytes()), Err(Unusable::Nonsense(_))),
                "{body}"
            );
        }
        let deep = format!("{{\"schemaVersion\":2,\"layers\":{}", "[".repeat(100_000));
        assert!(Parsed::read(deep.as_bytes()).is_err());
    }

    #[test]
    fn an_index_leads_to_the_manifest_for_this_machine() {
        let entry = |os: &str, arch: &str, digit: &str| {
            serde_json::json!({
                "mediaType": OCI_IMAGE_MEDIA_TYPE, "size": 1, "digest": format!("sha256:{}", digit.repeat(64)),
                "platform": {"os": os, "architecture": arch},
            })
        };
        let body = serde_json::json!({"schemaVersion": 2, "manifests": [
            entry("linux", "arm64", "1"), entry("linux", "amd64", "2"), entry("wasip2", "wasm", "3"),
        ]});
        let Parsed::Index(index) = Parsed::read(body.to_string().as_bytes()).unwrap() else {
            panic!("an index");
        };
        let here = Platform::new("x86_64", "linux").unwrap();
        let chosen =
            |kind, here: &Platform| choose(&index, kind, here).map(|d| d.hex()[..1].to_owned());
        assert_eq!(chosen(Some(Kind::Provider), &here).unwrap(), "2");
        assert_eq!(chosen(Some(Kind::Component), &here).unwrap(), "3");
        let mac = Platform::new("aarch64", "macos").unwrap();
        let error = chosen(Some(Kind::Provider), &mac).unwrap_err();
        assert!(
            matches!(error, Unusable::Other(RegistryError::Platform { ref found, .. })
                if found == "linux/arm64, linux/amd64, wasip2/wasm"),
            "{error:?}"
        );
    }
}
