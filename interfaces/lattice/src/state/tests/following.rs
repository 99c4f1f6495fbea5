//! What becomes of a copy when others write nonsense, the server restarts, or a bucket is lost.

use std::time::Instant;

use bytes::Bytes;
use trellis_protocol::subject::{config_data_bucket, lattice_data_bucket};

use super::*;

#[tokio::test]
async fn hostile_and_foreign_entries_are_skipped_and_counted() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    let lattice = connection
        .jetstream
        .get_key_value(lattice_data_bucket(connection.lattice()))
        .await
        .unwrap();
    let configs = connection
        .jetstream
        .get_key_value(config_data_bucket(connection.lattice()))
        .await
        .unwrap();
    state
        .put_link(&link("app", "kv", &["store"]))
        .await
        .unwrap();
    for (key, value) in [
        ("COMPONENT_x", &b"not json"[..]),
        ("COMPONENT_a.b", b"{}"),
        ("CLAIMS_M1", b"\xff\xfe"),
        ("LINKDEF_1", b"legacy"),
        ("REFMAP_1", b"legacy"),
    ] {
        lattice.put(key, Bytes::from_static(value)).await.unwrap();
    }
    configs
        .put("SECRET_s", r#"{"name":"s"}"#.into())
        .await
        .unwrap();
    configs.put("c", r#"{"k":{}}"#.into()).await.unwrap();
    let last = state.put_config("good", &config(&[])).await.unwrap();
    assert!(state.applied(Bucket::ConfigData, last, PATIENCE).await);
    eventually("four are counted", || state.skipped() == 4).await;
    let view = state.view();
    assert_eq!(view.config_names().collect::<Vec<_>>(), ["good"]);
    assert_eq!(view.links().count(), 1);
    assert!(view.config("SECRET_s").is_none());

    // The same on a replay, and a link that was readable and no longer is vanishes.
    lattice.put("COMPONENT_app", "{".into()).await.unwrap();
    eventually("the link is gone", || state.view().links().count() == 0).await;
    let late = open(&connection).await;
    assert_eq!(late.skipped(), 5);
    assert_eq!(late.view().links().count(), 0);
}

#[tokio::test]
async fn a_copy_knows_how_current_it_is() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    eventually("the first check has passed", || state.age().is_some()).await;
    assert!(state.age().unwrap() < PATIENCE);
    let before = state.view().sequence();
    state.put_config("c", &config(&[])).await.unwrap();
    assert!(state.reached(before + 1, PATIENCE).await);
    assert!(!state.reached(before + 2, Duration::from_millis(10)).await);
    let generation = state.view().generation();
    state.put_config("c", &config(&[])).await.unwrap();
    assert_eq!(state.view().generation(), generation);
}

#[tokio::test]
async fn a_restarted_server_with_its_store_leaves_the_state_as_it_was_and_followed() {
    let mut nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    state
        .put_link(&link("app", "kv", &["store"]))
        .await
        .unwrap();
    eventually("the link is there", || state.view().links().count() == 1).await;
    nats.stop();
    assert_eq!(state.view().links().count(), 1, "no server, same answers");
    nats.start_again();
    let mut put = state.put_link(&link("app2", "kv", &["store"])).await;
    while put.is_err() {
        put = state.put_link(&link("app2", "kv", &["store"])).await;
    }
    eventually("what came after the restart is followed", || {
        state.view().links().count() == 2
    })
    .await;
}

#[tokio::test]
async fn what_was_removed_while_a_host_was_cut_off_vanishes() {
    let mut nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    state
        .put_link(&link("app", "kv", &["store"]))
        .await
        .unwrap();
    state.put_config("c", &config(&[])).await.unwrap();
    eventually("both are there", || {
        state.view().links().count() == 1 && state.view().config("c").is_some()
    })
    .await;
    // A server that has lost everything: no deletion will ever be delivered.
    nats.stop();
    nats.wipe();
    nats.start_again();
    eventually("the copy is what the server has", || {
        state.view().links().count() == 0 && state.view().config("c").is_none()
    })
    .await;
    assert_eq!(state.view().sequence(), 0);
}

#[tokio::test]
async fn a_bucket_that_is_deleted_and_made_again_is_noticed_by_the_check() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    state.put_config("old", &config(&[])).await.unwrap();
    eventually("it is there", || state.view().config("old").is_some()).await;
    let name = config_data_bucket(connection.lattice());
    connection.jetstream.delete_key_value(&name).await.unwrap();
    let deadline = Instant::now() + CHECK_INTERVAL * 3;
    while state.view().config("old").is_some() {
        assert!(Instant::now() < deadline, "the old content is still served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    state.put_config("new", &config(&[])).await.unwrap();
    eventually("the new bucket is followed", || {
        state.view().config("new").is_some()
    })
    .await;
}

#[tokio::test]
async fn messages_deleted_from_the_end_of_a_stream_do_not_make_a_copy_stale() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    state.put_config("kept", &config(&[])).await.unwrap();
    let revision = state.put_config("dropped", &config(&[])).await.unwrap();
    state.close().await;
    // Buckets forbid deleting single messages; a purge by key leaves the same gap at the end.
    let stream = connection
        .jetstream
        .get_stream(format!("KV_{}", config_data_bucket(connection.lattice())))
        .await
        .unwrap();
    stream
        .purge()
        .filter(format!(
            "$KV.{}.dropped",
            config_data_bucket(connection.lattice())
        ))
        .await
        .unwrap();
    let state = open(&connection).await;
    eventually("the check explains the gap", || state.age().is_some()).await;
    assert_eq!(state.view().applied(Bucket::ConfigData), revision);
    assert_eq!(state.view().config_names().collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn without_a_server_writes_fail_with_a_type_in_bounded_time_and_reads_go_on() {
    let mut nats = Nats::start();
    let state = open(&nats.connect().await).await;
    state.put_config("c", &config(&[])).await.unwrap();
    eventually("it is there", || state.view().config("c").is_some()).await;
    nats.stop();
    let began = Instant::now();
    let error = state.put_config("d", &config(&[])).await.unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::TimedOut { .. } | WriteError::Unavailable { .. }
        ),
        "{error}"
    );
    assert!(began.elapsed() < WRITE_TIMEOUT + Duration::from_secs(2));
    assert!(state.view().config("c").is_some());
    state.close().await;
}

#[tokio::test]
async fn following_ends_with_the_connection() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    connection.close().await;
    drop(connection);
    eventually("the tasks end by themselves", || state.tasks.is_empty()).await;
}
