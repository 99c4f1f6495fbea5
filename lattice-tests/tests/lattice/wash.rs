//! The command line against a lattice that is there: what it prints, for people and for programs, and how it exits.

mod leaf;
mod lost;
mod mask;
mod sessions;
mod shell;
mod transcript;
mod up;

use serde_json::json;
use trellis_lattice_tests::{HostId as _, eventually};
use trellis_protocol::Link;

use shell::Shell;

#[tokio::test(flavor = "multi_thread")]
async fn six_lines_of_wash_bring_an_actor_to_answer() {
    let shell = Shell::open().await;
    let reference = shell.lattice.signed("hello");
    let host = shell.host.id();

    let hosts = shell.json(&["get", "hosts"]).await;
    assert_eq!(hosts["hosts"][0]["id"], host);
    assert_eq!(hosts["hosts"][0]["friendly_name"], "alpha");

    let started = shell
        .json(&["start", "component", &reference, "hello"])
        .await;
    assert_eq!(started["host_id"], host);
    assert_eq!(started["component_id"], "hello");
    assert_eq!(started["max_instances"], 100);
    assert_eq!(started["waited"], true);

    let inventory = shell.json(&["get", "inventory"]).await;
    assert_eq!(inventory["inventories"][0]["components"][0]["id"], "hello");

    let http = "wasi:http/incoming-handler.handle";
    let refused = shell.wash(&["call", "hello", http]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("no-link"), "{refused:?}");
    assert!(refused.stderr.contains("wash link put wash"), "{refused:?}");

    let link = [
        "link",
        "put",
        "wash",
        "hello",
        "wasi",
        "http",
        "--interface",
        "incoming-handler",
    ];
    let put = shell.json(&link).await;
    let put: Link = serde_json::from_value(put).expect("it prints the link's keys");
    assert_eq!(
        (put.source_id.as_str(), put.target.as_str()),
        ("wash", "hello")
    );

    let called = eventually("the link is known", async || {
        let called = shell.wash(&["call", "hello", http]).await;
        (called.code == Some(0)).then_some(called)
    })
    .await;
    assert_eq!(called.stdout, "Hello from Trellis!\n");
    let called = shell.json(&["call", "hello", http]).await;
    assert_eq!(called["status"], 200);
    assert_eq!(called["body"], "Hello from Trellis!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_called_with_json_and_answers_with_json() {
    let shell = Shell::open().await;
    shell.lattice.run(&shell.host, "codemaker").await;
    let link = [
        "link",
        "put",
        "wash",
        "codemaker",
        "trellis",
        "shortlink",
        "--interface",
        "codes",
    ];
    shell.json(&link).await;
    let wish = json!({
        "url": "https://example.org/", "length": 9, "attempt": 0, "alphabet": "digits", "avoid": [],
    });
    let make = [
        "call",
        "codemaker",
        "trellis:shortlink/codes.make",
        &wish.to_string(),
    ];
    let made = eventually("the link is known", async || {
        let made = shell
            .wash(&[&make[..], &["--output", "json"]].concat())
            .await;
        (made.code == Some(0)).then_some(made)
    })
    .await
    .json();
    let text = made["result"].to_string();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    assert!(digits >= 9, "{text}");

    let unknown = ["call", "codemaker", "trellis:shortlink/codes.unmake"];
    let refused = shell.wash(&unknown).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("unknown-operation"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why_on_stderr_and_by_its_exit_code() {
    let shell = Shell::open().await;
    let curious = shell.lattice.signed("curious");
    let refused = shell
        .wash(&["start", "component", &curious, "curious"])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.stdout, "", "stdout is data");
    assert!(
        refused.stderr.contains("--cap wasi:keyvalue/store"),
        "{refused:?}"
    );

    let json = [
        "start",
        "component",
        &curious,
        "curious",
        "--output",
        "json",
    ];
    let refused = shell.wash(&json).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.json()["success"], false);
    assert_eq!(refused.json()["code"], "refused");

    for (arguments, code) in [
        (&["nonsense"][..], 2),
        (&["call", "hello", "no-interface"], 2),
        (&["get", "inventory", "nobody"], 1),
        (&["get", "hosts", "--lattice", "elsewhere"], 3),
        (&["get", "links", "--lattice", "elsewhere"], 3),
        (&["get", "hosts", "--nats-url", "nats://127.0.0.1:1"], 3),
        (&["claims", "inspect", "missing.wasm"], 5),
    ] {
        let outcome = shell.wash(arguments).await;
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_can_be_listed_and_taken_back() {
    let shell = Shell::open().await;
    shell
        .json(&[
            "config",
            "put",
            "site",
            "base_url=https://s.example",
            "empty=",
        ])
        .await;
    let got = eventually("the configuration is there", async || {
        let got = shell
            .wash(&["config", "get", "site", "--output", "json"])
            .await;
        (got.code == Some(0)).then(|| got.json())
    })
    .await;
    assert_eq!(
        got["config"],
        json!({"base_url": "https://s.example", "empty": ""})
    );

    let link = [
        "link",
        "put",
        "a",
        "b",
        "test",
        "p",
        "--interface",
        "i",
        "--interface",
        "j",
    ];
    shell
        .json(&[&link[..], &["--source-config", "site"]].concat())
        .await;
    let links = shell.json(&["get", "links"]).await;
    let listed: Vec<Link> = serde_json::from_value(links["links"].clone()).expect("links");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].interfaces, ["i", "j"]);
    let table = shell.wash(&["get", "links"]).await;
    assert!(table.stdout.contains("test:p"), "{}", table.stdout);

    shell.json(&["link", "del", "a", "test", "p"]).await;
    shell.json(&["config", "del", "site"]).await;
    eventually("both are gone", async || {
        let links = shell.json(&["get", "links"]).await;
        let config = shell.wash(&["config", "get", "site"]).await;
        (links["links"] == json!([]) && config.code == Some(1)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_and_hosts_are_started_scaled_and_stopped() {
    let shell = Shell::open().await;
    let reference = shell.lattice.signed("hello");
    let started = shell
        .json(&["start", "provider", "http-server", "web"])
        .await;
    assert_eq!(started["provider_id"], "web");
    shell
        .json(&[
            "start",
            "component",
            &reference,
            "hello",
            "--max-instances",
            "3",
        ])
        .await;
    let scaled = [
        "scale",
        "component",
        &reference,
        "hello",
        "--max-instances",
        "7",
    ];
    assert_eq!(shell.json(&scaled).await["max_instances"], 7);
    assert_eq!(shell.host.host().inventory().components[0].max_instances, 7);
    let again = shell
        .wash(&["start", "provider", "http-server", "web"])
        .await;
    assert_eq!(again.code, Some(1), "an id runs once: {again:?}");
    shell.json(&["stop", "component", "hello"]).await;
    shell.json(&["stop", "provider", "web"]).await;
    let inventory = shell.host.host().inventory();
    assert!(inventory.components.is_empty() && inventory.providers.is_empty());
    let gone = shell.wash(&["stop", "component", "hello"]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
}
