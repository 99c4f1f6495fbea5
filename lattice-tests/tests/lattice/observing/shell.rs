//! `wash top`, `wash spy` and `wash logs` against a lattice of two hosts.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use trellis_lattice_tests::binary::program;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::wait::in_time;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually, http};

use super::let_watch;

/// Longest wait for a line of a live view.
const LINE_WITHIN: Duration = Duration::from_secs(30);

/// The probe on two hosts, and an operator who may call it on either.
struct Two {
    lattice: Lattice,
    hosts: [HostFixture; 2],
    /// Where the first one's is reached by HTTP.
    url: String,
    home: PathBuf,
}

impl Two {
    async fn start() -> Self {
        let lattice = Lattice::start().await;
        let hosts = [
            lattice.host("alpha").start().await,
            lattice.host("beta").start().await,
        ];
        let reference = lattice.signed("probe");
        for host in &hosts {
            let started = lattice.try_run(host, &reference, "probe").await;
            started.expect("it is signed");
        }
        let call = link("wash", "probe", "wasi:http/incoming-handler");
        lattice.operator().link(&call).await;
        let url = lattice.serve(&hosts[0], "probe").await;
        let home = lattice.files().join("home");
        std::fs::create_dir(&home).expect("a directory can be made in a new one");
        let two = Self {
            lattice,
            hosts,
            url,
            home,
        };
        eventually("the probe is served", async || {
            (http::get(&format!("{}/count", two.url)).await.status == 200).then_some(())
        })
        .await;
        for host in &two.hosts {
            eventually("the probe can be called", async || {
                let called = two
                    .lattice
                    .operator()
                    .call_http(host.id(), "probe", "/count");
                called.await.is_ok().then_some(())
            })
            .await;
        }
        two
    }

    /// Has the probe of a host answer.
    async fn call(&self, host: &HostFixture, path: &str) {
        let called = self.lattice.operator().call_http(host.id(), "probe", path);
        let (status, text) = called.await.expect("the link is there");
        assert_eq!(status, 200, "{text}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("wash"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("TRELLIS_NATS_URL", self.lattice.url())
            .env("TRELLIS_LATTICE", self.lattice.name())
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    async fn wash(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("running a command does not panic")
            .expect("the program can be run");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs a live view, and waits until it says so of both hosts where `hosts` asks for it.
    async fn view(&self, arguments: &[&str]) -> View {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be run");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        View {
            lines: BufReader::new(stdout).lines(),
            notes: BufReader::new(stderr).lines(),
            child,
        }
    }
}

/// A live view that runs.
struct View {
    lines: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<tokio::process::ChildStderr>>,
    child: Child,
}

impl View {
    async fn json(&mut self) -> Value {
        let next = in_time(LINE_WITHIN, "a line", self.lines.next_line()).await;
        let line = next.expect("it is text").expect("there is a line more");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn note(&mut self) -> String {
        let next = in_time(LINE_WITHIN, "a note", self.notes.next_line()).await;
        next.expect("it is text").expect("there is a note more")
    }

    async fn interrupted(&mut self) -> Option<i32> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid
            .and_then(rustix::process::Pid::from_raw)
            .expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        let ended = in_time(LINE_WITHIN, "it ends", self.child.wait()).await;
        ended.expect("it is our child").code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_counts_the_calls_of_all_hosts() {
    let two = Two::start().await;
    let calling = async {
        loop {
            for host in &two.hosts {
                two.call(host, "/count").await;
            }
        }
    };
    let (code, stdout, stderr) = tokio::select! {
        () = calling => unreachable!("it calls for ever"),
        outcome = two.wash(&["top", "--once", "--interval", "1s", "--output", "json"]) => outcome,
    };
    assert_eq!(code, Some(0), "{stderr}");
    let seen: Value = serde_json::from_str(&stdout).expect("one object");
    assert_eq!(seen["success"], true);
    let hosts = seen["hosts"].as_array().expect("a list");
    assert_eq!(hosts.len(), 2, "{seen}");
    assert!(
        hosts
            .iter()
            .all(|host| host["memory_bytes"].as_u64() > Some(0)),
        "{seen}"
    );
    let callees = seen["callees"].as_array().expect("a list");
    let probe = callees
        .iter()
        .find(|callee| callee["id"] == "probe")
        .expect("the probe runs");
    assert_eq!(probe["hosts"], 2, "{seen}");
    assert!(probe["calls"]["per_second"].as_f64() > Some(1.0), "{seen}");
    assert!(probe["calls"]["p99_micros"].as_u64() > Some(0), "{seen}");

    let (code, stdout, stderr) = two.wash(&["top", "--interval", "200ms"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("HOST"),
        "without a terminal it prints one sample: {stdout}"
    );
    assert!(
        stdout.contains("\nalpha ") && stdout.contains("actor ×2"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spy_sees_the_calls_of_all_hosts_once_it_is_allowed_to() {
    let two = Two::start().await;
    let (code, stdout, stderr) = two.wash(&["spy", "probe", "--for", "5s"]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("wash link put wash probe trellis observe"),
        "{stderr}"
    );

    let_watch(&two.lattice, "probe").await;
    let mut view = eventually("the spy is let in", async || {
        let mut view = two.view(&["spy", "probe", "--output", "json"]).await;
        let note = view.note().await;
        note.contains("spying on probe").then_some(view)
    })
    .await;
    assert!(
        view.note().await.contains("spying on probe"),
        "on the second host"
    );
    for host in &two.hosts {
        two.call(host, "/count?n=1").await;
        let seen = view.json().await;
        assert_eq!(seen["host"], host.id(), "{seen}");
        assert_eq!(
            (&seen["source"], &seen["target"]),
            (&"wash".into(), &"probe".into())
        );
        assert_eq!(
            (&seen["direction"], &seen["outcome"]),
            (&"in".into(), &"ok".into())
        );
        assert_eq!(seen["request"]["http"]["path"], "/count?n=1", "{seen}");
    }
    let secret = [("authorization", "Bearer hunter2")];
    let answer = http::get_with(&format!("{}/count", two.url), &secret).await;
    assert_eq!(answer.status, 200);
    let seen = view.json().await;
    assert_eq!(seen["source"], "web-probe", "{seen}");
    assert!(!seen.to_string().contains("hunter2"), "{seen}");
    assert!(seen.to_string().contains("authorization"), "{seen}");
    assert_eq!(view.interrupted().await, Some(0));

    let mut view = two.view(&["spy", "probe", "-n", "1"]).await;
    view.note().await;
    view.note().await;
    http::get(&format!("{}/count", two.url)).await;
    let line = in_time(LINE_WITHIN, "a line", view.lines.next_line()).await;
    let line = line.ok().flatten().unwrap_or_default();
    assert!(
        line.contains(" in  web-probe → probe  ") && line.contains("GET /count"),
        "{line}"
    );
    let ended = in_time(LINE_WITHIN, "it ends", view.child.wait()).await;
    assert_eq!(ended.ok().and_then(|status| status.code()), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_an_actor_is_one_whatever_host_it_runs_on() {
    let two = Two::start().await;
    let (code, _, stderr) = two.wash(&["logs", "probe"]).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("wash link put wash probe trellis observe"),
        "{stderr}"
    );
    let_watch(&two.lattice, "probe").await;

    for host in &two.hosts {
        two.call(host, "/log?n=10").await;
    }
    let lines = eventually("both hosts' lines are read", async || {
        let (code, stdout, _) = two.wash(&["logs", "probe", "--output", "json"]).await;
        let read: Value = serde_json::from_str(&stdout).ok()?;
        let lines = read["lines"].as_array()?.clone();
        (code == Some(0) && lines.len() >= 2).then_some(lines)
    })
    .await;
    let hosts: Vec<_> = lines.iter().map(|line| line["host"].clone()).collect();
    assert!(
        hosts.contains(&two.hosts[0].id().into()) && hosts.contains(&two.hosts[1].id().into()),
        "{lines:?}"
    );
    let times: Vec<_> = lines.iter().map(|line| line["time"].to_string()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let (_, stdout, _) = two
        .wash(&["logs", "probe", "--tail", "1", "--output", "json"])
        .await;
    let read: Value = serde_json::from_str(&stdout).expect("one object");
    assert_eq!(read["lines"].as_array().map(Vec::len), Some(1));

    let mut view = two
        .view(&[
            "logs", "probe", "--follow", "--tail", "1", "--output", "json",
        ])
        .await;
    let kept = view.json().await;
    assert_eq!(kept["time"], lines[lines.len() - 1]["time"]);
    for host in &two.hosts {
        two.call(host, "/log?n=11").await;
        let line = view.json().await;
        assert_eq!(
            (&line["host"], &line["actor"]),
            (&host.id().into(), &"probe".into())
        );
        assert_eq!(line["message"], "x".repeat(11));
    }
    assert_eq!(view.interrupted().await, Some(0));
}
