//! The numbers of this host: `wash top`.

use std::sync::Arc;

use trellis_protocol::control::{Ack, Envelope, HostStats, REPLY_BYTES_MAX};

use super::{Answer, Asked};
use crate::host::on;

/// Bytes that the rows of an answer may take together, so that a host with thousands of actors has an answer at all.
const ROWS_BYTES_MAX: usize = REPLY_BYTES_MAX / 4 * 3;

/// Worked out where guests run, because thousands of rows take their time.
pub(super) fn stats(asked: &Asked<'_>) -> Answer {
    let shared = Arc::clone(asked.shared);
    let work = on(&asked.shared.guests, async move {
        Envelope::answer(fitting(shared.stats(), ROWS_BYTES_MAX)).to_bytes()
    });
    Answer::Later(Box::pin(async move {
        let interrupted = || Ack::refused("the host is shutting down").to_bytes();
        work.await.unwrap_or_else(|_| interrupted())
    }))
}

/// Leaves out the rows with the fewest calls where there are more than an answer holds, and says how many.
fn fitting(mut stats: HostStats, most_bytes: usize) -> HostStats {
    let mut left = most_bytes;
    let mut left_out = 0;
    let mut keep = |bytes: usize| {
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        left_out += u64::from(!fits);
        fits
    };
    stats
        .components
        .sort_by_key(|row| std::cmp::Reverse(row.served.invocations));
    // Providers are few, so they come first.
    stats.providers.retain(|row| keep(size(row)));
    stats.components.retain(|row| keep(size(row)));
    stats.components.sort_by(|a, b| a.id.cmp(&b.id));
    stats.left_out = left_out;
    stats
}

fn size(row: &impl serde::Serialize) -> usize {
    serde_json::to_vec(row).map_or(0, |bytes| bytes.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trellis_protocol::control::{CallStats, ComponentStats, ProviderStats};

    fn component(number: u64) -> ComponentStats {
        ComponentStats {
            id: format!("actor-{number:04}"),
            served: CallStats {
                invocations: number,
                ..CallStats::default()
            },
            ..ComponentStats::default()
        }
    }

    #[test]
    fn the_busiest_actors_stay_where_not_all_have_room() {
        let stats = HostStats {
            components: (0..1_000).map(component).collect(),
            providers: vec![ProviderStats::default()],
            ..HostStats::default()
        };
        let all = fitting(stats.clone(), usize::MAX);
        assert_eq!((all.components.len(), all.left_out), (1_000, 0));
        let row = size(&component(999));
        let some = fitting(stats, size(&ProviderStats::default()) + 10 * row);
        let ids: Vec<_> = some.components.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((ids.len(), ids[0]), (10, "actor-0990"));
        assert_eq!((some.providers.len(), some.left_out), (1, 990));
    }
}
