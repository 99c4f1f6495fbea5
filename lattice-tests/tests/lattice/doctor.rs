//! `wash doctor`: what it finds on a machine and in a lattice, whole machine by whole machine.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use trellis_lattice_tests::Lattice;

use crate::terminal::Terminal;

/// The finding of a look.
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    report["findings"]
        .as_array()
        .and_then(|all| all.iter().find(|found| found["check"] == check))
        .unwrap_or_else(|| panic!("no {check} in {report}"))
}

/// What is said of this machine's ports and programs differs from machine to machine.
fn without_machine(text: &str) -> String {
    let mut kept = String::new();
    let mut passing = false;
    for line in text.lines() {
        let starts_finding = !line.starts_with(' ');
        if starts_finding {
            passing = line.contains("  port.") || line.contains("  toolchain.");
        }
        if !passing {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_broken_where_a_host_answers() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("alpha").start().await;
    let mut terminal = Terminal::of(&lattice);
    terminal.set(
        "TRELLIS_KEYS_DIR",
        &terminal.path("keys").display().to_string(),
    );
    let said = terminal.wash(&["doctor"]).await;
    let report = terminal.wash(&["doctor", "--output", "json"]).await.json();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.stderr, "");
    let server = finding(&report, "nats.version")["message"].clone();
    let version = env!("CARGO_PKG_VERSION");
    let masked = terminal.masked(
        &without_machine(&said.stdout),
        &[
            (lattice.url(), "<url>"),
            (lattice.name(), "<lattice>"),
            (server.as_str().expect("a text"), "nats-server <version>"),
            (version, "<version>"),
        ],
    );
    let mut lines: Vec<_> = masked.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if let Some((before, _)) = line.split_once(" answers in ") {
            *line = format!("{before} answers in <ms>");
        }
        // As many as there are buckets, which is for others to say.
        if line.starts_with("ok       nats.jetstream ") && line.ends_with(" streams") {
            *line = "ok       nats.jetstream       <streams>".to_owned();
        }
    }
    assert_eq!(
        lines,
        [
            "STATE    CHECK                FINDING",
            "ok       keys.directory       ~/keys: no key yet; the first use makes what it needs",
            "ok       keys.account         none yet; the first `wash build` or `wash up` makes it",
            "ok       state.directory      ~/.local/state/trellis: no host runs from it",
            "ok       artifacts.cache      ~/.cache/trellis/artifacts: pulled artifacts are kept there",
            "warning  nats-server.program  no nats-server 2.10.0 or newer is here; `wash up` would download one with pip",
            "                              fix: install nats-server 2.10.0 or newer and put it on PATH, or name it with TRELLIS_NATS_SERVER",
            "ok       nats.reachable       <url> answers in <ms>",
            "ok       nats.version         nats-server <version>",
            "ok       nats.max-payload     messages may have 1024 KiB",
            "ok       nats.jetstream       <streams>",
            "ok       nats.clock           the server's clock and this machine's agree",
            "ok       lattice.state        the lattice <lattice> has its state",
            "ok       lattice.hosts        1 answer: alpha (<version>)",
        ]
    );
    assert_eq!(report["success"], true);
    assert_eq!(report["broken"], 0);
    assert_eq!(finding(&report, "nats-server.program")["state"], "warning");
    assert!(finding(&report, "nats-server.program")["fix"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_comes_with_its_fix_and_makes_the_exit_code_one() {
    let mut terminal = Terminal::new();
    let key = terminal.json(&["keys", "gen", "account"]).await;
    let path = key["path"].as_str().expect("a path").to_owned();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .expect("one's own file can be opened to others");
    terminal.write("state", "a file where a directory should be");
    terminal.set(
        "TRELLIS_STATE_DIR",
        &terminal.path("state").display().to_string(),
    );
    terminal.set("TRELLIS_NATS_URL", "nats://127.0.0.1:1");
    terminal.set("TRELLIS_TIMEOUT_MS", "500");
    let said = terminal.wash(&["doctor", "--output", "json"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = said.json();
    assert_eq!(
        (&report["success"], &report["code"]),
        (&false.into(), &"refused".into())
    );
    for (check, fix) in [
        ("keys.directory", "chmod 600 "),
        ("keys.account", "chmod 600 "),
        ("state.directory", "move the file away"),
        ("nats.reachable", "correct TRELLIS_NATS_URL"),
    ] {
        let found = finding(&report, check);
        assert_eq!(found["state"], "broken", "{found}");
        let told = found["fix"].as_str().unwrap_or_default();
        assert!(told.contains(fix), "{found}");
    }
    let said = terminal.wash(&["doctor"]).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stderr.starts_with("error: ") && said.stderr.contains("keys.account"),
        "{said:?}"
    );
    assert!(said.stdout.contains("fix: chmod 600 "), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_compared_although_there_is_no_stream_yet() {
    let lattice = Lattice::start().await;
    let report = Terminal::of(&lattice).json(&["doctor"]).await;
    assert_eq!(finding(&report, "nats.clock")["state"], "ok", "{report}");
    let hosts = finding(&report, "lattice.hosts");
    assert_eq!(hosts["state"], "warning", "{hosts}");
    assert!(
        hosts["fix"]
            .as_str()
            .is_some_and(|fix| fix.contains("wash up")),
        "{hosts}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_blamed_for_a_server_that_was_never_asked_for() {
    let terminal = Terminal::new();
    let offline = terminal.json(&["doctor", "--offline"]).await;
    let checks: Vec<_> = offline["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|found| found["check"].as_str())
        .collect();
    assert!(
        !checks.iter().any(|check| check.starts_with("nats.")),
        "{checks:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_or_has_no_jetstream_is_said_to_be() {
    let mut terminal = Terminal::new();
    let old = Fake::start("2.9.25", Duration::ZERO).await;
    terminal.set("TRELLIS_NATS_URL", &old.url);
    let said = terminal.wash(&["doctor", "--output", "json"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = said.json();
    let found = finding(&report, "nats.version");
    assert_eq!(found["state"], "broken");
    assert_eq!(found["fix"], "upgrade it to 2.10 or newer");
    assert!(
        found["message"]
            .as_str()
            .unwrap_or_default()
            .contains("2.9.25"),
        "{found}"
    );

    let store = tempfile::tempdir().expect("a temporary directory can be made");
    let plain = trellis_lattice_tests::nats::without_jetstream(store.path());
    terminal.set("TRELLIS_NATS_URL", plain.url());
    let said = terminal.wash(&["doctor", "--output", "json"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let found = finding(&said.json(), "nats.jetstream").clone();
    assert_eq!(found["state"], "broken");
    assert!(
        found["fix"].as_str().unwrap_or_default().contains("`-js`"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_an_hour_ahead_is_said_to_be() {
    let ahead = Fake::start("2.11.0", Duration::from_secs(3600)).await;
    let mut terminal = Terminal::new();
    terminal.set("TRELLIS_NATS_URL", &ahead.url);
    let said = terminal.wash(&["doctor", "--output", "json"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let found = finding(&said.json(), "nats.clock").clone();
    assert_eq!(found["state"], "broken", "{found}");
    let message = found["message"].as_str().unwrap_or_default();
    assert!(message.contains(" s ahead of this machine"), "{found}");
    assert!(
        found["fix"].as_str().unwrap_or_default().contains("chrony"),
        "{found}"
    );
}

/// Something that speaks as much of NATS as `wash doctor` listens to: a greeting with a version, an account of
/// JetStream, and a stream's description with a time.
struct Fake {
    url: String,
}

impl Fake {
    async fn start(version: &'static str, ahead: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, version, ahead));
            }
        });
        Self {
            url: format!("nats://127.0.0.1:{port}"),
        }
    }
}

/// Serves one client until it goes.
async fn serve(stream: TcpStream, version: &'static str, ahead: Duration) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let greeting = format!(
        r#"INFO {{"server_id":"F","version":"{version}","go":"","host":"","port":1,"headers":true,"max_payload":1048576,"proto":1,"client_id":1,"jetstream":true}}"#
    );
    write
        .write_all(format!("{greeting}\r\n").as_bytes())
        .await
        .ok()?;
    let mut read = BufReader::new(read);
    let mut subscriptions: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => write.write_all(b"PONG\r\n").await.ok()?,
            ["SUB", subject, .., sid] => {
                subscriptions.push(((*subject).to_owned(), (*sid).to_owned()));
            }
            ["PUB" | "HPUB", subject, reply, .., length] if words.len() > 3 => {
                let mut payload = vec![0; length.parse::<usize>().ok()? + 2];
                read.read_exact(&mut payload).await.ok()?;
                let Some(answer) = answer(subject, ahead) else {
                    continue;
                };
                let inbox = |pattern: &str| {
                    pattern
                        .strip_suffix('*')
                        .map_or(pattern == *reply, |prefix| reply.starts_with(prefix))
                };
                let Some((_, sid)) = subscriptions.iter().find(|(subject, _)| inbox(subject))
                else {
                    continue;
                };
                let message = format!("MSG {reply} {sid} {}\r\n{answer}\r\n", answer.len());
                write.write_all(message.as_bytes()).await.ok()?;
            }
            ["PUB", _, length] => {
                let mut payload = vec![0; length.parse::<usize>().ok()? + 2];
                read.read_exact(&mut payload).await.ok()?;
            }
            _ => {}
        }
    }
}

fn answer(subject: &str, ahead: Duration) -> Option<String> {
    if subject == "$JS.API.INFO" {
        return Some(
            r#"{"type":"io.nats.jetstream.api.v1.account_info_response","memory":0,"storage":0,"reserved_memory":0,"reserved_storage":0,"streams":0,"consumers":0,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"max_bytes_required":false,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1},"api":{"total":0,"errors":0}}"#
                .to_owned(),
        );
    }
    let told = trellis_claims::UnixTime::from(SystemTime::now() + ahead);
    subject.starts_with("$JS.API.STREAM.INFO.").then(|| {
        format!(
            r#"{{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{{"code":404,"err_code":10059,"description":"stream not found"}},"ts":"{told}"}}"#
        )
    })
}
