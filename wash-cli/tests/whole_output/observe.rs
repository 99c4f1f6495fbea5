//! `wash top`, `wash spy` and `wash logs`, against a peer whose numbers, calls and lines are always the same.

use serde_json::{Value, json};

use crate::fake_lattice::FakeLattice;
use crate::shell::{Said, Shell};

/// A lattice that runs `hello`, and a shell whose environment leads to it.
struct Bench {
    lattice: FakeLattice,
    shell: Shell,
}

impl Bench {
    fn new() -> Self {
        let lattice = FakeLattice::start();
        let mut shell = Shell::new();
        shell.set("TRELLIS_NATS_URL", lattice.url());
        let bench = Self { lattice, shell };
        for id in ["hello", "closed"] {
            bench
                .wash(&format!("start component oci://example.org/hello:1 {id}"))
                .assert_code(0);
        }
        bench
    }

    fn wash(&self, line: &str) -> Said {
        let words: Vec<_> = line.split(' ').collect();
        self.shell.wash(&words)
    }
}

/// The columns that do not depend on how fast this machine is.
fn steady(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        let words = line
            .split("  ")
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let steady = words.enumerate().filter(|(place, _)| *place != 2);
        steady.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    });
    lines.collect()
}

#[test]
fn one_sample_is_printed_where_there_is_no_screen() {
    let bench = Bench::new();
    for line in ["top --once -i 200ms", "top -i 200ms --sort memory"] {
        let said = bench.wash(line);
        said.assert_code(0);
        assert_eq!(said.stderr, "");
        assert_eq!(
            steady(&said.stdout),
            [
                "HOST UP P50 P99 REFUSED/S RUNNING CPU MEMORY",
                "fern 1m 1s 500µs 990µs 0.0 0/1000 0% 64M",
                "",
                "ID KIND P50 P99 REFUSED/S RUNNING QUEUED MEMORY",
                "hello actor 500µs 990µs 0.0 0/7 0 1.0M",
            ]
        );
    }
    let said = bench.wash("top --once -i 200ms -o json");
    said.assert_code(0);
    let mut seen = said.json();
    for of in ["/total", "/hosts/0/calls", "/callees/0/calls"] {
        let rate = seen.pointer_mut(&format!("{of}/per_second")).unwrap();
        assert!(rate.as_f64().is_some_and(|rate| rate > 0.0), "{rate}");
        *rate = Value::Null;
    }
    assert!(seen["callees"][0]["invocations"].take().is_u64());
    let calls = json!({"per_second": null, "refused_per_second": 0.0, "p50_micros": 500, "p99_micros": 990});
    assert_eq!(
        seen,
        json!({
            "success": true,
            "lattice": "default",
            "total": calls,
            "hosts": [{
                "host_id": bench.lattice.host_id,
                "friendly_name": "fern",
                "version": "",
                "uptime_seconds": 61,
                "calls": calls,
                "running": 0,
                "slots": 1_000,
                "cpu_percent": 0.0,
                "memory_bytes": 64 << 20,
                "guest_memory_bytes": 0,
                "nats_reconnects": 0,
                "silent": null,
            }],
            "callees": [{
                "id": "hello",
                "kind": "actor",
                "hosts": 1,
                "calls": calls,
                "running": 0,
                "queued": 0,
                "permits": 7,
                "memory_bytes": 1 << 20,
                "restarts": 0,
                "invocations": null,
                "refusals": {"overloaded": 3},
            }],
        })
    );
}

#[test]
fn calls_are_lines_with_what_was_said_below_them() {
    let bench = Bench::new();
    let host = &bench.lattice.host_id;
    let said = bench.wash("spy hello -n 2");
    said.assert_code(0);
    assert_eq!(
        said.stdout,
        "\
14:00:00.123 in  http → hello  demo:a/b#c  ok  412µs
    request: [\"x\",1]
14:00:00.123 in  http → hello  demo:a/b#c  overloaded  412µs
    request: [\"x\",1]
"
    );
    assert_eq!(
        said.stderr,
        format!("note: spying on hello on host {host} (fern); Ctrl-C ends\n")
    );
    let said = bench.wash("spy hello -n 1 -o json");
    said.assert_code(0);
    assert_eq!(
        said.json(),
        json!({
            "time": "2026-11-22T14:00:00.123Z", "invocation_id": "0".repeat(32), "direction": "in",
            "source": "http", "target": "hello", "operation": "demo:a/b#c", "link": "default",
            "host": host, "depth": 0, "outcome": "ok", "micros": 412, "request": {"value": ["x", 1]},
        })
    );
}

#[test]
fn who_may_not_spy_is_told_so_and_who_is_nowhere_cannot_be_spied_on() {
    let bench = Bench::new();
    let host = &bench.lattice.host_id;
    let said = bench.wash("spy closed");
    said.assert_code(1);
    assert_eq!(said.stdout, "");
    assert_eq!(
        said.stderr,
        format!(
            "error: cannot spy on closed on host {host} (fern): no-link: no link lets `wash` spy on `closed`\n"
        )
    );
    let said = bench.wash("logs nobody -o json");
    said.assert_code(1);
    assert_eq!(
        said.json(),
        json!({
            "success": false,
            "code": "refused",
            "error": "nobody runs on no host of the lattice default; see `wash get inventory`",
        })
    );
}

#[test]
fn lines_are_in_the_order_of_time() {
    let bench = Bench::new();
    let said = bench.wash("logs hello");
    said.assert_code(0);
    assert_eq!(
        said.stdout,
        "\
14:00:01.000 INFO  stdout line 1
14:00:02.000 INFO  stdout line 2
"
    );
    assert_eq!(said.stderr, "");
    let said = bench.wash("logs hello --tail 1 -o json");
    said.assert_code(0);
    let line = json!({
        "time": "2026-11-22T14:00:02.000Z", "sequence": 2, "level": "info", "actor": "hello",
        "host": bench.lattice.host_id, "stream": "stdout", "message": "line 2",
    });
    assert_eq!(said.json(), json!({"success": true, "lines": [line]}));

    let said = bench.wash("logs hello --follow --for 500ms");
    said.assert_code(0);
    assert_eq!(
        said.stdout.lines().count(),
        2,
        "no line is shown twice: {}",
        said.stdout
    );
}
