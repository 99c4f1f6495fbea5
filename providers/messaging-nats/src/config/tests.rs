#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

//! What configurations mean, and what those are told who got one wrong.

use super::*;
use trellis_nats_connection::Identity;
use trellis_provider_sdk::harness::values;

fn defaults() -> Defaults {
    let provider = values(&[("cluster_uris", "nats://one:4222"), ("client_seed", "SU")]);
    Defaults::read(&provider).unwrap()
}

fn sender(pairs: &[(&str, &str)]) -> Result<SenderConfig, ConfigError> {
    SenderConfig::read(&values(pairs), &defaults())
}

fn receiver(pairs: &[(&str, &str)]) -> Result<ReceiverConfig, ConfigError> {
    ReceiverConfig::read(&values(pairs), &defaults())
}

fn subject(subject: &str, queue: Option<&str>) -> Source {
    Source::Subject {
        subject: Pattern::new(subject).unwrap(),
        queue: queue.map(str::to_owned),
    }
}

#[test]
fn a_senders_link_without_configuration_leads_to_the_providers_server() {
    let config = sender(&[]).unwrap();
    assert_eq!(config.server.addresses[0].as_url_str(), "nats://one:4222");
    assert_eq!(config.server.identity, Identity::Nkey("SU".to_owned()));
    assert_eq!(config.ack, PublishAck::Server);
    assert!(config.allows("orders.new"));
    assert!(!config.allows("wasmbus.ctl.v1.default.host.stop.N"));
}

#[test]
fn without_any_server_a_link_is_refused_and_not_sent_somewhere() {
    let nowhere = Defaults::read(&values(&[])).unwrap();
    let error = SenderConfig::read(&values(&[]), &nowhere).unwrap_err();
    assert_eq!(error.key, "cluster_uris");
    let with = values(&[("cluster_uris", "nats://two:4222")]);
    assert!(SenderConfig::read(&with, &nowhere).is_ok());
}

#[test]
fn the_providers_credentials_never_go_to_a_links_server() {
    let config = sender(&[("cluster_uris", "nats://two:4222, tls://three")]).unwrap();
    assert_eq!(config.server.addresses.len(), 2);
    assert_eq!(config.server.identity, Identity::Anonymous);
    assert_eq!(
        sender(&[("credentials", "c")]).unwrap_err().key,
        "cluster_uris"
    );
}

#[test]
fn the_subjects_of_a_link_are_all_that_its_actor_may_publish_to() {
    let config = sender(&[("publish_subjects", "orders.*, _INBOX.>, >.x")]);
    assert_eq!(config.unwrap_err().key, "publish_subjects");
    let config = sender(&[("publish_subjects", "orders.*, _INBOX.>")]).unwrap();
    assert!(config.allows("orders.new") && config.allows("_INBOX.a.1"));
    assert!(!config.allows("billing.new") && !config.allows("$JS.API.INFO"));
    let everything = sender(&[("publish_subjects", ">")]).unwrap();
    assert!(everything.allows("billing.new") && !everything.allows("trellis.x"));
}

#[test]
fn a_receivers_link_lists_subjects_with_their_queue_groups() {
    let config = receiver(&[
        (
            "subscriptions",
            "orders.new|workers , audit.>, orders.new|workers",
        ),
        ("max_in_flight", "3"),
        ("timeout_ms", "250"),
    ])
    .unwrap();
    assert_eq!(
        config.sources,
        [
            subject("orders.new", Some("workers")),
            subject("audit.>", None)
        ]
    );
    assert_eq!(config.max_in_flight, 3);
    assert_eq!(config.timeout, Duration::from_millis(250));
    let config = receiver(&[("stream", "S"), ("consumer", "C-1"), ("js_domain", "hub")]).unwrap();
    assert_eq!(config.max_in_flight, IN_FLIGHT_DEFAULT);
    assert_eq!(config.sources[0].to_string(), "stream S, consumer C-1");
}

#[test]
fn mistakes_name_their_key_and_not_their_value() {
    let many = vec!["secret"; SUBJECTS_MAX + 1].join(",");
    for (key, value) in [
        ("subskriptions", "secret"),
        ("subscriptions", "a..secret"),
        ("subscriptions", "a|"),
        ("subscriptions", "a|secret secret"),
        ("subscriptions", &many),
        ("cluster_uris", "secret://:secret@"),
        ("js_domain", "secret.domain"),
        ("max_in_flight", "0"),
        ("max_in_flight", "secret"),
        ("timeout_ms", "600001"),
        ("publish_subjects", "secret"),
    ] {
        // A key that stands twice counts the second time.
        let error = receiver(&[("subscriptions", "a"), (key, value)]).unwrap_err();
        assert_eq!(error.key, key);
        assert!(!error.reason.contains("secret"), "{error}");
    }
    assert_eq!(receiver(&[]).unwrap_err().key, "subscriptions");
    assert_eq!(receiver(&[("stream", "S")]).unwrap_err().key, "consumer");
    assert_eq!(receiver(&[("consumer", "C")]).unwrap_err().key, "stream");
    assert_eq!(
        sender(&[("publish_ack", "secret")]).unwrap_err().key,
        "publish_ack"
    );
    let most = IN_FLIGHT_MAX.to_string();
    assert!(receiver(&[("subscriptions", "a"), ("max_in_flight", &most)]).is_ok());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let seeds = [
        ("cluster_uris", "nats://two:4222"),
        ("client_jwt", "hunter2"),
        ("client_seed", "hunter2"),
    ];
    let login = [("cluster_uris", "nats://user:hunter2@two:4222")];
    for config in [sender(&seeds), sender(&login)] {
        assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
    }
}
