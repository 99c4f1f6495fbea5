//! What is shown: the application deployed, used, loaded, cut off from what it needs, and hit by the loss of a host.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::client::{Answer, Client};
use super::progress::{heading, sight};
use crate::stage::Stage;

/// Longest that the application may need to get into a state.
const SOON: Duration = Duration::from_secs(45);

/// Requests and connections of the load.
const LOAD_REQUESTS: usize = 3_000;
const LOAD_CONNECTIONS: usize = 16;

/// The page that is shortened.
const PAGE: &str = "https://example.com/a/very/long/address?that=nobody&types=twice";

/// What is left to try when the tour is over.
#[derive(Debug)]
pub(crate) struct Sights {
    code: String,
}

impl Sights {
    /// The code that leads to the page.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// Prints the URL and a few lines to type.
    pub(crate) fn print(&self, stage: &Stage) {
        let (address, code, wash) = (&stage.address, &self.code, &stage.wash);
        eprintln!(
            "
The application is up at http://{address}/ until you press Ctrl-C. To try:

  curl -i -X POST http://{address}/links -d '{{\"url\": \"https://nats.io/\"}}'
  curl -i http://{address}/{code}
  curl http://{address}/{code}/stats

  export TRELLIS_NATS_URL={} TRELLIS_LATTICE={} TRELLIS_KEYS_DIR={}
  {program} get hosts
  {program} get inventory
  {program} get links
  {program} link del shortlink wasi keyvalue

Afterwards, in the same shell: unset TRELLIS_NATS_URL TRELLIS_LATTICE TRELLIS_KEYS_DIR
",
            wash.nats_url,
            wash.lattice,
            wash.keys_dir.display(),
            program = wash.program.display(),
        );
    }
}

/// Walks the tour.
pub(crate) async fn walk(stage: &mut Stage) -> Result<Sights> {
    let client = Client::new(&stage.address);
    two_hosts(stage).await?;
    deploy(stage).await?;
    let code = shorten_follow_count(stage, &client).await?;
    load(&client, &code).await?;
    refused_without_grant(stage).await?;
    unlinked_and_linked_again(stage, &client, &code).await?;
    loss_of_a_host(stage, &client).await?;
    Ok(Sights { code })
}

async fn two_hosts(stage: &mut Stage) -> Result<()> {
    heading("Two hosts, one lattice");
    sight("start two hosts with `wash up`", async {
        stage.start_host("north")?;
        stage.hosts_up(1).await?;
        stage.start_host("south")?;
        let seen = stage.hosts_up(2).await?;
        Ok(((), seen))
    })
    .await
}

async fn deploy(stage: &Stage) -> Result<()> {
    heading("The application: shortlink and its store on north, codemaker on south");
    let wash = &stage.wash;
    let mut signed = Vec::new();
    for actor in ["shortlink", "codemaker"] {
        let path = sight(&format!("sign {actor}"), async {
            let path = stage.sign(actor).await?;
            Ok((path, "its claims name what it may do".to_owned()))
        })
        .await?;
        signed.push(path);
    }
    sight("configure", async {
        let address = format!("address={}", stage.address);
        wash.run(&["config", "put", "web", &address]).await?;
        wash.run(&[
            "config",
            "put",
            "links",
            "bucket=links",
            "enable_bucket_auto_create=true",
        ])
        .await?;
        Ok(((), format!("HTTP at {}, bucket `links`", stage.address)))
    })
    .await?;
    let starts: [(&str, Vec<&str>); 4] = [
        (
            "start the HTTP server",
            vec!["provider", "http-server", "http", "--host-id", "north"],
        ),
        (
            "start key-value",
            vec!["provider", "keyvalue-nats", "kv", "--host-id", "north"],
        ),
        (
            "start shortlink",
            vec![
                "component",
                signed[0].as_str(),
                "shortlink",
                "--host-id",
                "north",
            ],
        ),
        (
            "start codemaker",
            vec![
                "component",
                signed[1].as_str(),
                "codemaker",
                "--host-id",
                "south",
            ],
        ),
    ];
    for (name, arguments) in starts {
        let line: Vec<_> = std::iter::once("start").chain(arguments).collect();
        sight(name, async {
            wash.run(&line).await?;
            Ok(((), format!("on {}", line[line.len() - 1])))
        })
        .await?;
    }
    sight("link them", async {
        for line in [HTTP_LINK, KEYVALUE_LINK, CODES_LINK] {
            wash.run(line).await?;
        }
        Ok(((), "http → shortlink → kv, codemaker".to_owned()))
    })
    .await
}

const HTTP_LINK: &[&str] = &[
    "link",
    "put",
    "http",
    "shortlink",
    "wasi",
    "http",
    "--interface",
    "incoming-handler",
    "--source-config",
    "web",
];
pub(super) const KEYVALUE_LINK: &[&str] = &[
    "link",
    "put",
    "shortlink",
    "kv",
    "wasi",
    "keyvalue",
    "--interface",
    "store",
    "--interface",
    "atomics",
    "--target-config",
    "links",
];
const CODES_LINK: &[&str] = &[
    "link",
    "put",
    "shortlink",
    "codemaker",
    "trellis",
    "shortlink",
    "--interface",
    "codes",
];

async fn shorten_follow_count(stage: &mut Stage, client: &Client) -> Result<String> {
    heading("Use it");
    let code = sight("shorten a URL", async {
        let answer = eventually(stage, "the application", || shorten(client)).await?;
        let code = code_of(&answer)?;
        Ok((
            code.clone(),
            format!("201, the code is {code}, made on the other host"),
        ))
    })
    .await?;
    sight("follow it", async {
        let answer = client.get(&format!("/{code}")).await?.expect(302)?;
        ensure!(
            answer.location.as_deref() == Some(PAGE),
            "it leads to {:?}",
            answer.location
        );
        Ok(((), "302 to the page".to_owned()))
    })
    .await?;
    sight("count", async {
        let clicks = clicks(client, &code).await?;
        ensure!(clicks == 1, "{clicks} clicks were counted, not 1");
        Ok(((), "1 click".to_owned()))
    })
    .await?;
    sight("send nonsense", async {
        for (body, status) in [("{", 400), (r#"{"url": "not one"}"#, 422)] {
            client.post("/links", body).await?.expect(status)?.json()?;
        }
        client.get("/nosuchcode").await?.expect(404)?.json()?;
        Ok((
            (),
            "400, 422 and 404, each with a problem document".to_owned(),
        ))
    })
    .await?;
    Ok(code)
}

pub(super) async fn shorten(client: &Client) -> Result<Answer> {
    let body = serde_json::json!({ "url": PAGE }).to_string();
    client.post("/links", &body).await?.expect(201)
}

pub(super) fn code_of(answer: &Answer) -> Result<String> {
    let json = answer.json()?;
    let code = json["code"].as_str().context("the answer has no code")?;
    Ok(code.to_owned())
}

pub(super) async fn clicks(client: &Client, code: &str) -> Result<u64> {
    let stats = client.get(&format!("/{code}/stats")).await?.expect(200)?;
    stats.json()?["clicks"]
        .as_u64()
        .context("the statistics have no clicks")
}

async fn load(client: &Client, code: &str) -> Result<()> {
    heading("Load");
    sight(
        &format!("follow it {LOAD_REQUESTS} times over {LOAD_CONNECTIONS} connections"),
        async {
            let before = clicks(client, code).await?;
            let took = client
                .load(&format!("/{code}"), 302, LOAD_REQUESTS, LOAD_CONNECTIONS)
                .await?;
            let counted = clicks(client, code).await? - before;
            ensure!(
                counted == LOAD_REQUESTS as u64,
                "{LOAD_REQUESTS} requests, {counted} clicks"
            );
            let rate = LOAD_REQUESTS as f64 / took.as_secs_f64();
            Ok((
                (),
                format!("nothing lost, every click counted, {rate:.0} a second"),
            ))
        },
    )
    .await
}

async fn refused_without_grant(stage: &Stage) -> Result<()> {
    heading("Deny by default");
    sight(
        "start curious, whose claims do not grant key-value",
        async {
            let curious = stage.sign("curious").await?;
            let said = stage
                .wash
                .refused(&[
                    "start",
                    "component",
                    &curious,
                    "curious",
                    "--host-id",
                    "north",
                ])
                .await?;
            ensure!(
                said.contains("wasi:keyvalue/store") && said.contains("--cap"),
                "the reason or the remedy is missing: {said}"
            );
            Ok(((), format!("refused:\n       {said}\n      ")))
        },
    )
    .await
}

async fn unlinked_and_linked_again(stage: &mut Stage, client: &Client, code: &str) -> Result<()> {
    let path = format!("/{code}");
    sight("take the link to key-value away", async {
        stage
            .wash
            .run(&["link", "del", "shortlink", "wasi", "keyvalue"])
            .await?;
        let answer = eventually(stage, "the refusal", || async {
            client.get(&path).await?.expect(503)
        })
        .await?;
        let problem = answer.text();
        ensure!(
            problem.contains("no-link"),
            "the reason is missing: {problem}"
        );
        Ok(((), "503 at once, the reason is `no-link`".to_owned()))
    })
    .await?;
    sight("put it back", async {
        stage.wash.run(KEYVALUE_LINK).await?;
        eventually(stage, "the application", || async {
            client.get(&path).await?.expect(302)
        })
        .await?;
        Ok(((), "302 again".to_owned()))
    })
    .await
}

async fn loss_of_a_host(stage: &mut Stage, client: &Client) -> Result<()> {
    heading("Lose a host");
    let before = south(stage).await?;
    sight("kill south with -9", async {
        stage.kill_host("south")?;
        let begin = Instant::now();
        let answer = client
            .post(
                "/links",
                r#"{"url": "https://example.com/while-south-is-gone"}"#,
            )
            .await?;
        ensure!(
            answer.status.is_server_error(),
            "an answer of {} without the code maker",
            answer.status
        );
        let took = begin.elapsed().as_millis();
        Ok((
            (),
            format!(
                "what needs it is refused with {} after {took} ms",
                answer.status
            ),
        ))
    })
    .await?;
    sight("start it again", async {
        stage.start_host("south")?;
        eventually(stage, "the application", || async {
            client
                .post("/links", r#"{"url": "https://example.com/south-is-back"}"#)
                .await?
                .expect(201)
        })
        .await?;
        let after = south(stage).await?;
        ensure!(before == after, "it came back as {after}, not as {before}");
        Ok((
            (),
            "the same host: it restored codemaker, and the application works again".to_owned(),
        ))
    })
    .await
}

/// The key of the host called south.
async fn south(stage: &Stage) -> Result<String> {
    let answer = stage.wash.json(&["get", "hosts"]).await?;
    answer["hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|host| host["friendly_name"] == "south")
        .and_then(|host| host["id"].as_str())
        .map(str::to_owned)
        .context("no host is called south")
}

/// Repeats something until it succeeds; fails with its last error, or as soon as a host has ended.
pub(super) async fn eventually<T, F>(
    stage: &mut Stage,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let begin = Instant::now();
    loop {
        stage.check_hosts()?;
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if begin.elapsed() > SOON => {
                bail!("{what} did not come within {} s: {error:#}", SOON.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
