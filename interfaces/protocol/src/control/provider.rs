//! Capability providers: auctioned, started, stopped, listed.

use serde::{Deserialize, Serialize};

use super::component::check_optional;
use super::{ControlError, Map, Request, check_config_names, check_map, check_reference};
use crate::id::EntityId;

/// Who can run this provider? A host that cannot, or that runs it already, stays silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAuction {
    /// Where the provider is to be had.
    pub provider_ref: String,
    /// The id it will have.
    pub provider_id: EntityId,
    /// Labels that the host must have, each with this value.
    #[serde(default)]
    pub constraints: Map,
}

impl Request for ProviderAuction {
    fn check(&self) -> Result<(), ControlError> {
        check_reference("provider_ref", &self.provider_ref)?;
        check_map("constraints", &self.constraints)
    }
}

/// A host that can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAuctionAck {
    /// The host's public key.
    pub host_id: String,
    /// As it was asked.
    pub provider_ref: String,
    /// As it was asked.
    pub provider_id: EntityId,
    /// As they were asked.
    #[serde(default)]
    pub constraints: Map,
}

/// Start a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartProvider {
    /// The id it will have. One that runs already is an error.
    pub provider_id: EntityId,
    /// Where it is to be had, or the name of a built-in one.
    pub provider_ref: String,
    /// The host that is meant.
    #[serde(default)]
    pub host_id: String,
    /// Named configurations, later ones winning.
    #[serde(default)]
    pub config: Vec<String>,
    /// Echoed word for word in events and inventories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map>,
}

impl Request for StartProvider {
    fn check(&self) -> Result<(), ControlError> {
        check_reference("provider_ref", &self.provider_ref)?;
        check_optional("annotations", self.annotations.as_ref())?;
        check_config_names("config", &self.config)
    }
}

/// Stop a provider. Answered after its shutdown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopProvider {
    /// The host that is meant.
    #[serde(default)]
    pub host_id: String,
    /// The running provider. Some clients call the key `provider_ref`.
    #[serde(alias = "provider_ref")]
    pub provider_id: EntityId,
}

impl Request for StopProvider {
    fn check(&self) -> Result<(), ControlError> {
        Ok(())
    }
}

/// A provider in a host's inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderDescription {
    /// Its id in the lattice. A text, not an [`EntityId`]: foreign hosts answer too.
    pub id: String,
    /// Where it was had from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_ref: Option<String>,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its revision.
    #[serde(default)]
    pub revision: i32,
    /// Those it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map>,
}
