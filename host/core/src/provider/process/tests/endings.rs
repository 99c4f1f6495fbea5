//! Programs that are no providers, providers that do not start, and hosts that die.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trellis_provider_sdk::StartError;

use super::super::launch::LaunchError;
use super::super::supervisor::Supervised;
use super::fixture::{Workshop, ask, runs, soon};
use super::provider::{as_test, has_role, script};

async fn refused(workshop: &Workshop, program: &Path) -> LaunchError {
    match Supervised::start(workshop.order(program)).await {
        Ok(_) => panic!("{} started", program.display()),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_program_is_told_at_once() {
    let workshop = Workshop::new();
    let plain = workshop.path("plain");
    std::fs::write(&plain, "text").unwrap();
    let no_interpreter = workshop.program("no-interpreter", "#!/nowhere/sh\n");
    for (program, code) in [
        (workshop.path("nothing"), "artifact-missing"),
        (PathBuf::from("/etc"), "artifact-unreadable"),
        (plain, "artifact-not-executable"),
        (no_interpreter, "program-not-started"),
    ] {
        let error = refused(&workshop, &program).await;
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_provider_is_told_at_once() {
    let workshop = Workshop::new();
    for program in ["/bin/true", "/bin/false", "/bin/cat", "/bin/sleep"] {
        let begin = Instant::now();
        let error = refused(&workshop, Path::new(program)).await;
        assert_eq!(error.code(), "not-a-provider", "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{program}");
    }
    let error = refused(&workshop, Path::new("/bin/sleep"))
        .await
        .to_string();
    assert!(error.contains("exit status: 1"), "{error}");
    assert!(error.contains("missing operand"), "its own words: {error}");
    assert!(error.contains("trellis-provider-sdk"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_something_else_is_told_and_ended() {
    let workshop = Workshop::new();
    let garbage = workshop.program(
        "garbage",
        "#!/bin/sh\nprintf 'garbage and more garbage' >&3\nexec sleep 1000\n",
    );
    let error = refused(&workshop, &garbage).await;
    assert!(matches!(error, LaunchError::Misspoke { .. }), "{error}");
    let closes = workshop.program("closes", "#!/bin/sh\nexec 3>&-\nexec sleep 1000\n");
    let error = refused(&workshop, &closes).await;
    assert!(matches!(error, LaunchError::Misspoke { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_nothing_is_told_and_ended_within_its_time() {
    let workshop = Workshop::new();
    let hangs = workshop.program("hangs", "#!/bin/sh\necho before\nexec sleep 1000\n");
    let begin = Instant::now();
    let error = refused(&workshop, &hangs).await;
    assert!(matches!(error, LaunchError::NoHello { .. }), "{error}");
    assert!(error.to_string().contains("before"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_or_dies_at_its_start_is_told_with_the_reason() {
    let workshop = Workshop::new().with_config("start", "refuse");
    let program = workshop.program("provider", &script());
    let error = refused(&workshop, &program).await;
    assert_eq!(error.code(), "config-invalid");
    assert!(
        matches!(&error, LaunchError::NotStarted(StartError::Config { key, .. }) if key == "start"),
        "{error}"
    );
    let workshop = Workshop::new().with_config("start", "exit");
    let program = workshop.program("provider", &script());
    let error = refused(&workshop, &program).await;
    assert_eq!(error.code(), "provider-failed");
    let text = error.to_string();
    assert!(text.contains("exit status: 9"), "{text}");
    assert!(text.contains("the backend is on fire"), "{text}");
}

#[test]
fn in_the_role_of_a_host() {
    if !has_role("host") {
        return;
    }
    // Stands for a whole host: it starts one program that serves and one that ignores its socket, and says their ids.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let workshop = Workshop::new();
        let process = workshop.start().await;
        let pid = ask(&process, "pid", "").await.unwrap();
        let deaf = workshop.program("deaf", "#!/bin/sh\nexec sleep 1000\n");
        let order = workshop.order(&deaf);
        tokio::spawn(async move { drop(order.launch().await) });
        println!("\nserves {pid}");
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_a_host_that_is_killed() {
    use std::io::{BufRead, BufReader};

    let workshop = Workshop::new();
    let text = as_test(
        "host",
        "provider::process::tests::endings::in_the_role_of_a_host",
    );
    let program = workshop.program("host", &text);
    let mut host = Command::new(program)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let serves = tokio::task::spawn_blocking(move || {
        lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("serves ")?.to_owned()))
    });
    let serves = serves.await.unwrap().unwrap();
    assert!(runs(&serves));
    let id = host.id();
    let mut children = Vec::new();
    soon("the host has both children", || {
        children = children_of(id);
        children.len() == 2
    })
    .await;
    assert!(children.contains(&serves));
    host.kill().unwrap();
    host.wait().unwrap();
    for child in children {
        soon("a process outlives its host", || !runs(&child)).await;
    }
}

/// The processes whose parent is this one, whichever of its threads that was.
fn children_of(parent: u32) -> Vec<String> {
    let parent = format!("PPid:\t{parent}");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.lines().any(|line| line == parent))
        })
        .collect()
}
