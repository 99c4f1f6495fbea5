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
    /// How it was when it was asked last; absent before that. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ProviderHealth>,
}

/// How a provider is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderHealth {
    /// In a word.
    pub state: ProviderState,
    /// Why it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a provider is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProviderState {
    /// It says that it is well.
    Healthy,
    /// It says that it is not, or says nothing.
    Failing,
    /// Its process has ended and is being started again.
    Restarting,
    /// Its process has been given up. It runs again when it is started again.
    Failed,
    /// A word of a later version.
    #[serde(other)]
    Unknown,
}
