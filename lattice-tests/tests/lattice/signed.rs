//! Signed commands and links: what a host that insists on them takes, and every way in which somebody who can publish,
//! listen and write buckets on the lattice's NATS, but holds no trusted key, could try to be believed.

mod links;
mod restart;
mod wash;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream;
use serde_json::{Value, json};
use trellis_claims::{CommandSigner, KeyKind, SigningKey};
use trellis_lattice_tests::{HostFixture, HostId, Lattice, eventually};
use trellis_protocol::control::proof::SIGNATURE_HEADER;
use trellis_protocol::subject::Subjects;

/// A lattice of one host that takes signed commands alone, and somebody else on its NATS.
struct Site {
    lattice: Lattice,
    host: HostFixture,
    stranger: async_nats::Client,
}

impl Site {
    async fn start() -> Self {
        let lattice = Lattice::start().await.signing();
        let host = strict(&lattice, "a").await;
        let stranger = lattice.stranger().await;
        Self {
            lattice,
            host,
            stranger,
        }
    }

    fn subjects(&self) -> Subjects {
        self.lattice.options().subjects()
    }

    /// The command of which the tests try variants: a label, since it shows at once whether it was carried out.
    fn label(&self) -> Command {
        Command {
            subject: self.subjects().control_with("label", "put", self.host.id()),
            body: br#"{"key":"zone","value":"a"}"#.to_vec(),
            signature: Vec::new(),
        }
    }

    fn sign(&self, command: &Command) -> String {
        self.sign_at(command, SystemTime::now())
    }

    fn sign_at(&self, command: &Command, at: SystemTime) -> String {
        sign(&self.lattice.signer(), self.lattice.name(), command, at)
    }

    async fn send(&self, command: &Command) -> Reply {
        send(&self.stranger, command).await
    }

    fn has_label(&self) -> bool {
        self.host.host().labels().contains_key("zone")
    }

    /// Sends what must not be carried out, and gives back the word it is refused with.
    async fn refused(&self, command: &Command) -> String {
        let reply = self.send(command).await;
        assert!(!reply.success, "{command:?}");
        assert!(!self.has_label(), "{command:?}");
        reply.code()
    }
}

async fn strict(lattice: &Lattice, name: &str) -> HostFixture {
    lattice
        .host(name)
        .adjusted(|options| options.require_signed = true)
        .start()
        .await
}

#[derive(Debug, Clone)]
struct Command {
    subject: String,
    body: Vec<u8>,
    signature: Vec<String>,
}

impl Command {
    fn with(&self, signature: impl Into<String>) -> Self {
        Self {
            signature: vec![signature.into()],
            ..self.clone()
        }
    }
}

struct Reply {
    success: bool,
    message: String,
    body: Value,
}

impl Reply {
    /// The word before the sentence.
    fn code(&self) -> String {
        let (code, sentence) = self.message.split_once(": ").unwrap_or_default();
        assert!(sentence.contains(' '), "{}", self.message);
        code.to_owned()
    }
}

fn sign(signer: &CommandSigner, lattice: &str, command: &Command, at: SystemTime) -> String {
    signer
        .sign_command(lattice, &command.subject, &command.body, at)
        .expect("a command can be signed")
}

fn another_account() -> CommandSigner {
    let key = Arc::new(SigningKey::generate(KeyKind::Account));
    CommandSigner::new(key, None).expect("an account can sign")
}

async fn send(client: &async_nats::Client, command: &Command) -> Reply {
    let mut headers = HeaderMap::new();
    for signature in &command.signature {
        headers.append(SIGNATURE_HEADER, signature.as_str());
    }
    let body = command.body.clone().into();
    let request = async_nats::Request::new()
        .payload(body)
        .headers(headers)
        .timeout(Some(Duration::from_secs(10)));
    let reply = client
        .send_request(command.subject.clone(), request)
        .await
        .expect("a host answers");
    let body: Value = serde_json::from_slice(&reply.payload).expect("answers are JSON");
    Reply {
        success: body["success"].as_bool().expect("an envelope"),
        message: body["message"].as_str().expect("an envelope").to_owned(),
        body,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_command_is_carried_out_and_an_unsigned_one_is_refused() {
    let site = Site::start().await;
    let label = site.label();
    assert_eq!(site.refused(&label).await, "unsigned");
    let reply = site.send(&label.with(site.sign(&label))).await;
    assert!(reply.success, "{}", reply.message);
    assert!(site.has_label());
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_to_everybody() {
    let site = Site::start().await;
    let subjects = site.subjects();
    let id = site.host.id();
    for subject in [
        subjects.control("host", "ping"),
        subjects.control_with("host", "get", id),
        subjects.control("link", "get"),
        subjects.control("claims", "get"),
        subjects.control_with("config", "get", "none"),
    ] {
        let question = Command {
            subject,
            body: Vec::new(),
            signature: Vec::new(),
        };
        let reply = site.send(&question).await;
        assert!(reply.success, "{question:?}: {}", reply.message);
    }
    let auction = Command {
        subject: subjects.control("component", "auction"),
        body: br#"{"component_ref":"file:///x","component_id":"x","constraints":{}}"#.to_vec(),
        signature: Vec::new(),
    };
    assert_eq!(site.send(&auction).await.body["response"]["host_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_a_question_needs_a_signature() {
    let site = Site::start().await;
    let subjects = site.subjects();
    let id = site.host.id();
    for (noun, verb, argument) in [
        ("component", "scale", Some(id)),
        ("component", "update", Some(id)),
        ("component", "call", Some(id)),
        ("component", "spy", Some(id)),
        ("component", "logs", Some(id)),
        ("provider", "start", Some(id)),
        ("provider", "stop", Some(id)),
        ("label", "put", Some(id)),
        ("label", "del", Some(id)),
        ("host", "stop", Some(id)),
        ("host", "of-a-later-version", Some(id)),
        ("link", "put", None),
        ("link", "del", None),
        ("config", "put", Some("name")),
        ("config", "del", Some("name")),
        ("registry", "put", None),
    ] {
        let subject = match argument {
            Some(argument) => subjects.control_with(noun, verb, argument),
            None => subjects.control(noun, verb),
        };
        let command = Command {
            subject,
            body: b"{}".to_vec(),
            signature: Vec::new(),
        };
        let reply = site.send(&command).await;
        assert!(!reply.success);
        assert_eq!(reply.code(), "unsigned", "{noun}.{verb}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signature_of_an_account_that_nobody_trusts_is_refused() {
    let site = Site::start().await;
    let label = site.label();
    let now = SystemTime::now();
    let foreign = sign(&another_account(), site.lattice.name(), &label, now);
    assert_eq!(
        site.refused(&label.with(foreign)).await,
        "signature-untrusted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_good_for_its_own_body_subject_and_lattice_alone() {
    let site = Site::start().await;
    let other = strict(&site.lattice, "b").await;
    let label = site.label();
    let signature = site.sign(&label);
    let mut changed = label.with(&signature);
    changed.body = br#"{"key":"zone","value":"b"}"#.to_vec();
    assert_eq!(site.refused(&changed).await, "signature-mismatch");

    let mut moved = label.with(&signature);
    moved.subject = site.subjects().control_with("label", "put", other.id());
    let reply = site.send(&moved).await;
    assert_eq!(reply.code(), "signature-mismatch");
    assert!(!other.host().labels().contains_key("zone"));

    let mut another_verb = label.with(&signature);
    another_verb.subject = site.subjects().control_with("label", "del", site.host.id());
    assert_eq!(site.refused(&another_verb).await, "signature-mismatch");

    let now = SystemTime::now();
    let elsewhere = sign(&site.lattice.signer(), "production", &label, now);
    assert_eq!(
        site.refused(&label.with(elsewhere)).await,
        "signature-mismatch"
    );
    // None of these attempts has used the signature up.
    assert!(site.send(&label.with(signature)).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_carried_out_once() {
    let site = Site::start().await;
    let put = site.label();
    let mut delete = site.label();
    delete.subject = site.subjects().control_with("label", "del", site.host.id());
    delete.body = br#"{"key":"zone"}"#.to_vec();
    let recorded = put.with(site.sign(&put));
    assert!(site.send(&recorded).await.success);
    assert!(site.send(&delete.with(site.sign(&delete))).await.success);
    assert_eq!(site.refused(&recorded).await, "signature-replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_any_host_is_carried_out_once_in_the_whole_lattice() {
    let site = Site::start().await;
    let _others = [
        strict(&site.lattice, "b").await,
        strict(&site.lattice, "c").await,
    ];
    let mut put = site.label();
    put.subject = site.subjects().control_with("config", "put", "limits");
    put.body = br#"{"most":"1"}"#.to_vec();
    let recorded = put.with(site.sign(&put));
    assert!(site.send(&recorded).await.success);
    // The server chooses another host for most of these.
    for _ in 0..20 {
        let reply = site.send(&recorded).await;
        assert!(!reply.success);
        assert_eq!(reply.code(), "signature-replayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_too_old_or_of_the_future_is_refused() {
    let site = Site::start().await;
    let label = site.label();
    let now = SystemTime::now();
    // Commands hold for 60 s, clocks may disagree by 30 s.
    let old = site.sign_at(&label, now - Duration::from_secs(95));
    assert_eq!(site.refused(&label.with(old)).await, "signature-expired");
    let future = site.sign_at(&label, now + Duration::from_secs(60));
    assert_eq!(
        site.refused(&label.with(future)).await,
        "signature-not-yet-valid"
    );
    let slow_clock = site.sign_at(&label, now - Duration::from_secs(20));
    assert!(site.send(&label.with(slow_clock)).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_signature_is_refused_and_harms_nobody() {
    let site = Site::start().await;
    let label = site.label();
    let good = site.sign(&label);
    let (signed, _) = good.rsplit_once('.').expect("a token has three parts");
    let unsigned = format!("{signed}.");
    for garbage in [
        "",
        "x",
        "a.b.c",
        "....",
        &unsigned,
        &good[..good.len() / 2],
        "eyJhbGciOiJub25lIn0.e30.",
        &"x".repeat(8 * 1024),
        &"x".repeat(8 * 1024 + 1),
        &"x".repeat(900 * 1024),
    ] {
        let code = site.refused(&label.with(garbage)).await;
        assert_eq!(code, "signature-malformed", "{} bytes", garbage.len());
    }
    let mut two = label.with(&good);
    two.signature.push(site.sign(&label));
    assert_eq!(site.refused(&two).await, "signature-malformed");
    let (_, last) = good.rsplit_once('.').expect("a token has three parts");
    let exchanged = format!("{signed}.{}", "A".repeat(last.len()));
    assert_eq!(
        site.refused(&label.with(exchanged)).await,
        "signature-invalid"
    );
    assert!(site.send(&label.with(good)).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_do_not_sign_work_as_ever_where_nobody_insists() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let theirs = async_nats_oracle::connect(lattice.url()).await;
    let theirs = theirs.expect("anyone may connect to a test's server");
    let client = wasmcloud_control_interface::ClientBuilder::new(theirs)
        .lattice(lattice.name())
        .build();
    let put = client.put_label(host.id(), "zone", "a").await;
    assert!(put.expect("the host answers").succeeded());
    assert_eq!(host.host().labels()["zone"], "a");
    let stranger = lattice.stranger().await;
    let command = Command {
        subject: lattice
            .options()
            .subjects()
            .control_with("label", "del", host.id()),
        body: br#"{"key":"zone"}"#.to_vec(),
        signature: Vec::new(),
    };
    // A signature that is there has to be good here as well.
    let now = SystemTime::now();
    let foreign = sign(&another_account(), lattice.name(), &command, now);
    let elsewhere = sign(&lattice.signer(), "production", &command, now);
    for (signature, code) in [
        ("x".to_owned(), "signature-malformed"),
        (elsewhere, "signature-mismatch"),
    ] {
        let reply = send(&stranger, &command.with(signature)).await;
        assert!(!reply.success);
        assert_eq!(reply.code(), code);
        assert_eq!(host.host().labels()["zone"], "a");
    }
    // That of somebody whom the host does not know is as good as none.
    assert!(send(&stranger, &command.with(foreign)).await.success);
    assert!(!host.host().labels().contains_key("zone"));
    let good = command.with(sign(&lattice.signer(), lattice.name(), &command, now));
    assert!(send(&stranger, &good).await.success);
    assert_eq!(send(&stranger, &good).await.code(), "signature-replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_runs_on_signed_commands_alone() {
    let lattice = Lattice::start().await.signing();
    let hosts = [strict(&lattice, "a").await, strict(&lattice, "b").await];
    lattice.run(&hosts[0], "hello").await;
    let url = lattice.serve(&hosts[1], "hello").await;
    let answer = eventually("the actor answers", async || {
        let answer = trellis_lattice_tests::http::get(&url).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200);
    let links = lattice.operator().client().listed_links().await;
    let links = links.expect("a host answers");
    assert!(links.iter().all(|listed| listed.signed == Some(true)));
}

/// The bucket of the lattice's links, as whoever may write it has it.
async fn bucket(site: &Site) -> jetstream::kv::Store {
    bucket_of(site.lattice.name(), &site.stranger).await
}

async fn bucket_of(lattice: &str, client: &async_nats::Client) -> jetstream::kv::Store {
    let name = format!("LATTICEDATA_{lattice}");
    jetstream::new(client.clone())
        .get_key_value(name)
        .await
        .expect("the host has made it")
}

/// The links of a source, as they are stored.
async fn stored(bucket: &jetstream::kv::Store, source: &str) -> Value {
    let value = bucket.get(format!("COMPONENT_{source}")).await;
    let value = value.expect("the bucket answers").expect("there are links");
    serde_json::from_slice(&value).expect("values are JSON")
}

async fn overwrite(bucket: &jetstream::kv::Store, source: &str, value: &Value) {
    bucket
        .put(format!("COMPONENT_{source}"), value.to_string().into())
        .await
        .expect("anyone may write a test's bucket");
}

fn entry(link: &trellis_protocol::Link, signature: Option<String>) -> Value {
    let mut entry = json!(link);
    if let Some(signature) = signature {
        entry["trellis"] = json!({ "signature": signature });
    }
    entry
}
