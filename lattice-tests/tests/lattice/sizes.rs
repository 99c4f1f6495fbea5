//! Lists in ordinary values: whatever fits comes back as it went, and one element more is refused by its type.

use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::{Door, Lattice, Place, Setting, eventually, http};
use trellis_test_backends::Redis;

use crate::setting::over_all_settings;

const MIB: usize = 1024 * 1024;

/// Largest encoded parameters, or result, of one call: the protocol's.
const VALUE_BYTES_MAX: usize = 4 * MIB;

/// What the encoding of one long parameter costs beside its bytes: an array of one, and a string or list with a length
/// of four bytes.
const OVERHEAD_BYTES: usize = 6;

/// Most elements of one list that travels as dynamic values: the host's.
const ELEMENTS_MAX: usize = MIB;

/// Bytes of one large u64 as an element of a list.
const NUMBER_BYTES: usize = 9;

/// Most bytes of a value in JetStream: a message's, less what its head may need.
const JETSTREAM_VALUE_BYTES: usize = MIB - 1024;

/// Most bytes of a value in Redis: a call's, less room for the key.
const REDIS_VALUE_BYTES: usize = VALUE_BYTES_MAX - 4096;

over_all_settings! {
    a_store_keeps_values_up_to_its_limit_and_tells_what_is_too_large
}

async fn a_store_keeps_values_up_to_its_limit_and_tells_what_is_too_large(setting: Setting) {
    let lattice = Lattice::start().await;
    let hosts = lattice.hosts(setting).await;
    lattice
        .provide(setting.door, &hosts[0], "keyvalue-nats", "kv", &[])
        .await;
    let home = &hosts[setting.actor()];
    let redis = Redis::start().expect("redis-server is installed");
    lattice
        .provide(setting.door, &hosts[0], "keyvalue-redis", "cache", &[])
        .await;
    let url = [("url", &*redis.url())];
    for (provider, settings, largest) in [
        ("kv", &[][..], JETSTREAM_VALUE_BYTES),
        ("cache", &url[..], REDIS_VALUE_BYTES),
    ] {
        let keeper = format!("keeper-of-{provider}");
        lattice.run_as(home, "probe", &keeper, 10, &[]).await;
        let store = link(&keeper, provider, "wasi:keyvalue/store");
        lattice.link_with(store, settings).await;
        let url = lattice.serve(home, &keeper).await;
        keeps_up_to(&url, largest).await;
    }
}

async fn keeps_up_to(url: &str, largest: usize) {
    eventually("the store is in reach", async || {
        let answer = http::get(&format!("{url}/kept?n=1")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    for bytes in [0, 40 * 1024, 40 * 1024 + 1, largest] {
        let answer = http::get(&format!("{url}/kept?n={bytes}")).await;
        assert_eq!(answer.status, 200, "{bytes}: {}", answer.text());
    }
    // The first is more than the store takes, the second more than any call does.
    for (bytes, told) in [(largest + 1, "exceeds"), (VALUE_BYTES_MAX, "too-large")] {
        let answer = http::get(&format!("{url}/kept?n={bytes}")).await;
        assert_eq!(answer.status, 502, "{bytes}: {}", answer.text());
        assert!(answer.text().contains(told), "{bytes}: {}", answer.text());
    }
    let answer = http::get(&format!("{url}/kept?n=7")).await;
    assert_eq!(answer.status, 200, "then all is as before");
}

async fn lists_of_a_custom_interface(place: Place) {
    let lattice = Lattice::start().await;
    let hosts = lattice.hosts(Setting::new(Door::BuiltIn, place)).await;
    lattice.run(&hosts[0], "probe").await;
    lattice
        .run_as(&hosts[hosts.len() - 1], "probe", "far", 10, &[])
        .await;
    let lists = link("probe", "far", "trellis:probe/lists");
    lattice.operator().link(&lists).await;
    let url = lattice.serve(&hosts[0], "probe").await;
    eventually("the other probe is in reach", async || {
        let answer = http::get(&format!("{url}/lists/text?n=1")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let room = VALUE_BYTES_MAX - OVERHEAD_BYTES;
    for (kind, largest) in [
        ("text", room),
        ("bytes", ELEMENTS_MAX),
        ("numbers", room / NUMBER_BYTES),
    ] {
        for count in [0, largest] {
            let answer = http::get(&format!("{url}/lists/{kind}?n={count}")).await;
            assert_eq!(answer.status, 200, "{kind} {count}: {}", answer.text());
        }
        for count in [largest + 1, 4 * largest] {
            let answer = http::get(&format!("{url}/lists/{kind}?n={count}")).await;
            assert_eq!(answer.status, 413, "{kind} {count}: {}", answer.text());
            assert_eq!(answer.member("code"), "too-large");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_custom_interface_pass_up_to_their_limit_on_one_host() {
    lists_of_a_custom_interface(Place::SameHost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_custom_interface_pass_up_to_their_limit_to_another_host() {
    lists_of_a_custom_interface(Place::PeerHost).await;
}
