//! The data of each event, and its name.
//!
//! Other tools read these keys to the letter: an application manager knows its own instances by the annotations alone,
//! and wants strings where a claim could be absent. Keys that they expect to be present are never left out here.

use serde::{Deserialize, Serialize};

use super::EventError;
use crate::control::{HostInventory, Map};
use crate::id::LinkName;
use crate::link::{Link, LinkKey};

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($data:ty) = $name:literal;)*) => {
        /// One event's data.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum EventData {
            $($(#[$doc])* $variant($data),)*
        }

        impl EventData {
            /// The names of all events that this project publishes.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The event's name: the last token of its subject, and the end of its `type`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            pub(super) fn to_json(&self) -> serde_json::Value {
                let value = match self { $(Self::$variant(data) => serde_json::to_value(data),)* };
                value.expect("maps with string keys and finite numbers are always JSON")
            }

            pub(super) fn from_json(
                name: &str,
                data: &serde_json::Value,
            ) -> Result<Option<Self>, EventError> {
                let decoded = match name {
                    $($name => <$data>::deserialize(data).map(Self::$variant),)*
                    _ => return Ok(None),
                };
                decoded.map(Some).map_err(|error| EventError::Data {
                    name: name.to_owned(),
                    reason: error.to_string(),
                })
            }
        }
    };
}

events! {
    /// A host has joined.
    HostStarted(HostStarted) = "host_started";
    /// A host is there and runs this.
    HostHeartbeat(HostInventory) = "host_heartbeat";
    /// A host has left, or was found dead.
    HostStopped(HostStopped) = "host_stopped";
    /// A host has other labels.
    LabelsChanged(LabelsChanged) = "labels_changed";
    /// An actor runs with so many permits; none is stopped.
    ComponentScaled(ComponentScaled) = "component_scaled";
    /// An actor's component is being fetched. Of our own, as the further ones of progress.
    ComponentFetching(ComponentProgress) = "component_fetching";
    /// Its claims are being verified.
    ComponentVerifying(ComponentProgress) = "component_verifying";
    /// It is being compiled; not told where it was compiled before.
    ComponentCompiling(ComponentProgress) = "component_compiling";
    /// Its first instance is being made.
    ComponentWarming(ComponentProgress) = "component_warming";
    /// An actor could not be scaled.
    ComponentScaleFailed(ComponentScaleFailed) = "component_scale_failed";
    /// A provider's archive is being fetched.
    ProviderFetching(ProviderProgress) = "provider_fetching";
    /// A provider's process, or what is built in, is being started.
    ProviderStarting(ProviderProgress) = "provider_starting";
    /// A provider serves.
    ProviderStarted(ProviderStarted) = "provider_started";
    /// A provider did not start.
    ProviderStartFailed(ProviderStartFailed) = "provider_start_failed";
    /// A provider serves no more.
    ProviderStopped(ProviderStopped) = "provider_stopped";
    /// A provider that was failing is well.
    HealthCheckPassed(HealthCheck) = "health_check_passed";
    /// A provider that was well is failing.
    HealthCheckFailed(HealthCheck) = "health_check_failed";
    /// A provider was asked, and is as it was.
    HealthCheckStatus(HealthCheck) = "health_check_status";
    /// A link was put.
    LinkSet(Link) = "linkdef_set";
    /// A link was not put.
    LinkSetFailed(LinkSetFailed) = "linkdef_set_failed";
    /// A link was deleted, or was not there.
    LinkDeleted(LinkDeleted) = "linkdef_deleted";
    /// A named configuration was put.
    ConfigSet(ConfigChanged) = "config_set";
    /// A named configuration was deleted.
    ConfigDeleted(ConfigChanged) = "config_deleted";
}

/// Data of `host_started`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStarted {
    /// The host's name for people.
    pub friendly_name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Map,
    /// Seconds since it started.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// Its version, a semantic one.
    #[serde(default)]
    pub version: String,
    /// [`SOFTWARE`](crate::control::host::SOFTWARE) of hosts of this project; absent from others. An addition to the
    /// interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

/// Data of `host_stopped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStopped {
    /// The host's labels.
    #[serde(default)]
    pub labels: Map,
    /// Where the host did not say so itself: the public key of the one that found it gone, and how. An addition to the
    /// interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_by: Option<String>,
    /// Why it is gone, where the host did not say so itself. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Data of `labels_changed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsChanged {
    /// The host's public key.
    pub host_id: String,
    /// Its labels from now on.
    pub labels: Map,
}

/// Data of `component_scaled`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentScaled {
    /// The command's, word for word.
    #[serde(default)]
    pub annotations: Map,
    /// The host's public key.
    pub host_id: String,
    /// The reference as the command named it.
    pub image_ref: String,
    /// Invocations that may run at once; 0 says that it is stopped.
    pub max_instances: u32,
    /// The actor's id.
    pub component_id: String,
    /// Public key of the signed actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Its claims, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ComponentClaims>,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// An actor's claims as events show them. Optional keys are `null`, not absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentClaims {
    /// The alias.
    pub call_alias: Option<String>,
    /// Public key of the account that signed.
    pub issuer: String,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// The name.
    pub name: String,
    /// The version for people.
    pub version: String,
    /// The revision.
    pub revision: Option<u64>,
    /// From when it is valid, for people.
    pub not_before_human: String,
    /// Until when it is valid, for people.
    pub expires_human: String,
}

/// Data of `component_scale_failed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentScaleFailed {
    /// The command's, word for word.
    #[serde(default)]
    pub annotations: Map,
    /// The actor's id.
    pub component_id: String,
    /// The host's public key.
    pub host_id: String,
    /// The reference as the command named it.
    pub image_ref: String,
    /// What was asked for.
    pub max_instances: u32,
    /// What went wrong, and what would help.
    pub error: String,
    /// A stable word for the cause, beside the error for people. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Public key of the actor, where the attempt came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// Data of `component_fetching`, `component_verifying`, `component_compiling` and `component_warming`: what happens
/// between the acknowledgement of a command and its outcome. Additions to the interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentProgress {
    /// The host's public key.
    pub host_id: String,
    /// The actor's id.
    pub component_id: String,
    /// The reference as the command named it.
    pub image_ref: String,
    /// The command's, word for word.
    #[serde(default)]
    pub annotations: Map,
    /// How far the fetching is; of `component_fetching` alone.
    #[serde(flatten)]
    pub fetched: Fetched,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// How far the fetching of an artifact is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Bytes that have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes in all, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Which attempt begins, where a former one failed: 2 is the first that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why the former attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Data of `provider_started`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStarted {
    /// The host's public key.
    pub host_id: String,
    /// The reference as the command named it.
    pub image_ref: String,
    /// The provider's id.
    pub provider_id: String,
    /// The command's, word for word.
    #[serde(default)]
    pub annotations: Map,
    /// Its claims, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ProviderClaims>,
    /// Identifies this run of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Its public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Of older clients: the link name it was started for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_name: Option<String>,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// Data of `provider_fetching` and `provider_starting`. Additions to the interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderProgress {
    /// The host's public key.
    pub host_id: String,
    /// The provider's id.
    pub provider_id: String,
    /// The reference as the command named it.
    pub image_ref: String,
    /// The command's, word for word.
    #[serde(default)]
    pub annotations: Map,
    /// How far the fetching is; of `provider_fetching` alone.
    #[serde(flatten)]
    pub fetched: Fetched,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// A provider's claims as events show them. `tags` is always there, and `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderClaims {
    /// Public key of the account that signed.
    pub issuer: String,
    /// Always none; application managers ask for the key.
    pub tags: Option<Vec<String>>,
    /// The name.
    pub name: String,
    /// The version for people.
    pub version: String,
    /// From when it is valid, for people.
    pub not_before_human: String,
    /// Until when it is valid, for people.
    pub expires_human: String,
}

/// Data of `provider_start_failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStartFailed {
    /// The reference as the command named it.
    pub provider_ref: String,
    /// The provider's id.
    pub provider_id: String,
    /// The host's public key.
    pub host_id: String,
    /// What went wrong, and what would help.
    pub error: String,
    /// A stable word for the cause, beside the error for people. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of older clients; `default`.
    #[serde(default = "default_link")]
    pub link_name: String,
    /// Whether the host restored it by itself after a restart. An addition to the interface.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restored: bool,
}

/// Data of `provider_stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStopped {
    /// The host's public key.
    pub host_id: String,
    /// The provider's id.
    pub provider_id: String,
    /// Those it was started with.
    #[serde(default)]
    pub annotations: Map,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Identifies the run that ended.
    #[serde(default)]
    pub instance_id: String,
    /// Its public key; empty where it has none.
    #[serde(default)]
    pub public_key: String,
    /// Of older clients; `default`.
    #[serde(default = "default_link")]
    pub link_name: String,
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn default_link() -> String {
    LinkName::DEFAULT.to_owned()
}

/// Data of the three `health_check_…` events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The host's public key.
    pub host_id: String,
    /// The provider's id.
    pub provider_id: String,
}

/// Data of `linkdef_set_failed`: the link as it was asked for, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSetFailed {
    /// The link.
    #[serde(flatten)]
    pub link: Link,
    /// Why it was not put.
    pub error: String,
    /// A stable word for the cause, beside the error for people. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Data of `linkdef_deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDeleted {
    /// What identifies the link.
    #[serde(flatten)]
    pub key: LinkKey,
    /// The callee, where there was such a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The interfaces, where there was such a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<String>>,
}

/// Data of `config_set` and `config_deleted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChanged {
    /// The configuration's name. What it holds is never in an event.
    pub config_name: String,
}
