//! Redis behind a provider that is a process of its own: the store exchanged by two lines, the provider killed, the
//! server killed.

use anyhow::{Context as _, Result, ensure};
use trellis_test_backends::redis::RedisOptions;

use super::Project;
use super::client::Client;
use super::progress::{heading, sight};
use super::tour::{KEYVALUE_LINK, clicks, code_of, eventually, shorten};
use crate::stage::Stage;

/// The program of the provider.
const PROGRAM: &str = "trellis-keyvalue-redis";

/// Clicks before and after each fault.
const CLICKS: usize = 200;

const REDIS_LINK: &[&str] = &[
    "link",
    "put",
    "shortlink",
    "redis",
    "wasi",
    "keyvalue",
    "--interface",
    "store",
    "--interface",
    "atomics",
    "--target-config",
    "redis",
];
const NO_LINK: &[&str] = &["link", "del", "shortlink", "wasi", "keyvalue"];

/// Shows it. `url` is a server of the user's; without one, a private one is started.
pub(super) async fn show(
    project: &Project,
    stage: &mut Stage,
    client: &Client,
    url: Option<&str>,
) -> Result<()> {
    heading("Redis, by a provider in a process of its own");
    let (mut server, url) = match url {
        Some(url) => (None, url.to_owned()),
        None => {
            sight("start Redis", async {
                // Written through to its disk, so that a kill loses nothing that was acknowledged.
                let server =
                    tokio::task::spawn_blocking(|| RedisOptions::new().with_appendonly().start())
                        .await?
                        .context("start Redis, or name one by --redis-url")?;
                let url = server.url();
                let seen = format!("at {}", server.address());
                Ok(((Some(server), url), seen))
            })
            .await?
        }
    };
    let program = project.programs().join(PROGRAM);
    sight("start keyvalue-redis as a process, on south", async {
        let reference = format!("file://{}", program.display());
        let wash = &stage.wash;
        wash.run(&["config", "put", "redis", &format!("URL={url}")])
            .await?;
        let line = [
            "start",
            "provider",
            &reference,
            "redis",
            "--host-id",
            "south",
        ];
        wash.run(&line).await?;
        let pid = provider_process(stage)?;
        Ok((
            (),
            format!("process {pid}, which knows nothing of NATS or the lattice"),
        ))
    })
    .await?;
    let code = sight("move shortlink's store from JetStream to Redis", async {
        stage.wash.run(NO_LINK).await?;
        stage.wash.run(REDIS_LINK).await?;
        let answer = eventually(stage, "the application", || shorten(client)).await?;
        let code = code_of(&answer)?;
        Ok((
            code,
            "two lines of wash; the actor runs on unchanged".to_owned(),
        ))
    })
    .await?;
    let path = format!("/{code}");
    let mut counted = 0;
    sight("follow it", async {
        client.load(&path, 302, CLICKS, 8).await?;
        counted += CLICKS as u64;
        same_clicks(client, &code, counted).await?;
        Ok(((), format!("{CLICKS} clicks, all counted in Redis")))
    })
    .await?;
    sight("kill the provider's process with -9", async {
        let before = provider_process(stage)?;
        kill(before)?;
        eventually(stage, "the application", || async {
            client.get(&path).await?.expect(302)
        })
        .await?;
        let after = provider_process(stage)?;
        ensure!(before != after, "process {before} is still there");
        counted = clicks(client, &code).await?;
        ensure!(
            counted > CLICKS as u64,
            "{counted} clicks after {CLICKS} and one"
        );
        Ok((
            (),
            format!("its host started it again as {after}; nothing is lost"),
        ))
    })
    .await?;
    if let Some(server) = &mut server {
        sight("kill Redis with -9", async {
            tokio::task::block_in_place(|| server.kill());
            let answer = client.get(&path).await?;
            ensure!(
                answer.status.is_server_error(),
                "an answer of {} without Redis",
                answer.status
            );
            Ok((
                (),
                format!("{} at once: {}", answer.status, one_line(&answer.text())),
            ))
        })
        .await?;
        sight("start it again", async {
            tokio::task::block_in_place(|| server.restart())?;
            eventually(stage, "the application", || async {
                client.get(&path).await?.expect(302)
            })
            .await?;
            let now = clicks(client, &code).await?;
            ensure!(
                now > counted,
                "{now} clicks, {counted} were acknowledged before"
            );
            Ok((
                (),
                format!("it works again by itself, with all {counted} clicks from before"),
            ))
        })
        .await?;
    }
    sight("move back to JetStream", async {
        stage.wash.run(NO_LINK).await?;
        stage.wash.run(KEYVALUE_LINK).await?;
        stage.wash.run(&["stop", "provider", "redis"]).await?;
        Ok(((), "the former links are as they were".to_owned()))
    })
    .await
}

async fn same_clicks(client: &Client, code: &str, expected: u64) -> Result<()> {
    let counted = clicks(client, code).await?;
    ensure!(
        counted == expected,
        "{counted} clicks were counted, not {expected}"
    );
    Ok(())
}

/// The provider's process: a child of the host called south that runs its program.
fn provider_process(stage: &Stage) -> Result<u32> {
    let host = stage.host_pid("south").context("south does not run")?;
    let children = std::fs::read_dir(format!("/proc/{host}/task"))?
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            let pids = children.split_whitespace().map(str::parse::<u32>);
            pids.filter_map(Result::ok).collect::<Vec<_>>()
        });
    children
        .into_iter()
        .find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(PROGRAM))
        })
        .context("the host has no process of the provider")
}

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.context("not the number of a process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
