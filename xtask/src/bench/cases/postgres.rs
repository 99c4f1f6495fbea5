//! HTTP → actor → one select, with the provider built in and as a process, beside bare hyper with tokio-postgres.

use anyhow::{Context as _, Result};
use trellis_test_backends::Postgres;
use url::Url;

use super::super::contestant::Contestant;
use super::super::process::Who;
use super::super::report::Section;
use super::super::turns::Comparison;
use super::super::{Bench, deploy};
use super::counter::Way;
use crate::stage::Stage;

/// Connections of the provider's pool: what keeps one processor busy, and fewer than there are requests at once.
const POOL_SIZE: u32 = 8;

/// What the server's processes are called.
const SERVER: Who = Who::Named("postgres");

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let postgres = Postgres::start().context("the Postgres of this case")?;
    let url = postgres.url();
    let host = Who::Tree(bench.start_host(stage, "north").await?);
    let signed = stage.sign("lookup").await?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    deploy::config(stage, "database", &settings(&postgres)?).await?;
    let mut contestants = vec![Contestant::bare(
        bench,
        "bare client",
        Some(("postgres", &url, SERVER)),
    )?];
    for way in Way::wanted(bench) {
        let (provider, actor) = (
            format!("sql-{}", way.suffix()),
            format!("lookup-{}", way.suffix()),
        );
        let reference = way.reference(bench, "sql-postgres");
        deploy::provider(stage, &reference, &provider, "north", &[]).await?;
        deploy::actor(stage, &signed, &actor, "north").await?;
        let query = "wasmcloud:postgres/query";
        deploy::link(stage, &actor, &provider, query, None, Some("database")).await?;
        let address = deploy::expose(stage, &actor).await?;
        let backend = vec![SERVER];
        contestants.push(Contestant::actor(
            way.name(),
            address,
            "/",
            vec![host],
            backend,
        ));
    }
    for contestant in &contestants {
        contestant.answers().await?;
    }
    let mut section = Section::default();
    Comparison {
        case: "postgres",
        title: "HTTP → one select on Postgres",
        contestants: &contestants,
        connections: &[1, 32],
    }
    .measure(bench, &mut section)?;
    Ok(section)
}

/// Configuration of the links to a server.
fn settings(postgres: &Postgres) -> Result<Vec<String>> {
    let url = Url::parse(&postgres.url())?;
    let address = postgres.address();
    Ok(vec![
        format!("POSTGRES_HOST={}", address.ip()),
        format!("POSTGRES_PORT={}", address.port()),
        format!("POSTGRES_USERNAME={}", url.username()),
        // As it is: in the URL it is encoded.
        format!("POSTGRES_PASSWORD={}", postgres.password()),
        format!("POSTGRES_DATABASE={}", url.path().trim_start_matches('/')),
        "POSTGRES_TLS_REQUIRED=false".to_owned(),
        format!("POSTGRES_POOL_SIZE={POOL_SIZE}"),
    ])
}
