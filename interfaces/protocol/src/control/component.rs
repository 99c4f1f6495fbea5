//! Actors, which the control interface calls components: auctioned, scaled, updated, listed.

use serde::{Deserialize, Serialize};

use super::{ControlError, Map, Request, check_config_names, check_map, check_reference};
use crate::id::EntityId;

/// Who can run this actor? A host that cannot stays silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentAuction {
    /// Where the component is to be had.
    pub component_ref: String,
    /// The id it will have.
    pub component_id: EntityId,
    /// Labels that the host must have, each with this value.
    #[serde(default)]
    pub constraints: Map,
}

impl Request for ComponentAuction {
    fn check(&self) -> Result<(), ControlError> {
        check_reference("component_ref", &self.component_ref)?;
        check_map("constraints", &self.constraints)
    }
}

/// A host that can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentAuctionAck {
    /// As it was asked.
    pub component_ref: String,
    /// As it was asked.
    pub component_id: EntityId,
    /// The host's public key.
    pub host_id: String,
    /// As they were asked.
    #[serde(default)]
    pub constraints: Map,
}

/// Run this actor with so many permits, or stop it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleComponent {
    /// Where the component is to be had.
    pub component_ref: String,
    /// The id it has in the lattice.
    pub component_id: EntityId,
    /// Invocations that may run at once on this host. 0 stops it, so a command that leaves it out is refused.
    #[serde(alias = "max_instances")]
    pub count: u32,
    /// Echoed word for word in events and inventories; application managers know their own by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map>,
    /// The host that is meant.
    #[serde(default)]
    pub host_id: String,
    /// Named configurations, later ones winning.
    #[serde(default)]
    pub config: Vec<String>,
    /// Whether another reference may replace the one that runs under this id.
    #[serde(default)]
    pub allow_update: bool,
    /// Limits of each instance, such as memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_limits: Option<Map>,
}

impl Request for ScaleComponent {
    fn check(&self) -> Result<(), ControlError> {
        check_reference("component_ref", &self.component_ref)?;
        check_optional("annotations", self.annotations.as_ref())?;
        check_optional("component_limits", self.component_limits.as_ref())?;
        check_config_names("config", &self.config)
    }
}

/// Replace the reference of a running actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateComponent {
    /// The running actor.
    pub component_id: EntityId,
    /// Where its new version is to be had.
    pub new_component_ref: String,
    /// The host that is meant.
    #[serde(default)]
    pub host_id: String,
    /// Replace those of the running version, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map>,
}

impl Request for UpdateComponent {
    fn check(&self) -> Result<(), ControlError> {
        check_reference("new_component_ref", &self.new_component_ref)?;
        check_optional("annotations", self.annotations.as_ref())
    }
}

/// An actor in a host's inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentDescription {
    /// Its id in the lattice. A text, not an [`EntityId`]: foreign hosts answer too.
    pub id: String,
    /// Where it was had from.
    pub image_ref: String,
    /// The name in its claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Map>,
    /// The revision in its claims.
    #[serde(default)]
    pub revision: i32,
    /// Invocations that may run at once.
    #[serde(default)]
    pub max_instances: u32,
    /// Limits of each instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Map>,
}

pub(super) fn check_optional(field: &'static str, map: Option<&Map>) -> Result<(), ControlError> {
    map.map_or(Ok(()), |map| check_map(field, map))
}
