//! Commands to a lattice, against a peer that answers as it is told.

use serde_json::json;

use crate::fake_lattice::{FakeLattice, STUCK, UNSIGNED};
use crate::shell::{Said, Shell};

/// A lattice, and a shell whose environment leads to it.
struct Bench {
    lattice: FakeLattice,
    shell: Shell,
}

impl Bench {
    fn new() -> Self {
        let lattice = FakeLattice::start();
        let mut shell = Shell::new();
        shell.set("TRELLIS_NATS_URL", lattice.url());
        Self { lattice, shell }
    }

    fn wash(&self, line: &str) -> Said {
        let words: Vec<_> = line.split(' ').collect();
        self.shell.wash(&words)
    }

    #[track_caller]
    fn json(&self, line: &str) -> serde_json::Value {
        let said = self.wash(&format!("{line} -o json"));
        said.assert_code(0);
        said.json()
    }
}

#[test]
fn an_actor_is_started_on_the_only_host_and_stopped_again() {
    let bench = Bench::new();
    let host = &bench.lattice.host_id;

    let said = bench.wash("start component oci://example.org/hello:1 hello --config a");
    said.assert_code(0);
    assert_eq!(
        said.stdout,
        format!(
            "hello runs on host {host} (fern), at most 100 at once, from oci://example.org/hello:1\n"
        )
    );
    assert_eq!(said.stderr, "");

    assert_eq!(
        bench.json(&format!(
            "scale component {host} oci://example.org/hello:1 hello --max-instances 7"
        )),
        json!({
            "success": true,
            "host_id": host,
            "component_id": "hello",
            "component_ref": "oci://example.org/hello:1",
            "max_instances": 7,
            "waited": true,
        })
    );
    let inventory = bench.json("get inventory fern");
    assert_eq!(
        inventory["inventories"][0]["components"][0]["max_instances"],
        7
    );

    assert_eq!(
        bench.json("stop component hello"),
        json!({"success": true, "component_id": "hello", "host_ids": [host], "waited": true})
    );
    let gone = bench.wash("stop component hello");
    gone.assert_code(1);
    assert!(
        gone.stderr.contains("hello runs on no host"),
        "{}",
        gone.stderr
    );
}

#[test]
fn a_refused_actor_is_1_with_the_hosts_words() {
    let bench = Bench::new();
    let said = bench.wash(&format!("start component {UNSIGNED} a"));
    said.assert_code(1);
    assert_eq!(said.stdout, "");
    assert!(
        said.stderr.contains("starting a on host")
            && said
                .stderr
                .contains("refused the component: it is unsigned"),
        "{}",
        said.stderr
    );
    let json = bench
        .wash(&format!("start component {UNSIGNED} a -o json"))
        .json();
    assert_eq!(
        (&json["success"], &json["code"]),
        (&json!(false), &json!("refused"))
    );
}

#[test]
fn an_outcome_that_does_not_come_is_4_and_the_hosts_remark_is_told() {
    let bench = Bench::new();
    let said = bench.wash(&format!("start component {STUCK} a -t 3000"));
    said.assert_code(4);
    assert!(
        said.stderr.contains("fetching takes a while") && said.stderr.contains("within 3000 ms"),
        "{}",
        said.stderr
    );
    bench
        .wash(&format!("start component {STUCK} a --skip-wait"))
        .assert_code(0);
}

#[test]
fn a_host_with_the_wrong_label_or_name_is_not_taken() {
    let bench = Bench::new();
    let said = bench.wash("start component oci://x/a:1 a --constraint zone=b");
    said.assert_code(1);
    assert!(
        said.stderr.contains("no host has the labels zone=b"),
        "{}",
        said.stderr
    );
    let said = bench.wash("start component oci://x/a:1 a --host-id moss");
    said.assert_code(1);
    assert!(
        said.stderr.contains("no host is called moss"),
        "{}",
        said.stderr
    );
    bench
        .wash("start component oci://x/a:1 a --constraint zone=a")
        .assert_code(0);
}

#[test]
fn a_provider_is_started_once_and_stopped() {
    let bench = Bench::new();
    let host = &bench.lattice.host_id;
    assert_eq!(
        bench.json("start provider http-server http"),
        json!({
            "success": true,
            "host_id": host,
            "provider_id": "http",
            "provider_ref": "http-server",
            "waited": true,
        })
    );
    let again = bench.wash("start provider http-server http");
    again.assert_code(1);
    assert!(
        again.stderr.contains("http runs already"),
        "{}",
        again.stderr
    );
    assert_eq!(
        bench.json("stop provider http"),
        json!({"success": true, "provider_id": "http", "host_ids": [host], "waited": true})
    );
}

#[test]
fn a_link_is_put_without_a_note_where_either_end_runs() {
    let bench = Bench::new();
    bench.wash("start provider keyvalue-nats kv").assert_code(0);
    for line in [
        "link put shortlink kv wasi keyvalue --interface store",
        "link put kv shortlink wasi keyvalue --interface watcher",
    ] {
        let said = bench.wash(line);
        said.assert_code(0);
        assert_eq!(said.stderr, "");
    }
}

#[test]
fn links_are_put_listed_refused_and_deleted() {
    let bench = Bench::new();
    let said = bench.wash(
        "link put shortlink kv wasi keyvalue --interface store --interface atomics --target-config bucket",
    );
    said.assert_code(0);
    assert_eq!(
        said.stdout,
        "shortlink may call kv for wasi:keyvalue/store, wasi:keyvalue/atomics by the link default\n"
    );
    assert_eq!(
        said.stderr,
        "note: neither shortlink nor kv runs anywhere at the moment; the link waits for them\n"
    );
    let link = json!({
        "source_id": "shortlink",
        "target": "kv",
        "name": "default",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
        "interfaces": ["store", "atomics"],
        "source_config": [],
        "target_config": ["bucket"],
    });
    assert_eq!(
        bench.json("link query"),
        // The host is none of ours, and says nothing of ends.
        json!({"success": true, "links": [link], "ends": []})
    );
    assert_eq!(bench.json("get links"), bench.json("link get"));

    let refused = bench.wash("link put a forbidden wasi keyvalue --interface store");
    refused.assert_code(1);
    assert!(
        refused.stderr.contains("do not grant wasi:keyvalue"),
        "{}",
        refused.stderr
    );

    bench
        .wash("link del shortlink wasi keyvalue")
        .assert_code(0);
    assert_eq!(bench.json("link query")["links"], json!([]));
}

#[test]
fn configurations_are_put_shown_and_deleted() {
    let bench = Bench::new();
    assert_eq!(
        bench.json("config put http address=127.0.0.1:8080 path=/a=b"),
        json!({"success": true, "name": "http", "keys": ["address", "path"]})
    );
    let shown = bench.wash("config get http");
    shown.assert_code(0);
    assert_eq!(
        shown.stdout,
        "KEY      VALUE\naddress  127.0.0.1:8080\npath     /a=b\n"
    );
    assert_eq!(
        bench.json("config get http")["config"],
        json!({"address": "127.0.0.1:8080", "path": "/a=b"})
    );
    bench.wash("config del http").assert_code(0);
    let missing = bench.wash("config get http");
    missing.assert_code(1);
    assert!(
        missing.stderr.contains("there is no configuration http"),
        "{}",
        missing.stderr
    );
}

#[test]
fn hosts_and_claims_are_listed() {
    let bench = Bench::new();
    let host = &bench.lattice.host_id;
    let said = bench.wash("get hosts");
    said.assert_code(0);
    assert_eq!(
        said.stdout,
        format!(
            "HOST{}  NAME  VERSION  UPTIME  LABELS\n{host}  fern  0.1.0    1m 1s   zone=a\n",
            " ".repeat(host.len() - 4)
        )
    );
    assert_eq!(bench.json("get hosts")["hosts"][0]["id"], json!(host));
    assert_eq!(bench.json("get claims")["claims"][0]["name"], "hello");
    let elsewhere = bench.wash("get hosts -x elsewhere -t 500");
    elsewhere.assert_code(3);
}

#[test]
fn an_actor_is_called_by_http_and_by_function() {
    let bench = Bench::new();
    bench
        .wash("start component oci://example.org/hello:1 hello")
        .assert_code(0);
    let said = bench.wash(
        "call hello wasi:http/incoming-handler.handle --http-method POST --http-path /links?a=b",
    );
    said.assert_code(0);
    assert_eq!(said.stdout, "you asked for /links?a=b");
    assert_eq!(said.stderr, "HTTP 201\nx-method: POST\n");

    let said = bench.wash("call hello demo:codes/maker.make 6 -o json");
    said.assert_code(0);
    assert_eq!(said.json(), json!({"success": true, "result": [6]}));
    assert_eq!(said.stderr, "");
}

#[test]
fn a_host_is_stopped_by_its_name() {
    let bench = Bench::new();
    assert_eq!(
        bench.json("stop host fern"),
        json!({"success": true, "host_id": bench.lattice.host_id, "waited": true})
    );
}
