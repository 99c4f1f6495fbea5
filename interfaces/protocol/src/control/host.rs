//! Hosts: who is there, what they run, how they are labelled and stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ComponentDescription, ControlError, Map, ProviderDescription, Request, check_map};

/// What hosts of this project say they are, so that others of the same interface can be told from them.
pub const SOFTWARE: &str = "trellis";

/// Longest time for work in flight that `host.stop` can ask for. A longer one becomes this.
pub const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

/// Labels that begin so, in any case, are a host's own and cannot be put.
pub const RESERVED_LABEL_PREFIX: &str = "hostcore.";

/// What a host says of itself in answer to `host.ping`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDescription {
    /// Its public key.
    pub id: String,
    /// Its name for people.
    pub friendly_name: String,
    /// Its labels, by which placement chooses.
    #[serde(default)]
    pub labels: Map,
    /// The lattice's name.
    pub lattice: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_human: Option<String>,
    /// Its version, a semantic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The NATS server it uses for calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc_host: Option<String>,
    /// The NATS server it uses for control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctl_host: Option<String>,
    /// The JetStream domain of its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub js_domain: Option<String>,
    /// [`SOFTWARE`] of hosts of this project; absent from others. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

/// What a host runs: the answer to `host.get`, and the data of a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInventory {
    /// The host's public key.
    pub host_id: String,
    /// Its name for people.
    pub friendly_name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Map,
    /// Its version, a semantic one.
    #[serde(default)]
    pub version: String,
    /// How long it has run, for people.
    #[serde(default)]
    pub uptime_human: String,
    /// Seconds since it started.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// The actors it runs.
    #[serde(default)]
    pub components: Vec<ComponentDescription>,
    /// The providers it runs. One whose process is being started again is among them.
    #[serde(default)]
    pub providers: Vec<ProviderDescription>,
    /// The providers that were given up: whose processes ended again and again. They are not among [`Self::providers`],
    /// because application managers take whatever is there for running. An addition to the interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_providers: Vec<ProviderDescription>,
    /// [`SOFTWARE`] of hosts of this project; absent from others. An addition to the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

/// `host.stop`: drain and exit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopHost {
    /// The host that is meant. The host asked refuses another one's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Milliseconds for work in flight to finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl StopHost {
    /// Whether a host is the one that is meant. Some clients write an empty id where they mean the host they ask.
    pub fn is_for(&self, host: &str) -> bool {
        self.host_id
            .as_deref()
            .is_none_or(|id| id.is_empty() || id == host)
    }

    /// The time for work in flight, where one was asked for, up to [`STOP_TIMEOUT_MAX`].
    pub fn within(&self) -> Option<Duration> {
        let timeout = self.timeout.map(Duration::from_millis);
        timeout.map(|timeout| timeout.min(STOP_TIMEOUT_MAX))
    }
}

impl Request for StopHost {
    fn check(&self) -> Result<(), ControlError> {
        Ok(())
    }

    fn of_empty_body() -> Option<Self> {
        Some(Self::default())
    }
}

/// `label.put`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutLabel {
    /// The label's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Request for PutLabel {
    fn check(&self) -> Result<(), ControlError> {
        check_label_key(&self.key)?;
        check_map(
            "value",
            &Map::from([(self.key.clone(), self.value.clone())]),
        )
    }
}

/// `label.del`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteLabel {
    /// The label's name. Deleting one that is not there succeeds.
    pub key: String,
}

impl Request for DeleteLabel {
    fn check(&self) -> Result<(), ControlError> {
        check_label_key(&self.key)
    }
}

fn check_label_key(key: &str) -> Result<(), ControlError> {
    // Compared byte by byte: slicing the text could cut a character in two.
    let reserved = key.len() >= RESERVED_LABEL_PREFIX.len()
        && key.as_bytes()[..RESERVED_LABEL_PREFIX.len()]
            .eq_ignore_ascii_case(RESERVED_LABEL_PREFIX.as_bytes());
    if reserved {
        let reason = format!("`{key}` is the host's own: `{RESERVED_LABEL_PREFIX}` is reserved");
        return Err(ControlError::invalid("key", reason));
    }
    check_map("key", &Map::from([(key.to_owned(), String::new())]))
}
