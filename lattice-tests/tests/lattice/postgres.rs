//! The shop on a real PostgreSQL: orders and stock, and never more sold than there was.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::http::{Answer, get, post};
use trellis_lattice_tests::{AnyHost, Door, Lattice, Place, Setting, eventually};
use trellis_test_backends::Postgres;

use crate::setting::over_all_settings;

/// Time that each request has.
const DEADLINE: Duration = Duration::from_secs(20);

/// What there is, and how many want one of it at the same time.
const STOCK: u64 = 50;
const CLIENTS: usize = 200;

/// The role of the shop, which is not the server's superuser.
pub(crate) const ROLE: &str = "shop";
pub(crate) const PASSWORD: &str = "it's \"open\"";

over_all_settings! {
    the_shop_takes_orders_finds_them_and_pages_through_them
}

/// A server with a role for the shop.
pub(crate) fn server(postgres: Postgres) -> Postgres {
    let password = PASSWORD.replace('\'', "''");
    let role = format!(
        "CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'; GRANT CREATE ON SCHEMA public TO {ROLE}"
    );
    postgres.run(&role).expect("a role can be made");
    postgres
}

/// The settings of a link to a server at an address.
pub(crate) fn settings(address: SocketAddr) -> Vec<(&'static str, String)> {
    [
        ("POSTGRES_HOST", address.ip().to_string()),
        ("POSTGRES_PORT", address.port().to_string()),
        ("POSTGRES_USERNAME", ROLE.to_owned()),
        ("POSTGRES_PASSWORD", PASSWORD.to_owned()),
        ("POSTGRES_DATABASE", "postgres".to_owned()),
    ]
    .into()
}

pub(crate) fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    let pairs = settings.iter();
    pairs.map(|(key, value)| (*key, value.as_str())).collect()
}

/// The shop, deployed.
pub(crate) struct Shop {
    pub(crate) lattice: Lattice,
    pub(crate) hosts: Vec<AnyHost>,
    pub(crate) url: String,
}

impl Shop {
    /// Over a provider that runs as wished on host 0, with these settings of its link. Each request has `deadline`.
    pub(crate) async fn open(
        setting: Setting,
        settings: &[(&str, &str)],
        deadline: Duration,
    ) -> Self {
        let lattice = Lattice::start().await;
        let hosts = lattice.hosts(setting).await;
        lattice
            .provide(setting.door, &hosts[0], "sql-postgres", "sql", &[])
            .await;
        let home = &hosts[setting.actor()];
        let url = install(&lattice, home, "orders", settings, deadline).await;
        Self {
            lattice,
            hosts,
            url,
        }
    }
}

/// Runs the actor under this id, linked to the provider and behind HTTP, and waits until it works; gives back its URL.
async fn install(
    lattice: &Lattice,
    home: &AnyHost,
    id: &str,
    settings: &[(&str, &str)],
    deadline: Duration,
) -> String {
    lattice.run_as(home, "orders", id, 300, &[]).await;
    let database = link(id, "sql", "wasmcloud:postgres/query");
    lattice.link_with(database, settings).await;
    let timeout = deadline.as_millis().to_string();
    let url = lattice
        .serve_with(home, id, &[("timeout_ms", &timeout)])
        .await;
    eventually("the shop is open", async || {
        let answer = get(&format!("{url}/orders")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    url
}

pub(crate) fn wish(item: &str, key: Option<&str>) -> String {
    json!({"item": item, "quantity": 1, "key": key}).to_string()
}

pub(crate) async fn restock(url: &str, item: &str, quantity: u64) -> Answer {
    let answer = post(
        &format!("{url}/stock"),
        json!({"item": item, "quantity": quantity}).to_string(),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn the_shop_takes_orders_finds_them_and_pages_through_them(setting: Setting) {
    let postgres = server(Postgres::start().expect("PostgreSQL is installed"));
    let settings = settings(postgres.address());
    let shop = Shop::open(setting, &borrowed(&settings), DEADLINE).await;
    let (orders, stock) = (
        format!("{}/orders", shop.url),
        format!("{}/stock", shop.url),
    );
    // What clients send is a parameter, whatever it looks like.
    let item = "tea'; DROP TABLE orders; -- é";
    let encoded = "tea%27%3B%20DROP%20TABLE%20orders%3B%20--%20%C3%A9";
    assert_eq!(restock(&shop.url, item, 3).await.member("quantity"), "3");
    assert_eq!(restock(&shop.url, item, 4).await.member("quantity"), "7");

    let placed = post(&orders, wish(item, Some("first"))).await;
    assert_eq!(placed.status, 201, "{}", placed.text());
    assert_eq!(placed.member("item"), item);
    let id = placed.member("id");
    assert_eq!(placed.header("location"), format!("/orders/{id}"));
    let found = get(&format!("{orders}/{id}")).await;
    assert_eq!((found.status, found.json()), (200, placed.json()));
    // A client that asks again, because it heard no answer, has ordered once.
    let again = post(&orders, wish(item, Some("first"))).await;
    assert_eq!((again.status, again.member("id")), (200, id));
    let other = json!({"item": item, "quantity": 2, "key": "first"}).to_string();
    assert_eq!(post(&orders, other).await.status, 409);
    for _ in 0..6 {
        let placed = post(&orders, wish(item, None)).await;
        assert_eq!(placed.status, 201, "{}", placed.text());
    }
    let sold_out = post(&orders, wish(item, None)).await;
    assert_eq!(sold_out.status, 409, "{}", sold_out.text());
    assert_eq!(sold_out.member("left"), "0");
    let left = get(&format!("{stock}/{encoded}")).await;
    assert_eq!(left.member("quantity"), "0", "{}", left.text());

    let (mut after, mut pages) = ("0".to_owned(), Vec::new());
    loop {
        let page = get(&format!("{orders}?after={after}&limit=3")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let ids: Vec<_> = page.json()["orders"]
            .as_array()
            .expect("orders are a list")
            .iter()
            .map(|order| order["id"].as_i64().expect("ids are numbers"))
            .collect();
        pages.push(ids);
        after = page.member("next");
        if after.is_empty() {
            break;
        }
    }
    let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [3, 3, 1]);
    assert!(pages.concat().is_sorted(), "{pages:?}");
    for (answer, status) in [
        (get(&format!("{orders}/999999999")).await, 404),
        (get(&format!("{stock}/coffee")).await, 404),
        (get(&format!("{orders}?limit=0")).await, 400),
        (post(&orders, "{").await, 400),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let counted = postgres.run("SELECT count(*) FROM orders");
    assert_eq!(counted.expect("the server answers").trim(), "7");
}

async fn concurrent_orders_sell_what_there_is(door: Door) {
    let postgres = server(Postgres::start().expect("PostgreSQL is installed"));
    let settings = settings(postgres.address());
    let shop = Shop::open(
        Setting::new(door, Place::SameHost),
        &borrowed(&settings),
        DEADLINE,
    )
    .await;
    // A second shop on another host: its statements cross to the provider of the first.
    let branch = shop.lattice.host("branch").start().await;
    let branch = AnyHost::Here(branch);
    let settings = borrowed(&settings);
    let second = install(&shop.lattice, &branch, "orders-too", &settings, DEADLINE).await;
    restock(&shop.url, "tea", STOCK).await;

    let ordering = (0..CLIENTS).map(async |number| {
        let url = if number % 2 == 0 { &shop.url } else { &second };
        post(&format!("{url}/orders"), wish("tea", None)).await
    });
    let answers = join_all(ordering).await;
    let sold = |number: usize| answers[number].status == 201;
    for answer in &answers {
        match answer.status {
            201 => {}
            409 => assert_eq!(answer.member("left"), "0", "{}", answer.text()),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let (first, branch): (Vec<_>, Vec<_>) = (0..CLIENTS)
        .filter(|number| sold(*number))
        .partition(|number| number % 2 == 0);
    assert_eq!((first.len() + branch.len()) as u64, STOCK);
    assert!(!first.is_empty() && !branch.is_empty(), "both sell");
    let told = postgres.run("SELECT (SELECT count(*) FROM orders), quantity FROM stock");
    let told = told.expect("the server answers");
    assert_eq!(told.trim(), format!("{STOCK}|0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_orders_of_two_hosts_sell_the_fifty_pieces_there_are() {
    concurrent_orders_sell_what_there_is(Door::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_orders_through_a_provider_process_sell_the_same_fifty() {
    concurrent_orders_sell_what_there_is(Door::Process).await;
}
