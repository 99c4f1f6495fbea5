//! Every operation of the client that other tools are built on, against a host of ours.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;
use trellis_lattice_tests::{HostId as _, Lattice, eventually};
use wasmcloud_control_interface::{
    Client, ClientBuilder, CtlResponse, Link, RegistryCredential, ScaleComponentCommand,
};

use super::Wire;

/// How long auctions are waited for.
const AUCTION: Duration = Duration::from_millis(700);

/// A client of a lattice, as other tools make it.
pub(super) async fn client(lattice: &Lattice) -> Client {
    let nats = async_nats_oracle::connect(lattice.url())
        .await
        .expect("anyone may connect to a test's server");
    ClientBuilder::new(nats)
        .lattice(lattice.name())
        .timeout(Duration::from_secs(30))
        .auction_timeout(AUCTION)
        .build()
}

type Asked<T> = Result<CtlResponse<T>, Box<dyn std::error::Error + Send + Sync>>;

/// An acknowledgement without an answer.
#[track_caller]
fn accepted(asked: Asked<()>) -> String {
    let answer = asked.expect("a host answers");
    assert!(answer.succeeded(), "{}", answer.message());
    assert!(answer.data().is_none());
    answer.message().to_owned()
}

#[track_caller]
fn refused(asked: Asked<()>) -> String {
    let answer = asked.expect("a host answers");
    assert!(!answer.succeeded());
    answer.message().to_owned()
}

#[track_caller]
fn answered<T>(asked: Asked<T>) -> T {
    let answer = asked.expect("a host answers");
    assert!(answer.succeeded(), "{}", answer.message());
    answer.into_data().expect("there is an answer")
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn link(source: &str, target: &str, interface: &str) -> Link {
    Link::builder()
        .source_id(source)
        .target(target)
        .name("default")
        .wit_namespace("test")
        .wit_package("p")
        .interfaces(vec![interface.to_owned()])
        .build()
        .expect("a link of a test is one")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_finds_every_host_and_what_it_runs() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let b = lattice.host("b").start().await;
    let client = client(&lattice).await;
    let hosts = client.get_hosts().await.expect("hosts answer");
    let mut ids: Vec<_> = hosts
        .iter()
        .map(|host| host.data().expect("a host describes itself").id())
        .collect();
    ids.sort_unstable();
    let mut expected = [a.id(), b.id()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    for host in &hosts {
        let host = host.data().expect("a host describes itself");
        assert_eq!(host.lattice(), lattice.name());
        assert!(["a", "b"].contains(&host.friendly_name()));
        assert_eq!(host.labels()["hostcore.os"], std::env::consts::OS);
        let version = host.version().expect("a host says its version");
        assert_eq!(version.split('.').count(), 3, "{version}");
        assert_eq!(host.ctl_host(), Some(lattice.url()));
        assert!(host.uptime_human().is_some());
    }

    lattice.run(&a, "hello").await;
    lattice.store(&a).await;
    let inventory = answered(client.get_host_inventory(a.id()).await);
    assert_eq!(inventory.host_id(), a.id());
    assert_eq!(inventory.friendly_name(), "a");
    let [hello] = inventory.components().as_slice() else {
        panic!("{:?}", inventory.components());
    };
    assert_eq!(
        (hello.id(), hello.name(), hello.revision()),
        ("hello", Some("hello"), 1)
    );
    assert_eq!(hello.max_instances(), 100);
    let [kv] = inventory.providers().as_slice() else {
        panic!("{:?}", inventory.providers());
    };
    assert_eq!((kv.id(), kv.image_ref()), ("kv", Some("keyvalue-nats")));

    let claims = answered(client.get_claims().await);
    let of_hello = claims
        .iter()
        .find(|claims| claims["name"] == "hello")
        .expect("what runs has public claims");
    let mut keys: Vec<_> = of_hello.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "call_alias",
        "iss",
        "issuer",
        "name",
        "rev",
        "revision",
        "sub",
        "subject",
        "tags",
        "version",
    ];
    assert_eq!(keys, expected);
    assert_eq!(of_hello["iss"], lattice.account().public().as_str());
    assert_eq!(of_hello["tags"], "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_auctions_components_and_providers_by_constraints() {
    let lattice = Lattice::start().await;
    let labelled = |options: &mut trellis_host_core::HostOptions| {
        options.labels.insert("zone".to_owned(), "east".to_owned());
    };
    let east = lattice.host("east").adjusted(labelled).start().await;
    let west = lattice.host("west").start().await;
    let client = client(&lattice).await;
    let reference = lattice.signed("hello");
    let all = client
        .perform_component_auction(&reference, "hello", map(&[]))
        .await
        .expect("an auction can be held");
    assert_eq!(all.len(), 2);

    let constraints = map(&[("zone", "east"), ("hostcore.os", std::env::consts::OS)]);
    let bids = client
        .perform_component_auction(&reference, "hello", constraints.clone())
        .await
        .expect("an auction can be held");
    let [bid] = bids.as_slice() else {
        panic!("{bids:?}");
    };
    let bid = bid.data().expect("a bid says what for");
    // That client's own `component_id()` gives the reference back.
    let id = &serde_json::to_value(bid).expect("a bid is JSON")["component_id"];
    assert_eq!(
        (bid.host_id(), id.as_str(), bid.component_ref()),
        (east.id(), Some("hello"), reference.as_str())
    );
    assert_eq!(*bid.constraints(), constraints);

    // For an id that runs already too, which existing tools rely on.
    lattice
        .try_run(&east, &reference, "hello")
        .await
        .expect("it starts");
    let again = client
        .perform_component_auction(&reference, "hello", constraints.clone())
        .await
        .expect("an auction can be held");
    assert_eq!(again.len(), 1);

    let bids = client
        .perform_provider_auction("keyvalue-nats", "kv", constraints.clone())
        .await
        .expect("an auction can be held");
    let [bid] = bids.as_slice() else {
        panic!("{bids:?}");
    };
    let bid = bid.data().expect("a bid says what for");
    assert_eq!(
        (bid.host_id(), bid.provider_id(), bid.provider_ref()),
        (east.id(), "kv", "keyvalue-nats")
    );
    // A host that runs it already is silent.
    lattice.store(&east).await;
    let bids = client
        .perform_provider_auction("keyvalue-nats", "kv", map(&[]))
        .await
        .expect("an auction can be held");
    let hosts: Vec<_> = bids
        .iter()
        .filter_map(|bid| bid.data().map(|bid| bid.host_id()))
        .collect();
    assert_eq!(hosts, [west.id()]);
    let nobody = client
        .perform_component_auction(&reference, "hello", map(&[("zone", "north")]))
        .await
        .expect("an auction can be held");
    assert!(nobody.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_starts_scales_updates_and_stops_a_component() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let annotations = map(&[("wasmcloud.dev/scaler", "x1"), ("by", "a test")]);
    let (first, second) = (lattice.signed("hello"), lattice.signed("hello"));
    let scale = async |reference: &str, count, allow_update| {
        client
            .scale_component(
                host.id(),
                reference,
                "hello",
                count,
                Some(annotations.clone()),
                Vec::new(),
                allow_update,
            )
            .await
    };
    for count in [3, 7] {
        accepted(scale(&first, count, false).await);
        let scaled = events
            .next("component_scaled", Some(host.id()), |data| {
                data["max_instances"] == count
            })
            .await;
        assert_eq!(scaled["data"]["image_ref"], first.as_str());
        assert_eq!(
            scaled["data"]["annotations"],
            serde_json::to_value(&annotations).expect("a map is JSON")
        );
        let inventory = answered(client.get_host_inventory(host.id()).await);
        let component = &inventory.components()[0];
        assert_eq!(component.max_instances(), count);
        assert_eq!(component.annotations(), Some(&annotations));
    }
    // Another reference without leave to update: accepted with a warning, and it stays as it is.
    let warning = accepted(scale(&second, 7, false).await);
    assert!(warning.contains("allow an update"), "{warning}");
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert_eq!(inventory.components()[0].image_ref(), first);

    let missing = client
        .update_component(host.id(), "nobody", &second, None)
        .await;
    assert!(refused(missing).contains("does not run"));
    accepted(scale(&first, 0, false).await);
    events
        .next("component_scaled", Some(host.id()), |data| {
            data["max_instances"] == 0
        })
        .await;
    eventually("nothing runs", async || {
        let inventory = answered(client.get_host_inventory(host.id()).await);
        inventory.components().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_updates_a_component() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let subject = trellis_claims::SigningKey::generate(trellis_claims::KeyKind::Module);
    let version = || {
        let seed = subject.seed();
        let subject = trellis_claims::SigningKey::from_seed(&seed).expect("a seed is one");
        let signature = trellis_lattice_tests::actor::Signature::of("hello", lattice.account());
        lattice.file(&signature.for_subject(subject).component())
    };
    let (first, second) = (version(), version());
    lattice
        .try_run(&host, &first, "hello")
        .await
        .expect("it starts");
    let same = client
        .update_component(host.id(), "hello", &first, None)
        .await;
    assert!(!accepted(same).is_empty());
    let annotations = map(&[("by", "an update")]);
    accepted(
        client
            .update_component(host.id(), "hello", &second, Some(annotations.clone()))
            .await,
    );
    events
        .next("component_scaled", Some(host.id()), |data| {
            data["image_ref"] == second.as_str()
        })
        .await;
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert_eq!(inventory.components()[0].image_ref(), second);
    assert_eq!(inventory.components()[0].annotations(), Some(&annotations));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_starts_and_stops_a_provider() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let annotations = map(&[("by", "a test")]);
    let start = async || {
        client
            .start_provider(
                host.id(),
                "keyvalue-nats",
                "kv",
                Some(annotations.clone()),
                Vec::new(),
            )
            .await
    };
    accepted(start().await);
    let started = events
        .next("provider_started", Some(host.id()), |data| {
            data["provider_id"] == "kv"
        })
        .await;
    assert_eq!(started["data"]["image_ref"], "keyvalue-nats");
    assert_eq!(started["data"]["annotations"]["by"], "a test");
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert_eq!(inventory.providers()[0].annotations(), Some(&annotations));
    assert!(refused(start().await).contains("runs on this host already"));

    accepted(client.stop_provider(host.id(), "kv").await);
    // Answered after the shutdown, so it is gone already.
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert!(inventory.providers().is_empty());
    assert!(refused(client.stop_provider(host.id(), "kv").await).contains("no provider"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_puts_lists_and_deletes_links() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    accepted(client.put_link(link("s", "t", "i")).await);
    accepted(client.put_link(link("s", "t", "i")).await);
    let links = answered(client.get_links().await);
    assert_eq!(links, [link("s", "t", "i")]);
    assert!(refused(client.put_link(link("s", "u", "i")).await).contains("`t`"));
    accepted(client.put_link(link("s", "u", "j")).await);
    assert_eq!(answered(client.get_links().await).len(), 2);
    for _ in 0..2 {
        accepted(client.delete_link("s", "default", "test", "p").await);
    }
    assert!(answered(client.get_links().await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_puts_gets_and_deletes_configurations() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let config: HashMap<_, _> = map(&[("k", "v"), ("empty", "")]).into_iter().collect();
    accepted(client.put_config("app.settings", config.clone()).await);
    assert_eq!(answered(client.get_config("app.settings").await), config);
    accepted(client.delete_config("app.settings").await);
    accepted(client.delete_config("app.settings").await);
    let missing = client
        .get_config("app.settings")
        .await
        .expect("a host answers");
    assert!(missing.succeeded() && missing.data().is_none());
    assert_eq!(missing.message(), "Configuration not found");
    // References to secrets go the same way.
    let reference: HashMap<_, _> = map(&[
        ("type", "secret.wasmcloud.dev/v1alpha1"),
        ("name", "db"),
        ("backend", "vault"),
    ])
    .into_iter()
    .collect();
    accepted(client.put_config("SECRET_db", reference.clone()).await);
    assert_eq!(answered(client.get_config("SECRET_db").await), reference);
    accepted(client.delete_config("SECRET_db").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_puts_and_deletes_labels() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    accepted(client.put_label(host.id(), "zone", "a").await);
    accepted(client.put_label(host.id(), "zone", "b").await);
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert_eq!(inventory.labels()["zone"], "b");
    assert!(refused(client.put_label(host.id(), "HostCore.os", "x").await).contains("hostcore."));
    for _ in 0..2 {
        accepted(client.delete_label(host.id(), "zone").await);
    }
    let inventory = answered(client.get_host_inventory(host.id()).await);
    assert!(!inventory.labels().contains_key("zone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_stops_a_host_with_a_timeout() {
    let lattice = Lattice::start().await;
    let mut host = lattice.host("a").spawn().await;
    let id = host.id().to_owned();
    let client = client(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    accepted(client.stop_host(&id, Some(1_500)).await);
    events.next("host_stopped", Some(&id), |_| true).await;
    assert_eq!(host.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_hands_out_registry_credentials() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let credential = RegistryCredential::from_username_password("user", "pass", "oci");
    let put = client
        .put_registries(HashMap::from([("registry.example".to_owned(), credential)]))
        .await;
    accepted(put);
    // The host serves on.
    assert_eq!(client.get_hosts().await.expect("hosts answer").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_established_client_receives_events() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let client = client(&lattice).await;
    let kinds = ["config_set", "config_deleted", "labels_changed"];
    let mut events = client
        .events_receiver(kinds.map(str::to_owned).to_vec())
        .await
        .expect("events can be subscribed to");
    // The subscriptions are with the server before what they are to hear of.
    client
        .nats_client()
        .flush()
        .await
        .expect("the server is there");
    accepted(client.put_config("c", HashMap::new()).await);
    accepted(client.put_label(host.id(), "k", "v").await);
    accepted(client.delete_config("c").await);
    let mut received = Vec::new();
    while received.len() < 3 {
        let event = events.recv().await.expect("the client goes on");
        let event = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(event["source"], host.id());
        assert_eq!(event["specversion"], "1.0");
        received.push(event["type"].clone());
    }
    received.sort_by_key(Value::to_string);
    let mut expected = kinds.map(|kind| Value::from(format!("com.wasmcloud.lattice.{kind}")));
    expected.sort_by_key(Value::to_string);
    assert_eq!(received, expected);
}

#[test]
fn commands_that_the_established_types_write_are_read_here() {
    let command = ScaleComponentCommand::builder()
        .component_ref("r")
        .component_id("c")
        .max_instances(4)
        .host_id("N")
        .component_limits(Some(HashMap::from([(
            "max_memory_limit".to_owned(),
            "1000".to_owned(),
        )])))
        .build()
        .expect("a command of a test is one");
    let body = serde_json::to_vec(&command).expect("a command is JSON");
    let read: trellis_protocol::control::ScaleComponent =
        trellis_protocol::control::parse(&body).expect("it is read");
    assert_eq!((read.count, read.host_id.as_str()), (4, "N"));
    assert_eq!(
        read.component_limits.expect("limits are read")["max_memory_limit"],
        "1000"
    );
}
