//! `wash up` and `wash down` on a machine of one's own, word for word.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use trellis_lattice_tests::ports::free_port;

use super::shell::{Cleared, Home};
use super::transcript::Transcript;

#[tokio::test(flavor = "multi_thread")]
async fn several_hosts_of_one_machine_share_one_server() {
    let home = Home::new();
    let _cleared = Cleared(&home);
    let state_dir = home.path().join(".local/state/trellis");
    Transcript::new("up", &home)
        .with("PORT", &free_port().to_string(), "<port>")
        .with(
            "STATE",
            &state_dir.to_string_lossy(),
            "~/.local/state/trellis",
        )
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_jetstream_keeps_is_deleted_once_it_is_confirmed() {
    let home = Home::new();
    let _cleared = Cleared(&home);
    Transcript::new("purge", &home)
        .with("PORT", &free_port().to_string(), "<port>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_variables_shape_a_host_with_a_note() {
    let home = Home::new()
        .with("WASMCLOUD_LATTICE", "older")
        .with("WASMCLOUD_NATS_PORT", "0")
        .with("WASMCLOUD_LABEL_zone", "a")
        .with("WASMCLOUD_ALLOW_FILE_LOAD", "false")
        .with(
            "WASMCLOUD_CLUSTER_SEED",
            "SCAJ3HQZCDA562YW3VUHHIAUJ2SUCYUNGDCP5DBKQOTEZ6ZZGBKT5NI3DQ",
        );
    let _cleared = Cleared(&home);
    Transcript::new("older_variables", &home).play().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_in_the_foreground_says_that_it_runs_and_ends_with_its_server_at_ctrl_c() {
    let home = Home::new();
    for format in ["table", "json"] {
        let mut child = home
            .command(&[
                "up",
                "--nats-port",
                "0",
                "--friendly-name",
                "fern",
                "-o",
                format,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let (line, outcome, stderr) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line is text");
            kill_process(pid.expect("a process has an id"), Signal::INT).expect("it runs");
            let status = child.wait().expect("it can be waited for");
            let mut stderr = String::new();
            let mut said = child.stderr.take().expect("it was piped");
            said.read_to_string(&mut stderr).expect("it is text");
            (line, status, stderr)
        })
        .await
        .expect("running a command does not panic");
        assert_eq!(outcome.code(), Some(0), "{stderr}");
        if format == "json" {
            let ready: serde_json::Value = serde_json::from_str(&line).expect("one object");
            assert_eq!(ready["success"], true);
            assert_eq!(ready["lattice"], "default");
            assert!(!stderr.contains("Ctrl-C"), "{stderr}");
        } else {
            assert!(line.contains("(fern) runs in lattice default at nats://127.0.0.1:"));
            assert!(stderr.contains("note: Ctrl-C stops the host"), "{stderr}");
        }
    }
    let down = home.wash(&["down"]).await;
    assert!(down.stdout.starts_with("nothing runs in "), "{down:?}");
}
