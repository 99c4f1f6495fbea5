//! Messages: shortlink tells of each click, and another actor on the other host reacts.

use anyhow::{Result, ensure};

use super::client::Client;
use super::progress::{heading, sight};
use super::tour::eventually;
use crate::stage::Stage;

/// Clicks that are told of.
const CLICKS: usize = 100;

/// Shows it.
pub(super) async fn show(stage: &mut Stage, client: &Client, code: &str) -> Result<()> {
    heading("Messages: clicks on south reacts to what shortlink on north publishes");
    let address = stage.another_address()?;
    sight("deploy clicks and link it to the messages", async {
        deploy(stage, &address).await?;
        Ok(((), format!("HTTP at {address}")))
    })
    .await?;
    let reader = Client::new(&address);
    let path = format!("/clicks/{code}");
    sight(&format!("follow the link {CLICKS} times"), async {
        // Core NATS keeps nothing for those who do not listen yet: the first click that arrives shows that somebody does.
        eventually(stage, "the first message", || async {
            client.get(&format!("/{code}")).await?.expect(302)?;
            ensure!(seen(&reader, &path).await? > 0, "no click was heard of");
            Ok(())
        })
        .await?;
        let before = settled(&reader, &path).await?;
        client.load(&format!("/{code}"), 302, CLICKS, 4).await?;
        let expected = before + CLICKS as u64;
        eventually(stage, "the messages", || async {
            let seen = seen(&reader, &path).await?;
            ensure!(
                seen == expected,
                "{seen} clicks were heard of, not {expected}"
            );
            Ok(())
        })
        .await?;
        Ok(((), "each was heard of once".to_owned()))
    })
    .await?;
    sight("take the link to clicks away", async {
        let line = ["link", "del", "messaging", "wasmcloud", "messaging"];
        stage.wash.run(&line).await?;
        Ok(((), "the subscription goes with it".to_owned()))
    })
    .await
}

/// The count, once it no longer moves.
async fn settled(reader: &Client, path: &str) -> Result<u64> {
    let mut last = seen(reader, path).await?;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let now = seen(reader, path).await?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
}

async fn seen(reader: &Client, path: &str) -> Result<u64> {
    let answer = reader.get(path).await?.expect(200)?.json()?;
    Ok(answer["clicks"].as_u64().unwrap_or_default())
}

async fn deploy(stage: &Stage, address: &str) -> Result<()> {
    let clicks = stage.sign("clicks").await?;
    let listen = format!("address={address}");
    let wash = &stage.wash;
    for line in [
        &["config", "put", "clicks-web", &listen][..],
        &[
            "config",
            "put",
            "clicks-in",
            "subscriptions=shortlink.clicks|clicks",
        ],
        &[
            "config",
            "put",
            "clicks-store",
            "bucket=clicks",
            "enable_bucket_auto_create=true",
        ],
        &[
            "start",
            "provider",
            "messaging-nats",
            "messaging",
            "--host-id",
            "north",
        ],
        &[
            "start",
            "component",
            &clicks,
            "clicks",
            "--host-id",
            "south",
        ],
        &[
            "link",
            "put",
            "clicks",
            "kv",
            "wasi",
            "keyvalue",
            "--interface",
            "store",
            "--interface",
            "atomics",
            "--target-config",
            "clicks-store",
        ],
        &[
            "link",
            "put",
            "http",
            "clicks",
            "wasi",
            "http",
            "--interface",
            "incoming-handler",
            "--source-config",
            "clicks-web",
            "--link-name",
            "clicks",
        ],
        &[
            "link",
            "put",
            "shortlink",
            "messaging",
            "wasmcloud",
            "messaging",
            "--interface",
            "consumer",
        ],
        &[
            "link",
            "put",
            "messaging",
            "clicks",
            "wasmcloud",
            "messaging",
            "--interface",
            "handler",
            "--source-config",
            "clicks-in",
        ],
    ] {
        wash.run(line).await?;
    }
    Ok(())
}
