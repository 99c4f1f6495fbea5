//! NATS that goes away in the middle of a command, and NATS that is too old.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::UnboundedReceiver;
use trellis_lattice_tests::eventually;

use super::shell::{Home, Outcome, Shell};
use super::transcript::Transcript;

/// A registry that takes connections and never says a word: whoever fetches from it waits.
fn silent_registry() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port can be had");
    listener
        .set_nonblocking(true)
        .expect("it can be looked at without waiting");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, format!("oci://127.0.0.1:{port}/stuck:1"))
}

/// Waits for a process of the test's own to end.
async fn ended(child: Child) -> Outcome {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("waiting does not panic")
        .expect("it can be waited for");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn spawned(home: &Home, arguments: &[&str]) -> Child {
    home.command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run")
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_goes_away_in_the_middle_ends_a_command_which_can_be_given_again() {
    let shell = Shell::open().await;
    let (registry, reference) = silent_registry();
    let mut child = spawned(&shell.home, &["start", "component", &reference, "stuck"]);
    let _silent = eventually("the host asks the registry", async || {
        registry.accept().ok()
    })
    .await;
    assert!(
        child.try_wait().expect("it can be waited for").is_none(),
        "the host still fetches"
    );
    shell.lattice.stop_nats();
    let outcome = ended(child).await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.stdout, "");
    assert!(
        outcome
            .stderr
            .contains("note: lost the connection to NATS at nats://127.0.0.1:")
            && outcome.stderr.contains("did not come back within 4 s")
            && outcome.stderr.contains("the command can be given again"),
        "{}",
        outcome.stderr
    );

    shell.lattice.start_nats_again();
    let hello = shell.lattice.signed("hello");
    let started = eventually("the host is back", async || {
        let outcome = shell.wash(&["start", "component", &hello, "hello"]).await;
        (outcome.code == Some(0)).then_some(outcome)
    })
    .await;
    assert!(
        started.stdout.starts_with("hello runs on host "),
        "{started:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_is_told_of_changes_alone_and_of_nats_that_was_away() {
    let shell = Shell::open().await;
    let mut child = spawned(
        &shell.home,
        &["get", "inventory", "--watch", "200ms", "-o", "json"],
    );
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut lines = lines_of(child.stdout.take().expect("it was piped"));
    let mut notes = lines_of(child.stderr.take().expect("it was piped"));
    let mut next = async || {
        let line = lines.recv().await.expect("there is one more");
        let value: serde_json::Value = serde_json::from_str(&line).expect("one object a line");
        value["inventories"][0]["components"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!(next().await, 0, "nothing runs");
    shell.lattice.run(&shell.host, "hello").await;
    assert_eq!(next().await, 1, "the next line is the change");
    shell.lattice.stop_nats();
    said(&mut notes, "; looking on").await;
    shell.lattice.start_nats_again();
    said(&mut notes, "note: it answers again").await;
    eventually("the host answers again", async || {
        let stopped = shell.wash(&["stop", "component", "hello"]).await;
        (stopped.code == Some(0)).then_some(())
    })
    .await;
    assert_eq!(next().await, 0, "it looked on all the while");
    kill_process(pid.expect("a process has an id"), Signal::INT).expect("it runs");
    let outcome = ended(child).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// The lines of a pipe, as they come.
fn lines_of(pipe: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (told, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        // Ends with the process, or with the test.
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits for a line with these words.
async fn said(lines: &mut UnboundedReceiver<String>, words: &str) {
    let deadline = Duration::from_secs(30);
    let found = async {
        while let Some(line) = lines.recv().await {
            if line.contains(words) {
                return true;
            }
        }
        false
    };
    let found = tokio::time::timeout(deadline, found).await;
    assert_eq!(found, Ok(true), "{words} is said");
}

/// A server that greets as an old one does, and answers pings.
fn old_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port can be had");
    let port = listener.local_addr().expect("it is bound").port();
    let serve = move |mut connection: TcpStream| -> std::io::Result<()> {
        let info = format!(
            "INFO {{\"server_id\":\"OLD\",\"server_name\":\"old\",\"version\":\"2.9.10\",\"proto\":1,\"host\":\"127.0.0.1\",\"port\":{port},\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}}\r\n"
        );
        connection.write_all(info.as_bytes())?;
        let mut received = [0; 4096];
        loop {
            let bytes = connection.read(&mut received)?;
            if bytes == 0 {
                return Ok(());
            }
            for line in received[..bytes].split(|byte| *byte == b'\n') {
                if line.starts_with(b"PING") {
                    connection.write_all(b"PONG\r\n")?;
                }
            }
        }
    };
    // Ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_named_with_the_version_that_is_needed() {
    let home = Home::new();
    Transcript::new("old_server", &home)
        .with("PORT", &old_server().to_string(), "<port>")
        .play()
        .await;
}
