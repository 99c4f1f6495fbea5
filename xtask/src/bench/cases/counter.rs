//! HTTP → actor → increment of a counter, on JetStream and on Redis, with the provider built in and as a process, beside
//! a bare hyper server with the backend's bare client.

use anyhow::{Context as _, Result};
use trellis_test_backends::Redis;

use super::super::contestant::Contestant;
use super::super::process::Who;
use super::super::report::Section;
use super::super::turns::Comparison;
use super::super::{Bench, deploy};
use crate::stage::Stage;

/// What actors call on a key-value provider here.
const KEYVALUE: &str = "wasi:keyvalue/store,atomics";

/// A backend and the provider for it.
struct Backend<'a> {
    /// `counter-redis`.
    case: &'static str,
    title: &'static str,
    /// The provider's name.
    provider: &'static str,
    /// What `bench-bare` calls it, and where it is.
    kind: &'static str,
    url: &'a str,
    processes: Who,
    /// Configuration of the link.
    link: Vec<String>,
}

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let redis = Redis::start().context("the Redis of this case")?;
    let host = Who::Tree(bench.start_host(stage, "north").await?);
    let signed = stage.sign("relay").await?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    let (nats_url, redis_url) = (stage.wash.nats_url.clone(), redis.url());
    let backends = [
        Backend {
            case: "counter-jetstream",
            title: "HTTP → counter on JetStream",
            provider: "keyvalue-nats",
            kind: "nats",
            url: &nats_url,
            processes: Who::Named("nats-server"),
            link: vec![
                "bucket=counters".to_owned(),
                "enable_bucket_auto_create=true".to_owned(),
                format!("cluster_uris={nats_url}"),
            ],
        },
        Backend {
            case: "counter-redis",
            title: "HTTP → counter on Redis",
            provider: "keyvalue-redis",
            kind: "redis",
            url: &redis_url,
            processes: Who::Named("redis-server"),
            link: vec![format!("url={redis_url}")],
        },
    ];
    let mut section = Section::default();
    for backend in &backends {
        deploy::config(stage, backend.case, &backend.link).await?;
        let mut contestants = vec![Contestant::bare(
            bench,
            "bare client",
            Some((backend.kind, backend.url, backend.processes)),
        )?];
        for way in Way::wanted(bench) {
            contestants.push(deploy_way(bench, stage, &signed, host, backend, *way).await?);
        }
        for contestant in &contestants {
            contestant.answers().await?;
        }
        Comparison {
            case: backend.case,
            title: backend.title,
            contestants: &contestants,
            connections: &[1, 32],
        }
        .measure(bench, &mut section)?;
    }
    Ok(section)
}

/// How a provider runs.
#[derive(Clone, Copy)]
pub(super) enum Way {
    BuiltIn,
    Process,
}

impl Way {
    /// Those that this run is about.
    pub(super) fn wanted(bench: &Bench<'_>) -> &'static [Self] {
        if bench.options.no_processes {
            &[Self::BuiltIn]
        } else {
            &[Self::BuiltIn, Self::Process]
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built in",
            Self::Process => "process",
        }
    }

    /// The reference by which the provider of this name is started so.
    pub(super) fn reference(self, bench: &Bench<'_>, provider: &str) -> String {
        match self {
            Self::BuiltIn => provider.to_owned(),
            Self::Process => bench.provider_reference(&format!("trellis-{provider}")),
        }
    }

    /// A part of ids.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::BuiltIn => "in",
            Self::Process => "out",
        }
    }
}

async fn deploy_way(
    bench: &Bench<'_>,
    stage: &Stage,
    signed: &str,
    host: Who,
    backend: &Backend<'_>,
    way: Way,
) -> Result<Contestant> {
    let provider = format!("{}-{}", backend.provider, way.suffix());
    let actor = format!("{}-{}", backend.case, way.suffix());
    let reference = way.reference(bench, backend.provider);
    deploy::provider(stage, &reference, &provider, "north", &[]).await?;
    deploy::actor(stage, signed, &actor, "north").await?;
    deploy::link(stage, &actor, &provider, KEYVALUE, None, Some(backend.case)).await?;
    let address = deploy::expose(stage, &actor).await?;
    let path = format!("/count?key={}", way.suffix());
    Ok(Contestant::actor(
        way.name(),
        address,
        &path,
        vec![host],
        vec![backend.processes],
    ))
}
