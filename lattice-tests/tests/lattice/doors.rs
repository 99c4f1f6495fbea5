//! Key-value providers by both doors: a whole application over each, and nobody can tell which it is.

use std::time::Duration;

use futures::future::join_all;
use trellis_lattice_tests::http::{get, post};
use trellis_lattice_tests::{Setting, eventually};
use trellis_test_backends::Redis;

use crate::setting::over_all_settings;
use crate::shortlink::{App, store_link, wish};

/// Time that each request has.
const DEADLINE: Duration = Duration::from_secs(10);

/// Clicks at once.
const CLICKS: u64 = 64;

/// Clients that shorten the same URL at once.
const CLIENTS: usize = 16;

over_all_settings! {
    the_link_shortener_keeps_its_links_in_jetstream
    the_link_shortener_keeps_its_links_in_redis
}

async fn the_link_shortener_keeps_its_links_in_jetstream(setting: Setting) {
    shortens_follows_and_counts(App::over(setting, "keyvalue-nats", &[], DEADLINE).await).await;
}

async fn the_link_shortener_keeps_its_links_in_redis(setting: Setting) {
    let redis = Redis::start().expect("redis-server is installed");
    let settings = [("url", &*redis.url())];
    shortens_follows_and_counts(App::over(setting, "keyvalue-redis", &settings, DEADLINE).await)
        .await;
}

async fn shortens_follows_and_counts<H>(app: App<H>) {
    let target = "https://example.org/a/long/path?with=query";
    // Whoever shortens a URL at the same time gets the same code: atomics are atomic.
    let links = format!("{}/links", app.url);
    let shortening = (0..CLIENTS).map(async |_| post(&links, wish(target)).await);
    let codes: Vec<_> = join_all(shortening)
        .await
        .into_iter()
        .map(|answer| {
            assert_eq!(answer.status, 201, "{}", answer.text());
            answer.member("code")
        })
        .collect();
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    let short = format!("{}/{}", app.url, codes[0]);

    let clicking = (0..CLICKS).map(async |_| get(&short).await);
    for followed in join_all(clicking).await {
        assert_eq!(followed.status, 302, "{}", followed.text());
        assert_eq!(followed.header("location"), target);
    }
    assert_eq!(app.clicks(&short).await, CLICKS);
    let unknown = get(&format!("{}/zzzzzzz", app.url)).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());

    // A link that has gone refuses the next call, and what was stored is there when it is back.
    let operator = app.lattice.operator();
    let stored = operator.client().links().await.expect("a host answers");
    let link = stored
        .into_iter()
        .find(|link| link.key() == store_link().key())
        .expect("it was put");
    operator.unlink(&link).await;
    eventually("the store is out of reach", async || {
        let answer = get(&short).await;
        (answer.status == 503 && answer.member("detail").contains("no-link")).then_some(())
    })
    .await;
    operator.link(&link).await;
    eventually("the store is in reach again", async || {
        (get(&format!("{short}/stats")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.clicks(&short).await, CLICKS);
}
