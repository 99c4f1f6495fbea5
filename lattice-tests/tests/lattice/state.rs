//! The lattice's state: everybody's writes survive, and changes are seen live.

use futures::future::join_all;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::{Lattice, eventually};

use crate::placement::CALLEES_AWAY;
use crate::shortlink::App;

#[tokio::test(flavor = "multi_thread")]
async fn links_that_many_put_at_once_all_survive() {
    let lattice = Lattice::start().await;
    let _hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    ];
    let operators = [
        lattice.another_operator().await,
        lattice.another_operator().await,
    ];
    // All of them under one source, so that they meet in one key of the state.
    let links: Vec<_> = (0..20)
        .map(|number| {
            link(
                "busy",
                &format!("target-{number}"),
                &format!("test:p{number}/i"),
            )
        })
        .collect();
    let putting = links
        .iter()
        .enumerate()
        .map(|(number, link)| operators[number % 2].link(link));
    join_all(putting).await;
    let stored = eventually("every link is listed", async || {
        let stored = operators[0].client().links().await.ok()?;
        (stored.len() == links.len()).then_some(stored)
    })
    .await;
    for link in &links {
        assert!(stored.contains(link), "{link:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_target_for_the_same_interface_is_refused() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let operator = lattice.operator();
    operator.link(&link("s", "t", "test:p/i,j")).await;
    let refused = operator
        .client()
        .put_link(&link("s", "u", "test:p/j"))
        .await;
    refused.expect_err("the interface goes to another target already");
    operator.link(&link("s", "t", "test:p/i,j")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_configuration_that_is_not_there_is_refused() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let mut wanting = link("s", "t", "test:p/i");
    wanting.target_config = vec!["missing".to_owned()];
    let refused = lattice.operator().client().put_link(&wanting).await;
    let error = refused.expect_err("there is no such configuration");
    assert!(error.to_string().contains("missing"), "{error}");
    lattice.operator().configure("missing", &[("k", "v")]).await;
    lattice.operator().link(&wanting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_sees_a_changed_configuration_without_a_restart() {
    let app = App::deploy(CALLEES_AWAY).await;
    assert_eq!(
        app.shorten("https://example.org/")
            .await
            .member("short_url"),
        ""
    );
    for base in ["https://s.example", "https://t.example/x"] {
        app.lattice
            .operator()
            .configure("shortlink", &[("base_url", base)])
            .await;
        eventually("the base of short urls has changed", async || {
            let short = app
                .shorten("https://example.org/")
                .await
                .member("short_url");
            short.starts_with(&format!("{base}/")).then_some(())
        })
        .await;
    }
    app.lattice
        .operator()
        .configure("shortlink", &[("base_url", "no url")])
        .await;
    eventually("a configuration that makes no sense is told", async || {
        (app.shorten("https://example.org/").await.status == 500).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_is_listed_with_what_it_runs() {
    let app = App::deploy(CALLEES_AWAY).await;
    let client = app.lattice.operator().client();
    let hosts = client.ping(std::time::Duration::from_secs(5)).await;
    let hosts = hosts.expect("hosts answer");
    assert_eq!(hosts.len(), 2);
    assert!(hosts.iter().all(|host| host.lattice == app.lattice.name()));
    let here = client.inventory(app.hosts[0].host().id()).await;
    let here = here.expect("the host answers");
    let ids: Vec<_> = here.components.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["shortlink"]);
    let claims = client.claims().await.expect("a host answers");
    let names: Vec<_> = claims
        .iter()
        .map(|claims| claims["name"].as_str())
        .collect();
    assert!(
        names.contains(&"shortlink") && names.contains(&"codemaker"),
        "{names:?}"
    );
}
