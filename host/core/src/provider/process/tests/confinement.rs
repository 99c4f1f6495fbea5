//! What a provider process can see of its host: its pipe.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::super::isolation::{Means, prepare};
use super::super::program::Program;
use super::fixture::{Workshop, ask};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_its_socket_and_nothing_else_of_its_host() {
    // A descriptor that does not close by itself, as other people's code leaves them.
    let stray = fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
    let workshop = Workshop::new();
    // Shells keep descriptors of their own, so the program lists what it was given by itself.
    let lists = workshop.program(
        "lists",
        "#!/bin/sh\nls -l /proc/$$/fd | grep -v '/lists$' >&2\nexit 3\n",
    );
    let order = workshop.order(&lists);
    let Err(error) = order.launch().await else {
        panic!("a shell started as a provider");
    };
    let text = error.to_string();
    assert!(text.contains(" 3 -> socket:"), "{text}");
    assert!(text.contains(" 0 -> /dev/null"), "{text}");
    assert!(!text.contains("/dev/zero"), "{text}");
    assert!(!text.contains(" 4 -> "), "{text}");
    drop(stray);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_gets_an_environment_of_a_few_names_and_a_place_to_stand() {
    let process = Workshop::new().start().await;
    let names = ask(&process, "environment", "").await.unwrap();
    for name in names.split(' ') {
        assert!(
            [
                "PATH",
                "LANG",
                "LC_ALL",
                "TZ",
                "RUST_LOG",
                "RUST_BACKTRACE",
                "SSL_CERT_FILE",
                "SSL_CERT_DIR",
                "TMPDIR", // By the shell of the script, and by the script.
                "PWD",
                "OLDPWD",
                "SHLVL",
                "_",
                "TEST_ROLE",
            ]
            .contains(&name),
            "{name}"
        );
    }
    assert!(names.contains("TMPDIR"));
    assert_eq!(ask(&process, "directory", "").await.unwrap(), "/");
    let status = ask(&process, "read", "/proc/self/status").await.unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let group = rustix::process::getpgrp().as_raw_pid().to_string();
    let stat = ask(&process, "read", "/proc/self/stat").await.unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        fields[2],
        ask(&process, "pid", "").await.unwrap(),
        "its own group"
    );
    assert_ne!(fields[2], group);
}

/// What the host keeps to itself, and what anybody may read.
fn secrets(workshop: &mut Workshop) -> (String, String) {
    let state = workshop.path("state");
    fs::create_dir(&state).unwrap();
    let secret = state.join("host.nk");
    fs::write(&secret, "the host's seed").unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
    let open = workshop.path("open.txt");
    fs::write(&open, "anybody's").unwrap();
    workshop.private_paths = vec![state];
    (secret.display().to_string(), open.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_landlock_the_hosts_files_are_out_of_reach_and_nothing_can_be_written() {
    // The directory is closed to other users, so the program cannot be run by one.
    let mut workshop = Workshop::new();
    let (secret, open) = secrets(&mut workshop);
    let path = workshop.program("provider", &super::provider::script());
    let program = Program::check(&path).unwrap();
    let options = workshop.order(&path).isolation;
    let means = prepare(&program, &options).means;
    if means != Means::Landlock {
        eprintln!("not tested: this kernel has no Landlock ({means})");
        return;
    }
    let process = workshop.start().await;
    let status = ask(&process, "read", "/proc/self/status").await.unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let denied = "Permission denied (os error 13)";
    assert_eq!(ask(&process, "read", &secret).await.unwrap(), denied);
    assert_eq!(ask(&process, "read", &open).await.unwrap(), "anybody's");
    assert_eq!(ask(&process, "write", &open).await.unwrap(), denied);
    assert_eq!(
        ask(
            &process,
            "write",
            &workshop.path("new").display().to_string()
        )
        .await
        .unwrap(),
        denied
    );
    assert_eq!(
        ask(&process, "write", "/dev/null").await.unwrap(),
        "written"
    );
    let temporary = ask(&process, "temporary", "").await.unwrap();
    assert!(temporary.contains("trellis-provider-"), "{temporary}");
    let score = ask(&process, "read", "/proc/self/oom_score_adj").await;
    assert_eq!(
        score.unwrap().trim(),
        "500",
        "it is ended before its host where memory runs out"
    );
    let host = std::process::id();
    let environment = format!("/proc/{host}/environ");
    assert_eq!(ask(&process, "read", &environment).await.unwrap(), denied);
    let signalled = ask(&process, "signal", &host.to_string()).await.unwrap();
    if !signalled.contains("Err") {
        eprintln!("not tested: this kernel's Landlock does not keep signals in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_root_runs_a_program_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can change the user");
        return;
    }
    let mut workshop = Workshop::new().open_to_all();
    let (secret, open) = secrets(&mut workshop);
    let process = workshop.start().await;
    assert_ne!(ask(&process, "uid", "").await.unwrap(), "0");
    let denied = "Permission denied (os error 13)";
    assert_eq!(ask(&process, "read", &secret).await.unwrap(), denied);
    assert_eq!(ask(&process, "read", &open).await.unwrap(), "anybody's");
    assert_eq!(ask(&process, "write", &open).await.unwrap(), denied);
    let temporary = ask(&process, "temporary", "").await.unwrap();
    assert!(temporary.contains("trellis-provider-"), "{temporary}");
    let score = ask(&process, "read", "/proc/self/oom_score_adj").await;
    assert_eq!(
        score.unwrap().trim(),
        "500",
        "it is ended before its host where memory runs out"
    );
    let host = std::process::id();
    let environment = format!("/proc/{host}/environ");
    assert_eq!(ask(&process, "read", &environment).await.unwrap(), denied);
    let signalled = ask(&process, "signal", &host.to_string()).await.unwrap();
    assert!(signalled.contains("Err"), "{signalled}");
    let directory = std::path::Path::new(&temporary)
        .parent()
        .unwrap()
        .to_owned();
    assert!(directory.exists());
    assert!(process.stop(std::time::Duration::from_secs(5)).await);
    assert!(!directory.exists(), "it goes with the process");
}

#[test]
fn a_host_is_not_dumpable_once_it_has_prepared_a_process() {
    let workshop = Workshop::new();
    let path = workshop.program("x", "#!/bin/sh\n");
    let program = Program::check(&path).unwrap();
    prepare(&program, &workshop.order(&path).isolation);
    assert_eq!(
        rustix::process::dumpable_behavior().unwrap(),
        rustix::process::DumpableBehavior::NotDumpable
    );
}
