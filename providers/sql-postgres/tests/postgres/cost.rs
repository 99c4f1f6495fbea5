//! What a call costs the server: round trips, and the messages of each.
//!
//! `B`ind, `E`xecute and `S`ync run a statement that is prepared, in one round trip. `P`arse and `D`escribe prepare one,
//! `Q` is a statement without parameters, a setting above all.

use std::sync::Arc;
use std::time::Duration;

use trellis_sql_postgres::wit::types::PgValue;
use trellis_test_backends::Postgres;

use crate::fixture::{Fixture, shared};
use crate::tap::Tap;

const SELECT: &str = "SELECT $1::int4 + 1";

/// One run of a statement that is prepared.
const RUN: &str = "BES";

async fn tapped() -> (Arc<Postgres>, Tap, Fixture) {
    let postgres = shared();
    let tap = Tap::start(postgres.address()).await;
    let fixture = Fixture::at(tap.port(), postgres.password()).await;
    for actor in ["app", "other"] {
        fixture.link(actor, [("POSTGRES_POOL_SIZE", "1")], 1).await;
    }
    (postgres, tap, fixture)
}

#[tokio::test]
async fn a_select_that_was_seen_before_costs_one_round_trip() {
    let (_postgres, tap, fixture) = tapped().await;
    let select = async || {
        assert_eq!(
            fixture.value(SELECT, &[PgValue::Int4(1)]).await,
            PgValue::Int4(2)
        );
        tap.heard()
    };
    // A time limit, which is not waited for, and the statement.
    assert_eq!(select().await, "QPDSBES");
    for _ in 0..50 {
        assert_eq!(select().await, RUN);
    }
}

#[tokio::test]
async fn a_deadline_that_is_about_the_same_is_not_sent_again() {
    let (_postgres, tap, fixture) = tapped().await;
    let select = async |millis| {
        let client = fixture.within(Duration::from_millis(millis));
        client
            .query(SELECT, &[PgValue::Int4(1)])
            .await
            .unwrap()
            .unwrap();
        tap.heard()
    };
    select(8_700).await;
    let mut told = 0;
    for at in 0..100 {
        // Around the border of a step: once below it, all of these can have the limit below.
        let heard = select(8_680 + at % 50).await;
        assert!(heard == RUN || heard == "QBES", "{heard}");
        told += usize::from(heard != RUN);
    }
    assert!(told <= 1, "{told} times");
    assert_eq!(select(20_000).await, "QBES");
    assert_eq!(select(5_000).await, "QBES");
}

#[tokio::test]
async fn an_actor_that_takes_over_anothers_session_keeps_its_statements() {
    let (_postgres, tap, fixture) = tapped().await;
    let select = async |actor| {
        let client = fixture.client_of(actor);
        client
            .query(SELECT, &[PgValue::Int4(1)])
            .await
            .unwrap()
            .unwrap();
        tap.heard()
    };
    select("app").await;
    // Wiped, and told its time limit again.
    assert_eq!(select("other").await, "QQBES");
    assert_eq!(select("other").await, RUN);
}
