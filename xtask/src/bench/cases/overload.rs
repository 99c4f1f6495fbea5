//! Ten times what a host can take, for ten seconds: what is answered, and how the first request after it fares.

use std::time::Instant;

use anyhow::Result;

use super::super::contestant::Contestant;
use super::super::load::{Round, Shape, any_round, round};
use super::super::process::{Accounts, Who};
use super::super::report::{Section, Table};
use super::super::spread::{Spread, digits};
use super::super::{Bench, deploy, get, machine};
use crate::stage::Stage;

/// How many times the sustainable rate.
const TIMES: f64 = 10.0;

/// Seconds of the overload; shorter rounds shorten it as well.
const SECONDS: f64 = 10.0;

/// Connections of the overload: more than an actor has permits and places in its queue.
const CONNECTIONS: usize = 2_048;

/// What there can be too much of.
struct Kind {
    name: &'static str,
    actor: &'static str,
    path: &'static str,
    permits: &'static str,
    /// Connections by which the sustainable rate is found.
    connections: usize,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "An actor that computes",
        actor: "hello",
        path: "/",
        // As many as an actor has where nobody asks for another number.
        permits: "100",
        connections: 32,
    },
    Kind {
        name: "An actor that waits for 50 ms",
        actor: "probe",
        path: "/slow?n=50",
        permits: "50",
        connections: 50,
    },
];

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let host = Who::Tree(bench.start_host(stage, "north").await?);
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    let mut section = Section::default();
    for kind in KINDS {
        let signed = stage.sign(kind.actor).await?;
        let line = [
            "start",
            "component",
            &signed,
            kind.actor,
            "--host-id",
            "north",
        ];
        let permits = ["--max-instances", kind.permits];
        stage.wash.run(&[&line[..], &permits].concat()).await?;
        let address = deploy::expose(stage, kind.actor).await?;
        let actor = Contestant::actor(kind.actor, address, kind.path, vec![host], Vec::new());
        actor.answers().await?;
        overload(bench, kind, &actor, host, &mut section)?;
    }
    section.remarks.push(
        "Latencies count from the moment at which a request was due, so they include the wait for a free connection; \
         requests that found none before the end were never sent. The load runs on a processor of its own."
            .to_owned(),
    );
    Ok(section)
}

fn overload(
    bench: &Bench<'_>,
    kind: &Kind,
    actor: &Contestant,
    host: Who,
    section: &mut Section,
) -> Result<()> {
    // The load has a processor of its own, or it could not ask ten times faster than it is answered.
    let cpu = machine::other_than(bench.options.cpu);
    let sustained = Shape {
        cpu,
        ..Shape::closed(kind.connections, bench.options.seconds)
    };
    round(bench, actor, sustained)?;
    let before = round(bench, actor, sustained)?;
    let resident_before = resident(host)?;
    let rate = before.per_second * TIMES;
    bench.say(&format!(
        "{}: {} requests a second",
        kind.name,
        digits(rate)
    ));
    let seconds = SECONDS.min(bench.options.seconds * SECONDS);
    let flood = Shape {
        cpu,
        ..Shape::open(CONNECTIONS, seconds, rate)
    };
    let during = any_round(bench, actor, flood)?;
    let begin = Instant::now();
    let first = get::get(&actor.address, kind.path)?;
    let first_ms = begin.elapsed().as_secs_f64() * 1e3;
    let resident_after = resident(host)?;
    let after = round(bench, actor, sustained)?;
    section
        .tables
        .push(table(kind, seconds, &[&before, &during, &after]));
    let name = |what: &str| format!("overload/{}/{what}", kind.actor);
    section.figure(name("before/per_second"), Spread::one(before.per_second));
    section.figure(name("during/per_second"), Spread::one(during.per_second));
    section.figure(name("after/per_second"), Spread::one(after.per_second));
    section.figure(name("first/ms"), Spread::one(first_ms));
    section.figure(name("first/status"), Spread::one(f64::from(first.status)));
    section.remarks.push(format!(
        "{}, the first request afterwards: {} in {} ms, on a connection of its own. Resident memory: {} MiB before, {} MiB after.",
        kind.name,
        first.status,
        digits(first_ms),
        digits(resident_before),
        digits(resident_after),
    ));
    Ok(())
}

fn resident(host: Who) -> Result<f64> {
    Ok(Accounts::read()?.memory(&[host])?.resident as f64 / (1024.0 * 1024.0))
}

fn table(kind: &Kind, seconds: f64, rounds: &[&Round; 3]) -> Table {
    let mut table = Table::new(
        format!(
            "{}: {TIMES} times the sustainable rate for {seconds} s, {CONNECTIONS} connections, {} permits",
            kind.name, kind.permits
        ),
        &[
            "",
            "answered well/s",
            "p50 ms",
            "p99 ms",
            "refused",
            "refusals' p50 ms",
            "refusals' p99 ms",
            "without an answer",
            "never sent",
        ],
    );
    for (name, round) in ["before", "during", "after"].iter().zip(rounds) {
        let refused: Vec<_> = round
            .statuses
            .iter()
            .filter(|(status, _)| !status.starts_with('2'))
            .map(|(status, count)| format!("{count} × {status}"))
            .collect();
        let ms = |us: f64| Spread::one(us / 1e3).to_string();
        table.row(vec![
            (*name).to_owned(),
            digits(round.per_second),
            ms(round.p50_us),
            ms(round.p99_us),
            if refused.is_empty() {
                "0".to_owned()
            } else {
                refused.join(", ")
            },
            ms(round.refused_p50_us),
            ms(round.refused_p99_us),
            round.failures.to_string(),
            round.unsent.to_string(),
        ]);
    }
    table
}
