//! A load of requests: nothing is lost, and what was counted is what happened.

use trellis_lattice_tests::http::Connection;

use crate::placement::{APP_AWAY, Placement, TOGETHER};
use crate::shortlink::App;

/// Requests in all.
const REQUESTS: usize = 2_000;

/// Connections that send them.
const CONNECTIONS: usize = 16;

async fn every_click_is_answered_and_counted(placement: Placement) {
    let app = App::deploy(placement).await;
    let short = app.short("https://example.org/popular").await;
    let path = short.strip_prefix(&app.url).expect("a path of the server");
    let clicking = (0..CONNECTIONS).map(async |_| {
        let mut connection = Connection::open(&app.url).await.expect("it listens");
        for _ in 0..REQUESTS / CONNECTIONS {
            let answer = connection.send("GET", path, "").await;
            let answer = answer.expect("the connection is kept");
            assert_eq!(answer.status, 302, "{}", answer.text());
        }
    });
    futures::future::join_all(clicking).await;
    assert_eq!(app.clicks(&short).await, REQUESTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clicks_on_one_host_are_all_counted() {
    every_click_is_answered_and_counted(TOGETHER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_clicks_across_two_hosts_are_all_counted() {
    every_click_is_answered_and_counted(APP_AWAY).await;
}
