//! What belongs to the lattice and not to one host: links, named configurations, public claims, registry credentials.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ControlError, Map, Request};
use crate::link::{Link, LinkKey};

/// Longest name of a configuration, in bytes. It is a key of a key-value bucket and the end of a subject.
pub const CONFIG_NAME_BYTES_MAX: usize = 256;

/// What the names of references to secrets begin with. They stand beside configurations, and are none: what they hold says
/// where a secret is, never what it is.
pub const SECRET_PREFIX: &str = "SECRET_";

/// Most entries of one named configuration.
pub const CONFIG_ENTRIES_MAX: usize = 1024;

/// Most registries in one `registry.put`.
pub const REGISTRIES_MAX: usize = 64;

impl Request for Link {
    fn check(&self) -> Result<(), ControlError> {
        Self::check(self).map_err(|reason| ControlError::Malformed { reason })?;
        for (field, names) in [
            ("source_config", &self.source_config),
            ("target_config", &self.target_config),
        ] {
            super::check_config_names(field, names)?;
        }
        Ok(())
    }
}

/// `link.del`: what identifies the link. Deleting one that is not there succeeds.
pub type DeleteLink = LinkKey;

impl Request for LinkKey {
    fn check(&self) -> Result<(), ControlError> {
        for (field, part) in [
            ("wit_namespace", &self.wit_namespace),
            ("wit_package", &self.wit_package),
        ] {
            if part.is_empty() || part.len() > crate::limits::INTERFACE_BYTES_MAX {
                return Err(ControlError::invalid(field, "is empty or too long"));
            }
        }
        Ok(())
    }
}

/// A named configuration: a flat map of strings.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Configuration(pub Map);

impl fmt::Debug for Configuration {
    /// Shows the keys, never the values: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Request for Configuration {
    fn check(&self) -> Result<(), ControlError> {
        if self.0.len() > CONFIG_ENTRIES_MAX {
            let reason = format!(
                "has {} entries, at most {CONFIG_ENTRIES_MAX} are accepted",
                self.0.len()
            );
            return Err(ControlError::invalid("configuration", reason));
        }
        match self
            .0
            .keys()
            .find(|key| key.is_empty() || key.len() > super::MAP_KEY_BYTES_MAX)
        {
            Some(key) => {
                let reason = format!(
                    "has a key of {} bytes, 1 to {} are accepted",
                    key.len(),
                    super::MAP_KEY_BYTES_MAX
                );
                Err(ControlError::invalid("configuration", reason))
            }
            None => Ok(()),
        }
    }
}

/// Checks the name of a configuration: a key of a bucket that is also a legal end of a subject.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that began with what it is.
pub fn check_config_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > CONFIG_NAME_BYTES_MAX {
        return Err(format!(
            "holds a configuration name of {} bytes, 1 to {CONFIG_NAME_BYTES_MAX} are accepted",
            name.len()
        ));
    }
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(format!(
            "holds the configuration name `{name}`, which has an empty part"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.' | '/');
    match name.chars().find(|c| !legal(*c)) {
        Some(c) => Err(format!(
            "holds a configuration name with {c:?}; letters, digits and `-_=./` are accepted"
        )),
        None => Ok(()),
    }
}

/// What a signed actor or provider says of itself in public: the value of a `CLAIMS_<subject>` key.
///
/// It holds no grant and proves nothing; hosts decide from the signed token alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicClaims {
    /// An actor's alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_alias: Option<String>,
    /// Public key of the account that signed.
    #[serde(alias = "iss")]
    pub issuer: String,
    /// The name in the claims.
    #[serde(default)]
    pub name: String,
    /// The revision, as text.
    #[serde(default, alias = "rev")]
    pub revision: String,
    /// Public key of what is signed.
    #[serde(alias = "sub")]
    pub subject: String,
    /// An actor's tags; a provider has none, not even an empty list. Some writers join them with commas.
    #[serde(
        default,
        deserialize_with = "tags",
        skip_serializing_if = "Option::is_none"
    )]
    pub tags: Option<Vec<String>>,
    /// The version for people.
    #[serde(default)]
    pub version: String,
    /// JSON schema of a provider's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<String>,
}

impl PublicClaims {
    /// The map of strings by which `claims.get` lists it.
    pub fn to_map(&self) -> Map {
        let mut map = BTreeMap::from([
            ("iss".to_owned(), self.issuer.clone()),
            ("issuer".to_owned(), self.issuer.clone()),
            ("name".to_owned(), self.name.clone()),
            ("rev".to_owned(), self.revision.clone()),
            ("revision".to_owned(), self.revision.clone()),
            ("sub".to_owned(), self.subject.clone()),
            ("subject".to_owned(), self.subject.clone()),
            ("version".to_owned(), self.version.clone()),
        ]);
        match &self.tags {
            Some(tags) => {
                map.insert("tags".to_owned(), tags.join(","));
                map.insert(
                    "call_alias".to_owned(),
                    self.call_alias.clone().unwrap_or_default(),
                );
            }
            None => {
                if let Some(schema) = &self.config_schema {
                    map.insert("config_schema".to_owned(), schema.clone());
                }
            }
        }
        map
    }
}

fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Joined(String),
    }
    Ok(
        Option::<Tags>::deserialize(deserializer)?.map(|tags| match tags {
            Tags::List(list) => list,
            Tags::Joined(text) => text
                .split(',')
                .filter(|tag| !tag.is_empty())
                .map(str::to_owned)
                .collect(),
        }),
    )
}

/// How to log in to one registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryCredential {
    /// User name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Bearer token, instead of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The kind of registry: `oci`.
    #[serde(rename = "registryType", default = "oci")]
    pub registry_type: String,
}

fn oci() -> String {
    "oci".to_owned()
}

impl fmt::Debug for RegistryCredential {
    /// Shows what is set, never what it is set to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryCredential")
            .field("username", &self.username.is_some())
            .field("password", &self.password.is_some())
            .field("token", &self.token.is_some())
            .field("registry_type", &self.registry_type)
            .finish()
    }
}

/// `registry.put`: credentials by registry. Published without a reply; every host applies them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryCredentials(pub BTreeMap<String, RegistryCredential>);

impl Request for RegistryCredentials {
    fn check(&self) -> Result<(), ControlError> {
        if self.0.len() > REGISTRIES_MAX {
            let reason = format!(
                "has {} entries, at most {REGISTRIES_MAX} are accepted",
                self.0.len()
            );
            return Err(ControlError::invalid("registries", reason));
        }
        Ok(())
    }
}
