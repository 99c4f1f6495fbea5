//! `wash import`: a lattice of wasmCloud 1.x, whose answers are made with its own types and whose buckets are written as
//! its hosts write them, becomes one of ours.

use std::collections::BTreeMap;

use async_nats::Client;
use async_nats::jetstream;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::{HostFixture, Lattice, binary, eventually, http};
use wasmcloud_control_interface::{
    ComponentDescription, CtlResponse, Host, HostInventory, Link, ProviderDescription,
};

use crate::terminal::Terminal;

/// The other lattice's name.
const THEIRS: &str = "theirs";

/// Its one host.
const HOST: &str = "NDGQAJ5WC2VT4MOUSZIDTY7XJBHKFAIW7NFUIGH5VTMRDLDSZCMT5HYY";

/// A lattice of wasmCloud, as far as it can be seen from outside.
struct Theirs {
    links: Vec<Link>,
    inventory: HostInventory,
    claims: Vec<BTreeMap<String, String>>,
}

impl Theirs {
    /// An application of the usual sort: an HTTP server, a component with a cache and a store for files.
    fn usual(component_ref: &str) -> Self {
        let link = |source: &str, target: &str, package: &str, interface: &str| {
            Link::builder()
                .source_id(source)
                .target(target)
                .name("default")
                .wit_namespace("wasi")
                .wit_package(package)
                .interfaces(vec![interface.to_owned()])
        };
        let build = |link: wasmcloud_control_interface::LinkBuilder| {
            link.build().expect("every part of the link is given")
        };
        let provider = |id: &str, reference: &str| {
            ProviderDescription::builder()
                .id(id)
                .image_ref(reference)
                .revision(0)
                .build()
                .expect("every part of the provider is given")
        };
        let component = ComponentDescription::builder()
            .id("hello".into())
            .image_ref(component_ref.into())
            .annotations(BTreeMap::from([(
                "wasmcloud.dev/managed-by".to_owned(),
                "wadm".to_owned(),
            )]))
            .revision(0)
            .max_instances(7)
            .build()
            .expect("every part of the component is given");
        let labels = [("hostcore.os", "linux"), ("zone", "east")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            links: vec![
                build(
                    link("http", "hello", "http", "incoming-handler")
                        .source_config(vec!["web".into()]),
                ),
                build(link("hello", "cache", "keyvalue", "store").target_config(vec!["db".into()])),
                build(link("hello", "files", "blobstore", "blobstore")),
            ],
            inventory: HostInventory::builder()
                .host_id(HOST.into())
                .friendly_name("wandering-moon-1234".into())
                .labels(labels.into())
                .version("1.9.2".into())
                .uptime_human("1 hour".into())
                .uptime_seconds(3600)
                .components(vec![component])
                .providers(vec![
                    provider("http", "ghcr.io/wasmcloud/http-server:0.27.0"),
                    provider("files", "ghcr.io/wasmcloud/blobstore-fs:0.11.0"),
                ])
                .build()
                .expect("every part of the inventory is given"),
            claims: vec![BTreeMap::from(
                [("name", "hello"), ("version", "0.4.0"), ("sub", "MABC")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned())),
            )],
        }
    }

    /// Writes the buckets and answers the questions, for as long as the test's runtime lives.
    async fn begin(self, client: Client, port: u16) {
        let context = jetstream::new(client.clone());
        let bucket = async |name: &str| {
            context
                .create_key_value(jetstream::kv::Config {
                    bucket: format!("{name}_{THEIRS}"),
                    ..Default::default()
                })
                .await
                .expect("a bucket can be made")
        };
        let state = bucket("LATTICEDATA").await;
        for source in ["http", "hello"] {
            let links: Vec<_> = self
                .links
                .iter()
                .filter(|link| link.source_id() == source)
                .collect();
            let spec = json!({"url": "r", "links": links});
            put(&state, &format!("COMPONENT_{source}"), &spec).await;
        }
        put(
            &state,
            "CLAIMS_MABC",
            &json!({"subject": "MABC", "issuer": "AABC"}),
        )
        .await;
        let configs = bucket("CONFIGDATA").await;
        put(
            &configs,
            "web",
            &json!({"address": format!("127.0.0.1:{port}")}),
        )
        .await;
        put(&configs, "greeting", &json!({"text": "it's $HOME; `x`"})).await;
        put(
            &configs,
            "SECRET_db",
            &json!({"name": "db", "type": "secret.wasmcloud.dev/v1alpha1", "backend": "vault", "key": "redis/url", "policy": ""}),
        )
        .await;
        let subject = format!("wasmbus.ctl.v1.{THEIRS}.>");
        let mut asked = client
            .subscribe(subject)
            .await
            .expect("the server takes it");
        client.flush().await.expect("the server takes it");
        tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                let Some(reply) = question.reply.clone() else {
                    continue;
                };
                let subject = question.subject.as_str();
                let answer = self.answer(subject.split('.').skip(4).collect::<Vec<_>>().as_slice());
                drop(client.publish(reply, answer.into()).await);
            }
        });
    }

    fn answer(&self, about: &[&str]) -> Vec<u8> {
        match about {
            ["host", "ping"] => {
                let host = Host::builder()
                    .id(HOST.into())
                    .friendly_name("wandering-moon-1234".into())
                    .labels(self.inventory.labels().clone())
                    .lattice(THEIRS.into())
                    .uptime_seconds(3600)
                    .version("1.9.2".into())
                    .build()
                    .expect("every part of the host is given");
                bytes(&CtlResponse::ok(host))
            }
            ["host", "get", HOST] => bytes(&CtlResponse::ok(&self.inventory)),
            ["link", "get"] => bytes(&CtlResponse::ok(&self.links)),
            ["claims", "get"] => bytes(&CtlResponse::ok(&self.claims)),
            other => bytes(&CtlResponse::error(&format!("nobody may ask {other:?}"))),
        }
    }
}

fn bytes(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer can be written")
}

async fn put(bucket: &jetstream::kv::Store, key: &str, value: &Value) {
    bucket
        .put(key, value.to_string().into())
        .await
        .expect("a key can be put");
}

/// Our lattice and theirs on one server, and a terminal that knows ours.
struct Move {
    lattice: Lattice,
    host: HostFixture,
    terminal: Terminal,
    url: String,
}

impl Move {
    async fn prepare() -> Self {
        let lattice = Lattice::start().await;
        let host = lattice.host("alpha").start().await;
        let terminal = Terminal::of(&lattice);
        let component = terminal.write("their-hello.wasm", binary::component("hello"));
        let port = free_port();
        Theirs::usual(&format!("file://{}", component.display()))
            .begin(lattice.stranger().await, port)
            .await;
        Self {
            lattice,
            host,
            terminal,
            url: format!("http://127.0.0.1:{port}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carries_over_is_a_script_and_what_does_not_is_said() {
    let moving = Move::prepare().await;
    let terminal = &moving.terminal;
    let said = terminal.wash(&["import", "--from-lattice", THEIRS]).await;
    let address = moving.url.trim_start_matches("http://");
    let masked = terminal.masked(
        &said.transcript(),
        &[
            (address, "<address>"),
            (HOST, "<host>"),
            (moving.lattice.url(), "<url>"),
            (moving.lattice.name(), "<lattice>"),
        ],
    );
    let expected = "\
# What the wasmCloud lattice theirs has, as 1 host(s) and its buckets tell it.
# host wandering-moon-1234 (<host>), version 1.9.2
#   its labels, for `wash up`: --label zone=east
# wadm manages some of it: its manifests can be deployed here as well, once the components are signed
export TRELLIS_NATS_URL=<url>
export TRELLIS_LATTICE=<lattice>

# Configurations: they carry over as they are.
wash config put greeting 'text=it'\\''s $HOME; `x`'
wash config put web address=<address>

# Secrets.
# NOT CARRIED OVER: db: a reference to `redis/url` in the backend `vault`: only the reference stands in the lattice; put the value into a configuration, or into a secret of your own

# Providers.
# NOT CARRIED OVER: files: no provider of ours serves what `ghcr.io/wasmcloud/blobstore-fs:0.11.0` does; its executable speaks another protocol than our hosts
# http: `ghcr.io/wasmcloud/http-server:0.27.0` is our http-server; which configurations it was given is not told: add --config for its own among greeting
wash start provider http-server http

# Links: they carry over as they are.
# NOT CARRIED OVER: hello -> cache (wasi:keyvalue, default): it is given the secret `db`, which does not carry over
# hello -> files (wasi:blobstore, default): useless until something serves as `files`
wash link put hello files wasi blobstore --interface blobstore
wash link put http hello wasi http --interface incoming-handler --source-config web

# Components: they start once you have signed them.
# hello: `file://~/their-hello.wasm` starts once you have signed it; the grants are those that its links need, so look whether it should have them; which configurations it was given is not told: add --config for its own among greeting
wash claims sign ~/their-hello.wasm --name hello --ver 0.4.0 --cap wasi:blobstore/blobstore --cap wasi:http/incoming-handler --cap wasi:keyvalue/store --destination ./hello_s.wasm
wash start component ./hello_s.wasm hello --max-instances 7
note: 5 of 9 carry over, 1 need your signature, 3 need a hand; `--yes` does what needs no decision, and the values of configurations stand in the commands
exit 0
";
    assert_eq!(masked, expected);

    // The script is one: what it says happens, and the application answers in its new home.
    let ran = terminal.script(&said.stdout).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let response = eventually("the moved application answers", async || {
        let response = http::try_send("GET", &moving.url, "").await.ok()?;
        (response.status == 200).then_some(response)
    })
    .await;
    assert_eq!(response.text(), "Hello from Trellis!\n");
    let inventory = moving.host.host().inventory();
    assert_eq!(inventory.components[0].max_instances, 7);
    let config = terminal.json(&["config", "get", "greeting"]).await;
    assert_eq!(config["config"], json!({"text": "it's $HOME; `x`"}));
    drop(moving.lattice);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_yes_it_is_done_once_and_never_overwrites() {
    let moving = Move::prepare().await;
    let terminal = &moving.terminal;
    let import = ["import", "--from-lattice", THEIRS, "--yes"];
    let outcomes = |report: &Value| -> BTreeMap<String, String> {
        report["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| {
                let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
                (
                    format!("{} {}", text("kind"), text("name")),
                    text("outcome"),
                )
            })
            .collect()
    };
    let first = terminal.json(&import).await;
    assert_eq!(first["from"]["lattice"], THEIRS);
    assert_eq!(first["from"]["hosts"][0]["version"], "1.9.2");
    let first = outcomes(&first);
    assert_eq!(first["config web"], "done");
    assert_eq!(first["provider http"], "done");
    assert_eq!(first["component hello"], "left");
    assert_eq!(first["secret db"], "left");
    let links = first.iter().filter(|(name, _)| name.starts_with("link "));
    assert_eq!(links.filter(|(_, outcome)| *outcome == "done").count(), 2);

    let again = outcomes(&terminal.json(&import).await);
    assert_eq!(again["config web"], "already-there");
    assert_eq!(again["provider http"], "already-there");

    terminal
        .json(&["config", "put", "greeting", "text=mine"])
        .await;
    let conflict = eventually("the other content is seen", async || {
        let said = terminal
            .wash(&[&import[..], &["--output", "json"]].concat())
            .await;
        (said.code == Some(1)).then_some(said)
    })
    .await;
    let report = conflict.json();
    assert_eq!(report["success"], false);
    assert_eq!(outcomes(&report)["config greeting"], "failed");
    let config = terminal.json(&["config", "get", "greeting"]).await;
    assert_eq!(config["config"]["text"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lattice_that_is_not_there_or_is_our_own_is_refused() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("alpha").start().await;
    let terminal = Terminal::of(&lattice);
    let nobody = terminal
        .wash(&["import", "--from-lattice", "nobody", "--timeout-ms", "1000"])
        .await;
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
    assert!(nobody.stderr.contains("no lattice nobody"), "{nobody:?}");
    let own = terminal
        .wash(&["import", "--from-lattice", lattice.name()])
        .await;
    assert_eq!(own.code, Some(2), "{own:?}");
    assert!(own.stderr.contains("into itself"), "{own:?}");
}
