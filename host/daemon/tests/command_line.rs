//! The program as a whole, as far as it comes without a lattice: its help, its mistakes, its exit codes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Output};

/// Runs the program with a state directory of its own and without an environment.
fn trellis_host(arguments: &[&str]) -> Output {
    let state_dir = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_trellis-host"))
        .env_clear()
        .env("TRELLIS_STATE_DIR", state_dir.path().join("state"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_help_documents_the_exit_codes_and_goes_to_stdout() {
    let output = trellis_host(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains(trellis_host::args::EXIT_CODES), "{help}");
}

#[test]
fn mistakes_exit_with_2_and_are_told_on_stderr() {
    for arguments in [&["--nonsense"][..], &["--lattice", "a.b", "--label", "x"]] {
        let output = trellis_host(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_host_without_a_nats_server_exits_with_1_and_says_whom_it_asked() {
    let output = trellis_host(&["--nats-url", "nats://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("nats://127.0.0.1:1"), "{told}");
}
