//! Sessions: what is shared, and what must never pass from one call to another.

use std::time::Duration;

use trellis_provider_sdk::LinkEnd;
use trellis_sql_postgres::wit::types::PgValue;
use trellis_test_backends::{Postgres, PostgresOptions};

use crate::fixture::{Fixture, eventually, invalid_query, shared, text, unexpected};

/// Sessions that the provider has on a server.
fn count(postgres: &Postgres) -> u32 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trellis'";
    postgres.run(sql).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_transaction_that_is_left_open_is_an_error_and_ends_with_its_call() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "1")]).await;
    let client = fixture.client();
    client
        .query_batch("CREATE TABLE held (n int)")
        .await
        .unwrap()
        .unwrap();
    for sql in ["BEGIN", "START TRANSACTION"] {
        let said = invalid_query(client.query(sql, &[]).await.unwrap());
        assert!(said.contains("transaction"), "{said}");
    }
    let said = invalid_query(
        client
            .query_batch("BEGIN; INSERT INTO held VALUES (1)")
            .await
            .unwrap(),
    );
    assert!(said.contains("rolled back"), "{said}");
    assert_eq!(
        fixture.value("SELECT count(*) FROM held", &[]).await,
        PgValue::Int8(0)
    );
    fixture.rows("INSERT INTO held VALUES (2)", &[]).await;
    assert_eq!(postgres.run("SELECT n FROM held").unwrap(), "2");
}

#[tokio::test]
async fn settings_roles_tables_and_locks_do_not_outlive_their_call() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "1")]).await;
    postgres.run("CREATE ROLE nobody_special").unwrap();
    let client = fixture.client();
    for sql in [
        "SET ROLE nobody_special",
        "SET search_path = pg_temp",
        "SELECT set_config('search_path', 'pg_temp', false)::text",
        "SELECT pg_advisory_lock(42)",
        "CREATE TEMP TABLE leftover (n int)",
        "SET statement_timeout = 1",
        "PREPARE p AS SELECT 1",
        "LISTEN c",
        "DEALLOCATE ALL",
    ] {
        client.query(sql, &[]).await.unwrap().unwrap();
    }
    let state = "SELECT current_user::text || ' ' || current_setting('search_path') || ' ' \
                 || (SELECT count(*) FROM pg_class WHERE relname = 'leftover')::text || ' ' \
                 || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')::text || ' ' \
                 || (SELECT count(*) FROM pg_listening_channels())::text";
    eventually("the sessions end", async || {
        fixture.value(state, &[]).await == text("postgres \"$user\", public 0 0 0")
    })
    .await;
    fixture.rows("SELECT pg_sleep(0.05)", &[]).await;
}

#[tokio::test]
async fn what_a_function_hides_does_not_reach_another_actor() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "1")]).await;
    fixture
        .link("other", [("POSTGRES_POOL_SIZE", "1")], 1)
        .await;
    postgres.run("CREATE FUNCTION hide() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', 'mine', false) $$").unwrap();
    fixture.rows("SELECT hide()", &[]).await;
    let rows = fixture
        .client_of("other")
        .query(
            "SELECT coalesce(current_setting('app.tenant', true), '')",
            &[],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rows[0][0].value, text(""));
}

#[tokio::test]
async fn links_with_one_configuration_share_a_pool_which_goes_with_the_last() {
    let postgres = Postgres::start().unwrap();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "3")]).await;
    fixture
        .link("other", [("POSTGRES_POOL_SIZE", "3")], 1)
        .await;
    assert_eq!(count(&postgres), 0);
    let clients: Vec<_> = (0..20)
        .map(|at| fixture.client_of(if at % 2 == 0 { "app" } else { "other" }))
        .collect();
    let calls = clients
        .iter()
        .map(|client| client.query("SELECT pg_sleep(0.05)", &[]));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap().unwrap();
    }
    assert_eq!(count(&postgres), 3);
    fixture.link("app", [("POSTGRES_POOL_SIZE", "2")], 2).await;
    fixture.rows("SELECT 1", &[]).await;
    assert_eq!(count(&postgres), 4);
    let link = fixture
        .harness
        .link_from("other", "wasmcloud:postgres", &["query"], []);
    fixture
        .provider
        .link_delete(&link.key, LinkEnd::Target)
        .await;
    eventually("the pool closes", async || count(&postgres) == 1).await;
    fixture.provider.shutdown(Duration::from_secs(5)).await;
    eventually("all pools close", async || count(&postgres) == 0).await;
}

#[tokio::test]
async fn a_full_pool_makes_callers_wait_and_tells_them_before_their_deadline() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "1")]).await;
    let holder = fixture.client();
    let held = tokio::spawn(async move { holder.query("SELECT pg_sleep(1)", &[]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let said = unexpected(
        fixture
            .within(Duration::from_millis(300))
            .query("SELECT 1", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("no connection"), "{said}");
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
    held.await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_without_room_is_an_error_with_its_code_until_there_is_room() {
    let postgres = PostgresOptions::new()
        .with_max_connections(5)
        .start()
        .unwrap();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "2")]).await;
    let crowd = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "5")]).await;
    let clients: Vec<_> = (0..5).map(|_| crowd.client()).collect();
    let sleeping = clients
        .iter()
        .map(|client| client.query("SELECT pg_sleep(4)", &[]));
    let sleeping = async { futures::future::join_all(sleeping).await };
    let refused = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        unexpected(fixture.client().query("SELECT 1", &[]).await.unwrap())
    };
    let (slept, said) = futures::future::join(sleeping, refused).await;
    assert!(said.contains("SQLSTATE 53300"), "{said}");
    assert!(slept.into_iter().all(|answer| answer.unwrap().is_ok()));
    crowd.provider.shutdown(Duration::from_secs(5)).await;
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
}
