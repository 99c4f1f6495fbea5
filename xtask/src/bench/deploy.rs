//! The lines of `wash` that put a case on its stage.

use anyhow::Result;

use crate::stage::Stage;

/// Permits of an actor: more than any case has connections in a closed loop.
const MAX_INSTANCES: &str = "500";

/// Puts a named configuration.
pub(super) async fn config(stage: &Stage, name: &str, pairs: &[String]) -> Result<()> {
    let mut line = vec!["config", "put", name];
    line.extend(pairs.iter().map(String::as_str));
    stage.wash.run(&line).await.map(drop)
}

/// Starts a provider by its reference: the name of one that is built in, or the file of one that is a process.
pub(super) async fn provider(
    stage: &Stage,
    reference: &str,
    id: &str,
    host: &str,
    configs: &[&str],
) -> Result<()> {
    let mut line = vec!["start", "provider", reference, id, "--host-id", host];
    for config in configs {
        line.extend(["--config", config]);
    }
    stage.wash.run(&line).await.map(drop)
}

/// Starts a signed actor.
pub(super) async fn actor(stage: &Stage, signed: &str, id: &str, host: &str) -> Result<()> {
    let line = ["start", "component", signed, id];
    let rest = ["--host-id", host, "--max-instances", MAX_INSTANCES];
    stage.wash.run(&[&line[..], &rest].concat()).await.map(drop)
}

/// Links `source` to `target` for `namespace:package/interface,…`, with configurations of the source's and the target's end.
pub(super) async fn link(
    stage: &Stage,
    source: &str,
    target: &str,
    interfaces: &str,
    source_config: Option<&str>,
    target_config: Option<&str>,
) -> Result<()> {
    let (package, interfaces) = interfaces.split_once('/').unwrap_or((interfaces, ""));
    let (namespace, package) = package.split_once(':').unwrap_or((package, ""));
    let mut line = vec!["link", "put", source, target, namespace, package];
    for interface in interfaces.split(',') {
        line.extend(["--interface", interface]);
    }
    if let Some(config) = source_config {
        // A provider that calls many has a link for each, by its name.
        line.extend(["--link-name", target, "--source-config", config]);
    }
    if let Some(config) = target_config {
        line.extend(["--target-config", config]);
    }
    stage.wash.run(&line).await.map(drop)
}

/// Has the HTTP server `http` send what comes in at a free address to an actor; gives back that address.
pub(super) async fn expose(stage: &Stage, actor: &str) -> Result<String> {
    let address = super::contestant::free_address()?;
    let name = format!("web-{actor}");
    config(stage, &name, &[format!("address={address}")]).await?;
    let handler = "wasi:http/incoming-handler";
    link(stage, "http", actor, handler, Some(&name), None).await?;
    Ok(address)
}
