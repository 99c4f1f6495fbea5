//! Statements: rows, errors with their codes, limits, batches, prepared statements.

use std::time::{Duration, Instant};

use trellis_provider_sdk::interface::Caller as _;
use trellis_provider_sdk::{Operation, RefusalCode};
use trellis_sql_postgres::wit::types::{
    PgValue, PreparedStatementExecError, StatementPrepareError,
};
use trellis_sql_postgres::wit::{prepared, query};

use crate::fixture::{Fixture, eventually, invalid_query, shared, text, unexpected};

#[tokio::test]
async fn rows_come_with_their_columns_in_order() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let rows = fixture
        .rows(
            "SELECT n AS first, 'x' AS second FROM generate_series(1, 3) AS n",
            &[],
        )
        .await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2][0].column_name, "first");
    assert_eq!(rows[2][0].value, PgValue::Int4(3));
    assert_eq!(rows[2][1].value, text("x"));
    assert!(fixture.rows("SELECT 1 WHERE false", &[]).await.is_empty());
}

#[tokio::test]
async fn errors_of_the_server_carry_their_sqlstate() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let client = fixture.client();
    client.query_batch("CREATE TABLE coded (id int PRIMARY KEY, n int NOT NULL CHECK (n > 0)); INSERT INTO coded VALUES (1, 1)").await.unwrap().unwrap();
    for (sql, code) in [
        ("SELECT * FROM nowhere", "42P01"),
        ("SELEC", "42601"),
        ("SELECT 1; SELECT 2", "42601"),
        ("INSERT INTO coded VALUES (1, 1)", "23505"),
        ("INSERT INTO coded VALUES (2, NULL)", "23502"),
        ("INSERT INTO coded VALUES (2, 0)", "23514"),
        ("SELECT 1 / 0", "22012"),
        ("COMMIT AND CHAIN", "25P01"),
    ] {
        let said = invalid_query(client.query(sql, &[]).await.unwrap());
        assert!(
            said.ends_with(&format!("(SQLSTATE {code})")),
            "{sql}: {said}"
        );
    }
    let said = invalid_query(
        client
            .query("INSERT INTO coded VALUES (1, 1)", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("coded_pkey"), "{said}");
    assert_eq!(
        fixture.value("SELECT count(*) FROM coded", &[]).await,
        PgValue::Int8(1)
    );
}

#[tokio::test]
async fn what_looks_like_sql_stays_data_in_a_parameter() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    fixture
        .client()
        .query_batch("CREATE TABLE victim (name text)")
        .await
        .unwrap()
        .unwrap();
    let attack = text("x'); DROP TABLE victim; --");
    fixture
        .rows(
            "INSERT INTO victim VALUES ($1)",
            std::slice::from_ref(&attack),
        )
        .await;
    assert_eq!(
        fixture
            .value(
                "SELECT name FROM victim WHERE name = $1",
                std::slice::from_ref(&attack)
            )
            .await,
        attack
    );
}

#[tokio::test]
async fn the_last_row_that_is_allowed_is_given_and_one_more_is_an_error() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_MAX_ROWS", "10")]).await;
    assert_eq!(
        fixture
            .rows("SELECT generate_series(1, 10)", &[])
            .await
            .len(),
        10
    );
    let said = unexpected(
        fixture
            .client()
            .query("SELECT generate_series(1, 11)", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("more than 10 rows"), "{said}");
    let began = Instant::now();
    let said = unexpected(
        fixture
            .client()
            .query("SELECT generate_series(1, 1000000000)", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("more than 10 rows"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_result_beyond_its_bytes_is_an_error_however_it_grows() {
    let postgres = shared();
    let fixture = Fixture::linked(
        &postgres,
        [
            ("POSTGRES_MAX_BYTES", "100000"),
            ("POSTGRES_MAX_ROWS", "100000"),
        ],
    )
    .await;
    assert_eq!(
        fixture.rows("SELECT repeat('x', 99000)", &[]).await.len(),
        1
    );
    for sql in [
        "SELECT repeat('x', 100001)",
        "SELECT repeat('x', 300000000)",
        "SELECT repeat('x', 1000) FROM generate_series(1, 1000)",
        "SELECT n FROM generate_series(1, 100000) AS n",
        "SELECT array_agg(n) FROM generate_series(1, 100000) AS n",
        "SELECT array_agg(1e100000) FROM generate_series(1, 10)",
    ] {
        let said = unexpected(fixture.client().query(sql, &[]).await.unwrap());
        assert!(said.contains("more than 100000 bytes"), "{sql}: {said}");
    }
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
}

#[tokio::test]
async fn the_largest_result_that_can_be_configured_fits_into_an_answer() {
    let postgres = shared();
    let fixture = Fixture::linked(
        &postgres,
        [
            ("POSTGRES_MAX_BYTES", "4128768"),
            ("POSTGRES_MAX_ROWS", "100000"),
        ],
    )
    .await;
    let mut count = 0;
    for (sql, name) in [
        ("SELECT repeat('x', 4128000)", "text"),
        (
            "SELECT array_agg(true) FROM generate_series(1, 800000)",
            "bools",
        ),
        (
            "SELECT array_agg(1.5::float8) FROM generate_series(1, 171000)",
            "floats",
        ),
        (
            "SELECT 1.5::float8 AS f FROM generate_series(1, 100000)",
            "rows",
        ),
    ] {
        count += 1;
        let rows = fixture.client().query(sql, &[]).await.unwrap();
        assert!(rows.is_ok(), "{name}: {:?}", rows.err());
    }
    assert_eq!(count, 4);
}

#[tokio::test]
async fn a_batch_is_one_transaction_unless_it_says_otherwise() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let client = fixture.client();
    client
        .query_batch("CREATE TABLE batched (n int)")
        .await
        .unwrap()
        .unwrap();
    let said = invalid_query(
        client
            .query_batch("INSERT INTO batched VALUES (1); SELECT 1 / 0")
            .await
            .unwrap(),
    );
    assert!(said.contains("22012"), "{said}");
    assert_eq!(
        fixture.value("SELECT count(*) FROM batched", &[]).await,
        PgValue::Int8(0)
    );
    invalid_query(
        client
            .query_batch("BEGIN; INSERT INTO batched VALUES (1); COMMIT; SELECT 1 / 0")
            .await
            .unwrap(),
    );
    assert_eq!(
        fixture.value("SELECT count(*) FROM batched", &[]).await,
        PgValue::Int8(1)
    );
    client.query_batch("").await.unwrap().unwrap();
    client
        .query_batch("SELECT generate_series(1, 100000)")
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn copy_is_refused_and_harms_nobody() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let client = fixture.client();
    for sql in ["COPY (SELECT 1) TO STDOUT", "COPY pg_class FROM STDIN"] {
        let said = invalid_query(client.query(sql, &[]).await.unwrap());
        assert!(said.contains("COPY"), "{said}");
        let said = invalid_query(client.query_batch(sql).await.unwrap());
        assert!(said.contains("COPY"), "{said}");
    }
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
}

#[tokio::test]
async fn a_prepared_statement_is_its_instances_alone() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    fixture.link("other", [], 1).await;
    fixture
        .client()
        .query_batch("CREATE TABLE tokens (n int)")
        .await
        .unwrap()
        .unwrap();
    let own = fixture.prepared();
    let token = own
        .prepare("INSERT INTO tokens SELECT generate_series(1, $1)")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(own.exec(&token, &[PgValue::Int4(3)]).await.unwrap(), Ok(3));
    assert_eq!(own.exec(&token, &[PgValue::Int4(2)]).await.unwrap(), Ok(2));
    let unknown = Err(PreparedStatementExecError::UnknownPreparedQuery);
    for stranger in [
        fixture.caller("app").as_instance(2),
        fixture.caller("other"),
    ] {
        let answer = prepared::Client(stranger)
            .exec(&token, &[PgValue::Int4(1)])
            .await
            .unwrap();
        assert_eq!(answer, unknown);
    }
    assert_eq!(own.exec("guessed", &[]).await.unwrap(), unknown);
    let answer = own.exec(&token, &[text("3")]).await.unwrap();
    assert!(
        matches!(answer, Err(PreparedStatementExecError::QueryError(_))),
        "{answer:?}"
    );
    let StatementPrepareError::Unexpected(said) = own.prepare("SELEC").await.unwrap().unwrap_err();
    assert!(said.contains("42601"), "{said}");
    fixture
        .provider
        .release(&trellis_provider_sdk::harness::lease(1))
        .await;
    assert_eq!(
        own.exec(&token, &[PgValue::Int4(1)]).await.unwrap(),
        unknown
    );
}

#[tokio::test]
async fn statements_outlive_changes_of_their_tables() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "2")]).await;
    let client = fixture.client();
    client
        .query_batch("CREATE TABLE moving (n int); INSERT INTO moving VALUES (1)")
        .await
        .unwrap()
        .unwrap();
    let token = fixture
        .prepared()
        .prepare("UPDATE moving SET n = n")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fixture.rows("SELECT * FROM moving", &[]).await[0].len(), 1);
    postgres.run("ALTER TABLE moving ADD COLUMN m int").unwrap();
    assert_eq!(fixture.rows("SELECT * FROM moving", &[]).await[0].len(), 2);
    fixture
        .rows("UPDATE moving SET n = $1", &[PgValue::Int4(5)])
        .await;
    postgres
        .run("ALTER TABLE moving ALTER COLUMN n TYPE text")
        .unwrap();
    fixture
        .rows("UPDATE moving SET n = $1::text", &[text("five")])
        .await;
    assert_eq!(fixture.prepared().exec(&token, &[]).await.unwrap(), Ok(1));
    // Somebody who takes our prepared statements away does not break us.
    postgres.run("CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$").unwrap();
    assert_eq!(
        fixture.value("SELECT forget()", &[]).await,
        PgValue::Int4(1)
    );
    assert_eq!(fixture.rows("SELECT * FROM moving", &[]).await.len(), 1);
}

#[tokio::test]
async fn a_slow_statement_ends_before_its_deadline_and_on_the_server_too() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "1")]).await;
    let within = Duration::from_secs(1);
    let began = Instant::now();
    let said = unexpected(
        fixture
            .within(within)
            .query("SELECT pg_sleep(60)", &[])
            .await
            .unwrap(),
    );
    assert!(began.elapsed() < within, "{:?}", began.elapsed());
    assert!(said.contains("57014"), "{said}");
    // The session is still good, as a place that is free at once shows.
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
}

#[tokio::test]
async fn a_statement_whose_caller_goes_away_is_cancelled_on_the_server() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(61)%'";
    let sleeping = fixture.client();
    let call = tokio::spawn(async move { sleeping.query("SELECT pg_sleep(61)", &[]).await });
    eventually("the statement runs", async || {
        postgres.run(running).unwrap() == "1"
    })
    .await;
    call.abort();
    eventually("the statement is cancelled", async || {
        postgres.run(running).unwrap() == "0"
    })
    .await;

    let caller = fixture.caller("app");
    let cancel = caller.cancel.clone();
    let client = query::Client(caller);
    let call = tokio::spawn(async move { client.query("SELECT pg_sleep(61)", &[]).await });
    eventually("the statement runs", async || {
        postgres.run(running).unwrap() == "1"
    })
    .await;
    cancel.cancel();
    assert_eq!(
        call.await.unwrap().unwrap_err().code,
        RefusalCode::Cancelled
    );
    eventually("the statement is cancelled", async || {
        postgres.run(running).unwrap() == "0"
    })
    .await;
}

#[tokio::test]
async fn other_interfaces_functions_and_statements_that_are_too_long_are_refused() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, []).await;
    let caller = fixture.caller("app");
    for (interface, function) in [
        ("wasi:keyvalue/store", "open"),
        ("wasmcloud:postgres/query@0.1.1-draft", "nothing"),
    ] {
        let refusal = caller
            .call(&Operation::new(interface, function), 0, bytes::Bytes::new())
            .await
            .unwrap_err();
        assert_eq!(refusal.code, RefusalCode::UnknownOperation);
    }
    let long = format!("SELECT 1 /* {} */", "x".repeat(1024 * 1024));
    let said = invalid_query(fixture.client().query(&long, &[]).await.unwrap());
    assert!(said.contains("at most 1048576 bytes"), "{said}");
    let refusal = fixture
        .client_of("stranger")
        .query("SELECT 1", &[])
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoLink);
}
