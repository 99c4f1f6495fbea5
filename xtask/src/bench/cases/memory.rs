//! Resident memory of a host: idle, and with 1, 200 and 1,000 actors that have been started and are idle.

use std::time::Duration;

use anyhow::Result;

use super::super::Bench;
use super::super::contestant::host_key;
use super::super::process::{Accounts, Memory, Who};
use super::super::report::{Section, Table};
use super::super::spread::{Spread, digits};
use super::start::Control;
use crate::stage::Stage;

/// How many actors run when it is measured.
const COUNTS: [u32; 4] = [0, 1, 200, 1_000];

/// How long a host is left alone before it is measured: what it frees after work, it has freed by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Longest time for all starts of a step.
const FILL_WITHIN: Duration = Duration::from_secs(300);

const MIB: f64 = 1024.0 * 1024.0;

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let host = [Who::Tree(bench.start_host(stage, "north").await?)];
    let hello = stage.sign("hello").await?;
    let control = Control {
        bench,
        url: stage.wash.nats_url.clone(),
        lattice: stage.wash.lattice.clone(),
        host: host_key(stage, "north").await?,
        reference: format!("file://{hello}"),
    };
    let mut section = Section::default();
    let mut table = Table::new(
        "Resident memory of a host, MiB",
        &[
            "actors",
            "resident",
            "proportional",
            "for each further actor",
        ],
    );
    let mut running = 0;
    let mut last: Option<(u32, Memory)> = None;
    for count in COUNTS {
        if count > running {
            bench.say(&format!("start actors {} to {count}", running + 1));
            control.fill(running + 1, count, FILL_WITHIN)?;
            running = count;
        }
        tokio::time::sleep(SETTLE).await;
        let memory = Accounts::read()?.memory(&host)?;
        let resident = memory.resident as f64 / MIB;
        let each = last.map_or(f64::NAN, |(count_before, before)| {
            (memory.proportional as f64 - before.proportional as f64)
                / MIB
                / f64::from(count - count_before)
        });
        section.figure(
            format!("memory/{count}/resident_mib"),
            Spread::one(resident),
        );
        section.figure(format!("memory/{count}/each_mib"), Spread::one(each));
        table.row(vec![
            count.to_string(),
            digits(resident),
            digits(memory.proportional as f64 / MIB),
            Spread::one(each).to_string(),
        ]);
        last = Some((count, memory));
    }
    section.tables.push(table);
    section.remarks.push(format!(
        "All actors are the same component of {} bytes under as many ids; each has machine code of its own. \
         The first one brings the pool and the compiler's leftovers with it.",
        std::fs::metadata(&hello)?.len()
    ));
    Ok(section)
}
