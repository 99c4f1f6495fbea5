//! A server that is away, silent, cut off, or somebody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use trellis_provider_sdk::Health;
use trellis_sql_postgres::wit::types::{PgValue, QueryError};
use trellis_test_backends::faulty::{Mode, Proxy, Silent};
use trellis_test_backends::{Postgres, PostgresOptions};

use crate::fixture::{Fixture, eventually, shared, unexpected};

/// Time of calls that meet a fault.
const WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_kill_under_load_loses_nothing_that_was_acknowledged() {
    let mut postgres = PostgresOptions::new().with_durability().start().unwrap();
    postgres
        .run("CREATE TABLE kept (n bigint PRIMARY KEY)")
        .unwrap();
    let fixture = Arc::new(Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "4")]).await);
    let next = Arc::new(AtomicI64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|_| {
            let (fixture, next, stop) = (fixture.clone(), next.clone(), stop.clone());
            tokio::spawn(async move {
                let client = fixture.within(WITHIN);
                let (mut acknowledged, mut failed) = (Vec::new(), 0_u32);
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let began = Instant::now();
                    match client
                        .query("INSERT INTO kept VALUES ($1)", &[PgValue::Int8(n)])
                        .await
                        .unwrap()
                    {
                        Ok(_) => acknowledged.push(n),
                        Err(QueryError::Unexpected(_)) => {
                            failed += 1;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                    assert!(began.elapsed() < WITHIN + Duration::from_millis(500));
                }
                (acknowledged, failed)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        postgres = tokio::task::spawn_blocking(move || {
            postgres.kill();
            postgres.restart().unwrap();
            postgres
        })
        .await
        .unwrap();
    }
    let before = next.load(Ordering::Relaxed);
    eventually("it works again by itself", async || {
        next.load(Ordering::Relaxed) > before + 20
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for writer in writers {
        let (own, own_failed) = writer.await.unwrap();
        acknowledged.extend(own);
        failed += own_failed;
    }
    let kept = fixture.value("SELECT array_agg(n) FROM kept", &[]).await;
    let PgValue::Int8Array(kept) = kept else {
        panic!("{kept:?}")
    };
    let kept: std::collections::BTreeSet<_> = kept.into_iter().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|n| !kept.contains(n)).collect();
    assert!(
        lost.is_empty(),
        "lost {lost:?} of {}, {failed} failed",
        acknowledged.len()
    );
    assert!(failed > 0 && !acknowledged.is_empty());
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_at_once_and_shows_in_the_providers_health() {
    let mut postgres = Postgres::start().unwrap();
    let fixture = Fixture::linked(&postgres, []).await;
    fixture.rows("SELECT 1", &[]).await;
    postgres.kill();
    let began = Instant::now();
    eventually("the loss is seen", async || {
        let answer = fixture.client().query("SELECT 1", &[]).await.unwrap();
        unexpected(answer).contains("connecting to PostgreSQL")
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(matches!(
        fixture.provider.health().await,
        Health::Failing(_)
    ));
    postgres.restart().unwrap();
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_an_error_before_the_deadline() {
    let silent = Silent::start().await.unwrap();
    let fixture = Fixture::at(silent.address().port(), "x").await;
    fixture.link("app", [], 1).await;
    let began = Instant::now();
    let said = unexpected(fixture.within(WITHIN).query("SELECT 1", &[]).await.unwrap());
    assert!(said.contains("no answer within"), "{said}");
    assert!(began.elapsed() < WITHIN);
    fixture
        .link("app", [("POSTGRES_CONNECT_TIMEOUT_MS", "300")], 2)
        .await;
    let began = Instant::now();
    let said = unexpected(fixture.within(WITHIN).query("SELECT 1", &[]).await.unwrap());
    assert!(said.contains("no answer within 300 ms"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_freezes_is_an_error_before_the_deadline_and_forgotten_after() {
    let postgres = Postgres::start().unwrap();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_POOL_SIZE", "2")]).await;
    fixture.rows("SELECT 1", &[]).await;
    postgres.stop_process().unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        unexpected(fixture.within(WITHIN).query("SELECT 1", &[]).await.unwrap());
        assert!(began.elapsed() < WITHIN);
    }
    postgres.continue_process().unwrap();
    eventually("it works again", async || {
        fixture
            .client()
            .query("SELECT 1", &[])
            .await
            .unwrap()
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_repeat_it() {
    let postgres = shared();
    let fixture = Fixture::at(postgres.port(), "hunter2").await;
    fixture.link("app", [], 1).await;
    let said = unexpected(fixture.client().query("SELECT 1", &[]).await.unwrap());
    assert!(
        said.contains("28P01") && !said.contains("hunter2"),
        "{said}"
    );
    fixture
        .link("app", [("POSTGRES_PASSWORD", postgres.password())], 2)
        .await;
    assert_eq!(fixture.value("SELECT 1", &[]).await, PgValue::Int4(1));
    fixture
        .link(
            "app",
            [
                ("POSTGRES_PASSWORD", postgres.password()),
                ("POSTGRES_DATABASE", "nowhere"),
            ],
            3,
        )
        .await;
    let said = unexpected(fixture.client().query("SELECT 1", &[]).await.unwrap());
    assert!(said.contains("3D000"), "{said}");
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_required_and_its_certificate_is_checked() {
    let postgres = PostgresOptions::new().with_tls().start().unwrap();
    let ca_file = postgres.ca_file().unwrap().to_str().unwrap().to_owned();
    let tls = [
        ("POSTGRES_TLS_REQUIRED", "true"),
        ("POSTGRES_TLS_CA_FILE", &*ca_file),
        ("POSTGRES_POOL_SIZE", "1"),
    ];
    let fixture = Fixture::linked(&postgres, tls).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(fixture.value(encrypted, &[]).await, PgValue::Bool(true));
    // Cancelling goes by TLS as well.
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(62)%'";
    let sleeping = fixture.client();
    let call = tokio::spawn(async move { sleeping.query("SELECT pg_sleep(62)", &[]).await });
    eventually("the statement runs", async || {
        postgres.run(running).unwrap() == "1"
    })
    .await;
    call.abort();
    eventually("the statement is cancelled", async || {
        postgres.run(running).unwrap() == "0"
    })
    .await;
    // Rows that are too large are refused inside TLS, too.
    let said = unexpected(
        fixture
            .client()
            .query("SELECT repeat('x', 300000000)", &[])
            .await
            .unwrap(),
    );
    assert!(said.contains("more than 2097152 bytes"), "{said}");

    fixture
        .link("app", [("POSTGRES_TLS_REQUIRED", "true")], 2)
        .await;
    let said = unexpected(fixture.client().query("SELECT 1", &[]).await.unwrap());
    assert!(said.contains("connecting to PostgreSQL"), "{said}");
    fixture.link("app", [], 3).await;
    assert_eq!(fixture.value(encrypted, &[]).await, PgValue::Bool(false));
}

#[tokio::test]
async fn tls_that_is_required_of_a_server_without_it_is_an_error() {
    let postgres = shared();
    let fixture = Fixture::linked(&postgres, [("POSTGRES_TLS_REQUIRED", "true")]).await;
    let said = unexpected(fixture.client().query("SELECT 1", &[]).await.unwrap());
    assert!(said.contains("TLS"), "{said}");
}

#[tokio::test]
async fn half_a_reply_is_an_error_and_the_next_call_is_served() {
    let postgres = shared();
    let proxy = Proxy::start(postgres.address()).await.unwrap();
    let fixture = Fixture::at(proxy.address().port(), postgres.password()).await;
    fixture.link("app", [("POSTGRES_POOL_SIZE", "1")], 1).await;
    fixture.rows("SELECT 1", &[]).await;
    for bytes in [1, 7, 50, 500] {
        proxy.set(Mode::CutAfter(bytes));
        let began = Instant::now();
        let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 5)";
        unexpected(fixture.within(WITHIN).query(sql, &[]).await.unwrap());
        assert!(began.elapsed() < WITHIN);
        proxy.set(Mode::Pass);
        eventually("it works again", async || {
            fixture
                .client()
                .query(sql, &[])
                .await
                .unwrap()
                .is_ok_and(|rows| rows.len() == 5)
        })
        .await;
    }
}

#[tokio::test]
async fn a_configuration_that_changes_under_load_fails_no_call() {
    let postgres = shared();
    let fixture = Arc::new(Fixture::linked(&postgres, []).await);
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (fixture, stop) = (fixture.clone(), stop.clone());
            tokio::spawn(async move {
                let mut served = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    fixture.rows("SELECT pg_sleep(0.002)", &[]).await;
                    served += 1;
                }
                served
            })
        })
        .collect();
    for generation in 2..12 {
        let size = generation.to_string();
        fixture
            .link("app", [("POSTGRES_POOL_SIZE", &*size)], generation)
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}
