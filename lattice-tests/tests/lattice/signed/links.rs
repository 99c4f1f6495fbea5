//! Links in a bucket that others can write.

use trellis_lattice_tests::deploy::link;
use trellis_protocol::Link;

use super::*;

/// What the tests try to have believed: a link from `a` to `kv`.
fn wanted() -> Link {
    link("a", "kv", "wasi:keyvalue/store")
}

fn sign_link(signer: &CommandSigner, lattice: &str, link: &Link) -> String {
    signer
        .sign_link(lattice, &link.statement(), SystemTime::now())
        .expect("a link can be signed")
}

/// Waits until the host has seen the bucket as it is now, and says which links it believes.
async fn believed(site: &Site, bucket: &jetstream::kv::Store) -> Vec<Link> {
    let mut status = bucket.stream.clone();
    let last = status
        .info()
        .await
        .expect("the bucket answers")
        .state
        .last_sequence;
    let state = site.host.host().state();
    let applied = trellis_lattice::state::Bucket::LatticeData;
    assert!(
        state.applied(applied, last, Duration::from_secs(10)).await,
        "the host follows the bucket"
    );
    let view = state.view();
    view.links_from(&wanted().source_id)
        .iter()
        .map(|link| Link::clone(link))
        .collect()
}

/// Whether `link.get` says of each stored link that it is signed.
async fn listed(site: &Site) -> Vec<bool> {
    let links = site.lattice.operator().client().listed_links().await;
    let links = links.expect("a host answers").into_iter();
    links.map(|listed| listed.signed == Some(true)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_written_straight_into_the_bucket_takes_no_effect() {
    let site = Site::start().await;
    let bucket = bucket(&site).await;
    let link = wanted();
    let trusted = site.lattice.signer();
    let good = sign_link(&trusted, site.lattice.name(), &link);
    let mut widened = link.clone();
    widened.interfaces.push("batch".to_owned());
    let mut reconfigured = link.clone();
    reconfigured.target_config.push("limits".to_owned());
    let mut elsewhere = link.clone();
    elsewhere.target = "other".parse().expect("an id");
    let deletion = trusted
        .sign_link(
            site.lattice.name(),
            &link.key().deletion(),
            SystemTime::now(),
        )
        .expect("a deletion can be signed");
    for (why, entry) in [
        ("unsigned", entry(&link, None)),
        ("garbage", entry(&link, Some("a.b.c".to_owned()))),
        (
            "another account",
            entry(
                &link,
                Some(sign_link(&another_account(), site.lattice.name(), &link)),
            ),
        ),
        (
            "another lattice",
            entry(&link, Some(sign_link(&trusted, "production", &link))),
        ),
        ("more interfaces", entry(&widened, Some(good.clone()))),
        ("configuration", entry(&reconfigured, Some(good.clone()))),
        ("another target", entry(&elsewhere, Some(good.clone()))),
        ("a deletion", entry(&link, Some(deletion))),
    ] {
        let value = json!({"url": "", "links": [entry]});
        overwrite(&bucket, "a", &value).await;
        assert_eq!(believed(&site, &bucket).await, [], "{why}");
        assert_eq!(listed(&site).await, [false], "{why}");
    }
    // What is signed takes effect whoever wrote it.
    let value = json!({"url": "", "links": [entry(&widened, None), entry(&link, Some(good))]});
    overwrite(&bucket, "a", &value).await;
    assert_eq!(believed(&site, &bucket).await, [link]);
    assert_eq!(listed(&site).await, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_link_cannot_be_put_back_by_whoever_kept_it() {
    let site = Site::start().await;
    let bucket = bucket(&site).await;
    let operator = site.lattice.operator();
    operator.link(&wanted()).await;
    let kept = stored(&bucket, "a").await;
    assert_eq!(believed(&site, &bucket).await, [wanted()]);
    operator.unlink(&wanted()).await;
    assert_eq!(believed(&site, &bucket).await, []);
    let deleted = stored(&bucket, "a").await;
    assert!(deleted["trellis"]["deleted"][0]["signature"].is_string());
    // The value as it was, so without what was signed about the deletion.
    overwrite(&bucket, "a", &kept).await;
    assert_eq!(believed(&site, &bucket).await, []);

    // A host that comes later learns of the deletion from the state, if nobody has removed it there.
    let mut both = deleted.clone();
    both["links"] = kept["links"].clone();
    overwrite(&bucket, "a", &both).await;
    let late = strict(&site.lattice, "late").await;
    let view = late.host().state().view();
    assert_eq!(view.links_from(&wanted().source_id), []);

    // And whoever holds a trusted key can put it again.
    operator.link(&wanted()).await;
    assert_eq!(believed(&site, &bucket).await, [wanted()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_narrowed_cannot_be_widened_again_by_whoever_kept_it() {
    let site = Site::start().await;
    let bucket = bucket(&site).await;
    let operator = site.lattice.operator();
    let wide = link("a", "kv", "wasi:keyvalue/store,batch");
    operator.link(&wide).await;
    let kept = stored(&bucket, "a").await;
    operator.link(&wanted()).await;
    assert_eq!(believed(&site, &bucket).await, [wanted()]);
    overwrite(&bucket, "a", &kept).await;
    assert_eq!(believed(&site, &bucket).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_of_a_client_that_signs_its_commands_but_not_the_link_is_refused() {
    let site = Site::start().await;
    let mut put = site.label();
    put.subject = site.subjects().control("link", "put");
    put.body = serde_json::to_vec(&wanted()).expect("links are JSON");
    let reply = site.send(&put.with(site.sign(&put))).await;
    assert_eq!(reply.code(), "unsigned", "{}", reply.message);
    let bucket = bucket(&site).await;
    assert_eq!(believed(&site, &bucket).await, []);

    // With the signature of another link it is no better.
    let other = link("a", "other", "wasi:keyvalue/store");
    let signature = sign_link(&site.lattice.signer(), site.lattice.name(), &other);
    put.body = serde_json::to_vec(&entry(&wanted(), Some(signature))).expect("links are JSON");
    let reply = site.send(&put.with(site.sign(&put))).await;
    assert_eq!(reply.code(), "signature-mismatch", "{}", reply.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_insist_stores_links_that_one_that_does_passes_over() {
    let site = Site::start().await;
    let bucket = bucket(&site).await;
    let lenient = site.lattice.host("lenient").start().await;
    // Commands about links go to either, so this is tried until the lenient one has taken it.
    let mut put = site.label();
    put.subject = site.subjects().control("link", "put");
    put.body = serde_json::to_vec(&wanted()).expect("links are JSON");
    eventually("the lenient host takes an unsigned link", async || {
        site.send(&put).await.success.then_some(())
    })
    .await;
    assert_eq!(believed(&site, &bucket).await, []);
    let view = lenient.host().state().view();
    assert_eq!(view.links_from(&wanted().source_id).len(), 1);
    // The unsigned one stands in nobody's way, though it leads elsewhere.
    let other = link("a", "other", "wasi:keyvalue/store");
    eventually("the strict host takes a signed link", async || {
        let put = site.lattice.operator().client().put_link(&other).await;
        put.is_ok().then_some(())
    })
    .await;
    assert_eq!(believed(&site, &bucket).await, [other]);
}
