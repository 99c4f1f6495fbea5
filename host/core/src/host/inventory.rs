//! What a host says about itself to operators.

use std::sync::Arc;

use trellis_claims::ActorClaims;
use trellis_protocol::control::host::SOFTWARE;
use trellis_protocol::control::{
    ComponentDescription, HostDescription, HostInventory, Map, ProviderDescription, REPLY_BYTES_MAX,
};
use trellis_protocol::event::ComponentClaims;

use super::inner::HostInner;
use crate::actor::Actor;
use crate::provider::RunningProvider;

/// The host's version, a semantic one: application managers insist on that.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest inventory that is sent, in bytes: what clients read, and NATS carries unless configured otherwise, with room
/// for what stands around it.
const INVENTORY_BYTES_MAX: usize = REPLY_BYTES_MAX - 16 * 1024;

/// What an inventory lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotations are left out of the inventory: it has {bytes} bytes with them, and at most {INVENTORY_BYTES_MAX} are sent"
)]
pub(crate) struct LeftOut {
    bytes: usize,
}

/// Leaves annotations out where an inventory is longer than a limit.
fn fitting(mut inventory: HostInventory, bytes_max: usize) -> (HostInventory, Option<LeftOut>) {
    let bytes = serde_json::to_vec(&inventory).map_or(0, |text| text.len());
    if bytes <= bytes_max {
        return (inventory, None);
    }
    for component in &mut inventory.components {
        component.annotations = None;
    }
    let providers = inventory.providers.iter_mut();
    for provider in providers.chain(&mut inventory.failed_providers) {
        provider.annotations = None;
    }
    (inventory, Some(LeftOut { bytes }))
}

impl HostInner {
    pub(crate) fn description(&self) -> HostDescription {
        let uptime_seconds = self.started.elapsed().as_secs();
        HostDescription {
            id: self.id.to_string(),
            friendly_name: self.name.clone(),
            labels: self.labels(),
            lattice: self.lattice.clone(),
            uptime_seconds,
            uptime_human: Some(for_people(uptime_seconds)),
            version: Some(VERSION.to_owned()),
            rpc_host: self.nats_server.clone(),
            ctl_host: self.nats_server.clone(),
            js_domain: self.js_domain.clone(),
            software: Some(SOFTWARE.to_owned()),
        }
    }

    /// What runs here, as it can be sent: without annotations where it would be too long with them. Whoever knows what
    /// it started by its annotations alone takes that for a loss and starts it again, which changes nothing here; a host
    /// that is silent would be taken for dead.
    pub(crate) fn inventory_to_send(&self) -> (HostInventory, Option<LeftOut>) {
        let sent = fitting(self.inventory(), INVENTORY_BYTES_MAX);
        if let Some(left_out) = &sent.1 {
            tracing::warn!(host_id = %self.id, "{left_out}");
        }
        sent
    }

    pub(crate) fn inventory(&self) -> HostInventory {
        let uptime_seconds = self.started.elapsed().as_secs();
        let mut components: Vec<_> = self
            .router
            .actors()
            .iter()
            .map(|actor| component(actor))
            .collect();
        components.sort_by(|a, b| a.id.cmp(&b.id));
        let mut all = self.router.providers();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let (failed, providers): (Vec<_>, Vec<_>) =
            all.iter().partition(|provider| provider.has_failed());
        let described = |providers: Vec<&Arc<RunningProvider>>| {
            let described = providers.into_iter().map(|p| describe_provider(p));
            described.collect::<Vec<_>>()
        };
        HostInventory {
            host_id: self.id.to_string(),
            friendly_name: self.name.clone(),
            labels: self.labels(),
            version: VERSION.to_owned(),
            uptime_human: for_people(uptime_seconds),
            uptime_seconds,
            components,
            providers: described(providers),
            failed_providers: described(failed),
            software: Some(SOFTWARE.to_owned()),
        }
    }
}

fn component(actor: &Actor) -> ComponentDescription {
    let claims = actor.claims();
    ComponentDescription {
        id: actor.id.to_string(),
        image_ref: actor.reference.clone(),
        name: Some(claims.name.clone()),
        annotations: some_map(actor.annotations()),
        revision: i32::try_from(claims.revision).unwrap_or(i32::MAX),
        max_instances: actor.count(),
        limits: actor.limits().to_map(),
    }
}

fn describe_provider(provider: &RunningProvider) -> ProviderDescription {
    ProviderDescription {
        id: provider.id.to_string(),
        image_ref: Some(provider.reference.clone()),
        name: Some(provider.name.clone()),
        revision: provider.claims().map_or(0, |claims| {
            i32::try_from(claims.revision).unwrap_or(i32::MAX)
        }),
        annotations: some_map(provider.annotations.clone()),
        health: provider.condition(),
    }
}

fn some_map(map: Map) -> Option<Map> {
    (!map.is_empty()).then_some(map)
}

/// Claims as events show them.
pub(crate) fn claims_for_people(claims: &ActorClaims) -> ComponentClaims {
    ComponentClaims {
        call_alias: claims.call_alias.clone(),
        issuer: claims.issuer.to_string(),
        tags: Some(claims.tags.clone()),
        name: claims.name.clone(),
        version: claims.version.clone(),
        revision: Some(u64::from(claims.revision)),
        not_before_human: claims.validity.not_before.to_string(),
        expires_human: claims.valid_until().to_string(),
    }
}

/// Seconds as days, hours, minutes and seconds, from the largest that is not zero.
fn for_people(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let from = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    parts[from..]
        .iter()
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_that_is_too_long_to_be_sent_leaves_annotations_out_and_says_so() {
        let annotations = Some(Map::from([("k".to_owned(), "v".repeat(500))]));
        let component = ComponentDescription {
            id: "a".to_owned(),
            annotations: annotations.clone(),
            ..ComponentDescription::default()
        };
        let provider = ProviderDescription {
            id: "p".to_owned(),
            annotations,
            ..ProviderDescription::default()
        };
        let whole = HostInventory {
            components: vec![component],
            providers: vec![provider.clone()],
            failed_providers: vec![provider],
            ..HostInventory::default()
        };
        let bytes = serde_json::to_vec(&whole).map_or(0, |text| text.len());
        assert_eq!(fitting(whole.clone(), bytes), (whole.clone(), None));
        let (shortened, left_out) = fitting(whole, bytes - 1);
        assert_eq!(left_out, Some(LeftOut { bytes }));
        assert_eq!(shortened.components[0].id, "a");
        assert_eq!(shortened.components[0].annotations, None);
        assert_eq!(shortened.providers[0].annotations, None);
        assert_eq!(shortened.failed_providers[0].annotations, None);
    }

    #[test]
    fn an_uptime_begins_with_its_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3_661, "1h 1m 1s"),
            (86_400, "1d 0h 0m 0s"),
        ] {
            assert_eq!(for_people(seconds), text);
        }
    }
}
