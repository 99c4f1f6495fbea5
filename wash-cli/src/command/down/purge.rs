//! Deleting what JetStream keeps: the state of a lattice, and what application managers keep beside it.

use std::fmt::Write as _;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::DeleteStreamErrorKind;
use trellis_protocol::LatticeName;
use trellis_protocol::subject::{config_data_bucket, lattice_data_bucket, trellis_bucket};

use crate::cli::PurgeJetstream;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::placement;
use crate::settings::Settings;

/// What the application manager of wasmCloud 1.x (wadm) keeps, for every lattice.
const MANAGERS: [&str; 7] = [
    "KV_wadm_manifests",
    "KV_wadm_state",
    "wadm_commands",
    "wadm_events",
    "wadm_mirror",
    "wadm_notify",
    "wadm_status",
];

/// The question that is asked before.
pub(super) fn question(what: PurgeJetstream, place: &Settings) -> String {
    let (lattice, servers) = (&place.lattice, place.servers());
    match what {
        PurgeJetstream::None => String::new(),
        PurgeJetstream::Lattice => format!(
            "delete all links, configurations, claims and artifacts of the lattice {lattice} at {servers}"
        ),
        PurgeJetstream::Wadm => {
            format!("delete what application managers keep at {servers}, for every lattice")
        }
        PurgeJetstream::All => format!(
            "delete all links, configurations, claims and artifacts of the lattice {lattice}, and what application managers keep for every lattice, at {servers}"
        ),
    }
}

/// Deletes it, and says what there was.
pub(super) async fn purge(what: PurgeJetstream, place: &Settings) -> Result<Vec<String>, Failure> {
    let lattice = Lattice::connect(place).await?;
    if matches!(what, PurgeJetstream::Lattice | PurgeJetstream::All) {
        refuse_where_hosts_remain(&lattice).await?;
    }
    let context = match &place.js_domain {
        Some(domain) => jetstream::with_domain(lattice.nats().clone(), domain),
        None => jetstream::new(lattice.nats().clone()),
    };
    let mut streams = Vec::new();
    if matches!(what, PurgeJetstream::Lattice | PurgeJetstream::All) {
        streams.extend(streams_of(&place.lattice));
    }
    if matches!(what, PurgeJetstream::Wadm | PurgeJetstream::All) {
        streams.extend(MANAGERS.map(str::to_owned));
    }
    let mut deleted = Vec::new();
    for stream in streams {
        match context.delete_stream(&stream).await {
            Ok(_) => deleted.push(bucket(&stream)),
            Err(error) if is_missing(&error.kind()) => {}
            Err(error) => {
                let mut fault = format!("cannot delete {} in JetStream: {error}", bucket(&stream));
                if !deleted.is_empty() {
                    // A String takes every write.
                    let _ = write!(fault, "; deleted before that: {}", deleted.join(", "));
                }
                return Err(Failure::refused(fault));
            }
        }
    }
    Ok(deleted)
}

/// A host that runs on would keep its copy, and write parts of it back.
async fn refuse_where_hosts_remain(lattice: &Lattice) -> Result<(), Failure> {
    let Ok(hosts) = placement::hosts(lattice).await else {
        return Ok(());
    };
    let names: Vec<_> = hosts
        .iter()
        .map(|host| host.friendly_name.as_str())
        .collect();
    Err(Failure::refused(format!(
        "refused to delete the state of the lattice {}: hosts run in it still: {}; stop them first",
        lattice.name(),
        names.join(", ")
    )))
}

fn streams_of(lattice: &LatticeName) -> Vec<String> {
    [lattice_data_bucket, config_data_bucket, trellis_bucket]
        .map(|name| format!("KV_{}", name(lattice)))
        .into_iter()
        .chain([format!("OBJ_ARTIFACTS_{lattice}")])
        .collect()
}

/// The bucket of a stream, as people know it.
fn bucket(stream: &str) -> String {
    stream
        .strip_prefix("KV_")
        .or_else(|| stream.strip_prefix("OBJ_"))
        .unwrap_or(stream)
        .to_owned()
}

fn is_missing(kind: &DeleteStreamErrorKind) -> bool {
    matches!(kind, DeleteStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_of_a_lattice_goes() {
        let streams = streams_of(&"site".parse().unwrap());
        assert_eq!(
            streams,
            [
                "KV_LATTICEDATA_site",
                "KV_CONFIGDATA_site",
                "KV_TRELLIS_site",
                "OBJ_ARTIFACTS_site"
            ]
        );
        assert_eq!(bucket("KV_TRELLIS_site"), "TRELLIS_site");
        assert_eq!(bucket("wadm_events"), "wadm_events");
    }
}
