//! A real server is started, spoken to and ended, in every way it can end.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use trellis_nats_server::{
    Detached, Launch, StartError, Stopped, cache_dir, explicit_path, locate,
};

const SOON: Duration = Duration::from_secs(20);

fn executable() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        locate(explicit_path().as_deref(), &cache_dir().unwrap())
            .unwrap()
            .path
    })
}

fn launch(store: &Path) -> Launch {
    Launch::new(executable(), store)
}

/// The line a server greets with, if one is there.
fn greeting(url: &str) -> Option<String> {
    let address = url.strip_prefix("nats://").unwrap();
    let connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(SOON)).unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).ok()?;
    Some(line)
}

fn alive(pid: u32) -> bool {
    test_kill_process(process(pid)).is_ok()
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

#[track_caller]
fn assert_soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_started_server_greets_with_its_name_and_jetstream() {
    let store = tempfile::tempdir().unwrap();
    let server = launch(store.path()).server_name("fern").start().unwrap();

    let info = greeting(server.url()).unwrap();

    assert!(info.starts_with("INFO {"), "{info}");
    assert!(info.contains("\"server_name\":\"fern\""), "{info}");
    assert!(info.contains("\"jetstream\":true"), "{info}");
    assert!(
        server.url().starts_with("nats://127.0.0.1:"),
        "{}",
        server.url()
    );
}

#[test]
fn jetstream_can_be_left_out_and_configuration_added() {
    let store = tempfile::tempdir().unwrap();
    let server = launch(store.path())
        .without_jetstream()
        .extra_config("max_payload: 4242")
        .start()
        .unwrap();

    let info = greeting(server.url()).unwrap();

    assert!(!info.contains("\"jetstream\":true"), "{info}");
    assert!(info.contains("\"max_payload\":4242"), "{info}");
}

#[test]
fn a_stopped_server_ends_by_itself_and_leaves_no_process() {
    let store = tempfile::tempdir().unwrap();
    let server = launch(store.path()).start().unwrap();
    let (pid, url) = (server.pid(), server.url().to_owned());
    assert!(alive(pid));

    assert_eq!(server.stop(SOON).unwrap(), Stopped::InTime);

    assert!(!alive(pid));
    assert_eq!(greeting(&url), None);
}

#[test]
fn a_server_that_does_not_react_is_killed_at_the_deadline() {
    let store = tempfile::tempdir().unwrap();
    let server = launch(store.path()).start().unwrap();
    let pid = server.pid();
    kill_process(process(pid), Signal::STOP).unwrap();

    assert_eq!(
        server.stop(Duration::from_millis(200)).unwrap(),
        Stopped::Killed
    );

    assert_soon("the frozen server is gone", || !alive(pid));
}

#[test]
fn dropping_the_value_ends_the_server_and_the_store_can_be_used_again() {
    let store = tempfile::tempdir().unwrap();
    let first = launch(store.path()).start().unwrap();
    let pid = first.pid();

    drop(first);
    let second = launch(store.path()).start().unwrap();

    assert_soon("the first server is gone", || !alive(pid));
    assert!(greeting(second.url()).is_some());
}

#[test]
fn a_server_that_dies_is_noticed() {
    let store = tempfile::tempdir().unwrap();
    let mut server = launch(store.path()).start().unwrap();
    assert!(server.exited().unwrap().is_none());

    kill_process(process(server.pid()), Signal::KILL).unwrap();

    let deadline = Instant::now() + SOON;
    let status = loop {
        if let Some(status) = server.exited().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the end was not noticed");
        thread::sleep(Duration::from_millis(10));
    };
    assert!(!status.success());
    assert_eq!(server.stop(SOON).unwrap(), Stopped::InTime);
}

#[test]
fn a_parent_killed_with_sigkill_takes_its_server_along() {
    const STORE: &str = "TRELLIS_TEST_PARENT_STORE";
    if let Some(store) = env::var_os(STORE) {
        // We are the parent: start one, say which, and wait to be killed.
        let server = launch(Path::new(&store)).start().unwrap();
        fs::write(
            Path::new(&store).join("started"),
            server.pid().to_string() + "\n",
        )
        .unwrap();
        thread::sleep(Duration::from_secs(120));
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let mut parent = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_parent_killed_with_sigkill_takes_its_server_along",
        ])
        .env(STORE, store.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = store.path().join("started");
    let read = || fs::read_to_string(&started).unwrap_or_default();
    assert_soon("the parent started its server", || read().ends_with('\n'));
    let pid: u32 = read().trim().parse().unwrap();
    assert!(alive(pid));

    parent.kill().unwrap();
    parent.wait().unwrap();

    assert_soon("the orphaned server is gone", || !alive(pid));
}

#[test]
fn a_second_server_on_the_same_store_is_refused() {
    let store = tempfile::tempdir().unwrap();
    let _first = launch(store.path()).start().unwrap();

    let error = launch(store.path()).start().unwrap_err();

    assert!(matches!(error, StartError::InUse { .. }), "{error}");
}

#[test]
fn a_taken_port_is_an_error_that_shows_the_log() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = launch(one.path()).start().unwrap();
    let port = first.url().rsplit_once(':').unwrap().1.parse().unwrap();

    let error = launch(two.path()).port(Some(port)).start().unwrap_err();

    assert!(matches!(error, StartError::Exited { .. }), "{error}");
    assert!(
        error.to_string().contains("address already in use"),
        "{error}"
    );
}

#[test]
fn a_mistake_in_the_configuration_is_an_error_that_shows_it() {
    let store = tempfile::tempdir().unwrap();

    let error = launch(store.path())
        .extra_config("max_payload: {{{")
        .start()
        .unwrap_err();

    assert!(matches!(error, StartError::Exited { .. }), "{error}");
}

#[test]
fn a_program_that_is_no_server_is_an_error() {
    let store = tempfile::tempdir().unwrap();
    let fake = store.path().join("sleeper");
    fs::copy("/bin/sh", &fake).unwrap();

    // A shell given `--config` ends at once; a file that is not there can't even be started.
    let ended = Launch::new(&fake, store.path()).start().unwrap_err();
    let missing = Launch::new(&store.path().join("missing"), store.path())
        .start()
        .unwrap_err();

    assert!(matches!(ended, StartError::Exited { .. }), "{ended}");
    assert!(matches!(missing, StartError::Spawn { .. }), "{missing}");
}

#[test]
fn a_detached_server_is_found_again_by_its_store_and_stopped() {
    let store = tempfile::tempdir().unwrap();
    assert!(Detached::find(store.path()).unwrap().is_none());
    let started = launch(store.path()).start_detached().unwrap();
    let written: u32 = fs::read_to_string(started.pid_path())
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(written, started.pid());

    let found = Detached::find(store.path()).unwrap().unwrap();

    assert_eq!((found.url(), found.pid()), (started.url(), started.pid()));
    assert!(greeting(found.url()).is_some());
    assert_eq!(found.stop(SOON).unwrap(), Stopped::InTime);
    assert_eq!(greeting(started.url()), None);
    assert!(Detached::find(store.path()).unwrap().is_none());
    assert_eq!(started.stop(SOON).unwrap(), Stopped::InTime);
}
