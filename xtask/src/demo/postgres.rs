//! Orders on Postgres: stock that hundreds want at once, and never more sold than there is.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use trellis_test_backends::Postgres;

use super::client::Client;
use super::progress::{heading, sight};
use super::tour::eventually;
use crate::stage::Stage;

/// Pieces in stock, and customers who want one each at the same moment.
const STOCK: usize = 50;
const CUSTOMERS: usize = 200;

/// Where Postgres is, as the link's configuration names it.
#[derive(Debug)]
struct Server {
    lines: Vec<String>,
    seen: String,
    /// Ends with this value, where it is ours.
    _private: Option<Postgres>,
}

impl Server {
    fn named(url: &str) -> Result<Self> {
        let url = url::Url::parse(url).context("--postgres-url is no URL")?;
        ensure!(
            matches!(url.scheme(), "postgres" | "postgresql"),
            "--postgres-url begins with postgres://"
        );
        let host = url.host_str().context("--postgres-url names no host")?;
        let port = url.port().unwrap_or(5432);
        Ok(Self {
            lines: vec![
                format!("POSTGRES_HOST={host}"),
                format!("POSTGRES_PORT={port}"),
                format!("POSTGRES_USERNAME={}", plain(url.username())?),
                format!(
                    "POSTGRES_PASSWORD={}",
                    plain(url.password().unwrap_or_default())?
                ),
                format!(
                    "POSTGRES_DATABASE={}",
                    plain(url.path().trim_start_matches('/'))?
                ),
            ],
            seen: format!("at {host}:{port}"),
            _private: None,
        })
    }

    async fn private() -> Result<Self> {
        let server = tokio::task::spawn_blocking(Postgres::start)
            .await?
            .context("start Postgres, or name one by --postgres-url")?;
        let mut named = Self::named(&server.url())?;
        named._private = Some(server);
        Ok(named)
    }
}

/// A part of a URL as it is meant: what URLs reserve is written there by its number.
fn plain(part: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    Ok(decoded
        .context("a part of --postgres-url is no UTF-8")?
        .into_owned())
}

/// Shows it. `url` is a server of the user's; without one, a private one is started.
pub(super) async fn show(stage: &mut Stage, url: Option<&str>) -> Result<()> {
    heading("Postgres: orders that never sell what is not there");
    let server = sight("start Postgres", async {
        let server = match url {
            Some(url) => Server::named(url)?,
            None => Server::private().await?,
        };
        let seen = server.seen.clone();
        Ok((server, seen))
    })
    .await?;
    let address = stage.another_address()?;
    sight("deploy orders on south, sql-postgres on north", async {
        deploy(stage, &server, &address).await?;
        Ok(((), format!("HTTP at {address}")))
    })
    .await?;
    let client = Client::new(&address);
    let item = format!("lamp-{}", std::process::id());
    sight("put goods in stock", async {
        let goods = serde_json::json!({ "item": item, "quantity": STOCK }).to_string();
        eventually(stage, "the application", || async {
            let answer = client.post("/stock", &goods).await?;
            ensure!(
                answer.status.is_success(),
                "{}: {}",
                answer.status,
                answer.text()
            );
            Ok(())
        })
        .await?;
        Ok(((), format!("{STOCK} pieces")))
    })
    .await?;
    sight(
        &format!("{CUSTOMERS} customers order one each, at once"),
        async {
            let begin = Instant::now();
            let mut customers = tokio::task::JoinSet::new();
            for _ in 0..CUSTOMERS {
                let client = client.clone();
                let order = serde_json::json!({ "item": item, "quantity": 1 }).to_string();
                customers.spawn(async move { client.post("/orders", &order).await });
            }
            let (mut sold, mut sold_out) = (0, 0);
            while let Some(answer) = customers.join_next().await {
                let answer = answer??;
                match answer.status.as_u16() {
                    201 => sold += 1,
                    409 => sold_out += 1,
                    other => anyhow::bail!("an answer of {other}: {}", answer.text()),
                }
            }
            ensure!(sold == STOCK, "{sold} pieces of {STOCK} were sold");
            let took = begin.elapsed().as_millis();
            Ok((
                (),
                format!("{sold} sold, {sold_out} told that there are none left, in {took} ms"),
            ))
        },
    )
    .await?;
    sight("page through the orders", async {
        let page = client.get("/orders?limit=20").await?.expect(200)?.json()?;
        let orders = page["orders"].as_array().map_or(0, Vec::len);
        ensure!(orders == 20, "a page of {orders}");
        Ok(((), "a page of 20, with where the next begins".to_owned()))
    })
    .await
}

async fn deploy(stage: &Stage, server: &Server, address: &str) -> Result<()> {
    let orders = stage.sign("orders").await?;
    let wash = &stage.wash;
    let mut config = vec!["config", "put", "orders-db"];
    config.extend(server.lines.iter().map(String::as_str));
    wash.run(&config).await?;
    let listen = format!("address={address}");
    wash.run(&["config", "put", "orders-web", &listen]).await?;
    for line in [
        &[
            "start",
            "provider",
            "sql-postgres",
            "sql",
            "--host-id",
            "north",
        ][..],
        &[
            "start",
            "component",
            &orders,
            "orders",
            "--host-id",
            "south",
        ],
        &[
            "link",
            "put",
            "orders",
            "sql",
            "wasmcloud",
            "postgres",
            "--interface",
            "query",
            "--target-config",
            "orders-db",
        ],
        &[
            "link",
            "put",
            "http",
            "orders",
            "wasi",
            "http",
            "--interface",
            "incoming-handler",
            "--source-config",
            "orders-web",
            "--link-name",
            "orders",
        ],
    ] {
        wash.run(line).await?;
    }
    Ok(())
}
