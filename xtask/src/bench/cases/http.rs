//! HTTP hello: a host, `wasmtime serve` with the same component, and bare hyper.

use anyhow::Result;

use super::super::contestant::Contestant;
use super::super::process::Who;
use super::super::report::Section;
use super::super::turns::Comparison;
use super::super::{Bench, deploy};
use crate::stage::Stage;

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let host = Who::Tree(bench.start_host(stage, "north").await?);
    let hello = stage.sign("hello").await?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    deploy::actor(stage, &hello, "hello", "north").await?;
    let address = deploy::expose(stage, "hello").await?;
    let component = bench.project.components().join("hello.wasm");
    let contestants = [
        Contestant::wasmtime_serve(&bench.wasmtime()?, &component)?,
        Contestant::actor("trellis", address, "/", vec![host], Vec::new()),
        Contestant::bare(bench, "bare hyper", None)?,
    ];
    for contestant in &contestants {
        contestant.answers().await?;
    }
    let mut section = Section::default();
    Comparison {
        case: "http",
        title: "HTTP hello",
        contestants: &contestants,
        connections: &[1, 32],
    }
    .measure(bench, &mut section)?;
    Ok(section)
}
