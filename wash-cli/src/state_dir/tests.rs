#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

fn record() -> Record {
    Record {
        pid: std::process::id(),
        start_ticks: start_ticks(std::process::id()),
        host_id: "N".into(),
        lattice: "default".into(),
        nats_url: "nats://127.0.0.1:4222".into(),
        nats_joined: true,
        friendly_name: None,
    }
}

fn state_dir() -> (tempfile::TempDir, StateDir) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let state = StateDir::resolve(Some(&path), &mut Environment::default()).unwrap();
    (home, state)
}

#[test]
fn a_directory_has_one_host_at_a_time() {
    let (_home, state) = state_dir();
    assert!(!state.in_use().unwrap());
    let claim = state.claim().unwrap();
    claim.record(&record()).unwrap();
    assert_eq!(state.running().unwrap(), Some(record()));
    let error = state.claim().unwrap_err();
    assert!(matches!(error, StateDirError::InUse { .. }));
    assert!(error.to_string().contains("wash down"), "{error}");
    drop(claim);
    assert_eq!(state.running().unwrap(), None);
    assert!(state.claim().is_ok());
}

#[test]
fn a_record_that_outlived_its_host_is_not_believed() {
    let (_home, state) = state_dir();
    state.make().unwrap();
    fs::write(state.record_path(), serde_json::to_vec(&record()).unwrap()).unwrap();
    assert_eq!(state.running().unwrap(), None);
}

#[test]
fn further_hosts_have_directories_of_their_own_and_share_the_server() {
    let (_home, state) = state_dir();
    assert_eq!(state.beside(None).unwrap(), state, "the first is free");
    let _first = state.claim().unwrap();
    let second = state.beside(None).unwrap();
    assert!(second.path().ends_with("hosts/2"));
    assert_eq!(second.nats_dir(), state.nats_dir());
    let _second = second.claim().unwrap();
    assert!(state.beside(None).unwrap().path().ends_with("hosts/3"));
    let named = state.beside(Some("fern & moss")).unwrap();
    assert!(named.path().ends_with("hosts/fern---moss"));
    let _named = named.claim().unwrap();
    assert!(matches!(
        state.beside(Some("fern & moss")),
        Err(StateDirError::InUse { .. })
    ));
    let all = state.all().unwrap();
    assert_eq!(all, [state, second, named]);
}

#[test]
fn a_process_has_one_start_time_and_a_missing_one_none() {
    let own = std::process::id();
    assert!(start_ticks(own).is_some());
    assert_eq!(start_ticks(own), start_ticks(own));
    assert_eq!(start_ticks(u32::MAX), None);
}

#[test]
fn without_a_home_it_says_what_to_set() {
    let error = StateDir::resolve(None, &mut Environment::default()).unwrap_err();
    assert!(error.to_string().contains("TRELLIS_STATE_DIR"));
}
