//! Links in a state that anybody can write: which take effect, and which that once did are over.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::time::SystemTime;

use trellis_claims::{CommandSigner, KeyKind, SigningKey};

use super::*;

struct Lattice {
    signer: CommandSigner,
    dir: tempfile::TempDir,
}

impl Lattice {
    fn new() -> Self {
        let account = Arc::new(SigningKey::generate(KeyKind::Account));
        Self {
            signer: CommandSigner::new(account, None).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn trust(&self) -> LinkTrust {
        let mut roots = TrustRoots::default();
        roots.insert(self.signer.account().clone()).unwrap();
        LinkTrust::open(self.dir.path(), "default", Arc::new(roots), true)
    }

    fn put(&self, link: &Link, at: u64) -> StoredLink {
        let token = self
            .signer
            .sign_link("default", &link.statement(), when(at));
        stored(link, Some(&token.unwrap()))
    }

    fn delete(&self, link: &Link, at: u64) -> Arc<str> {
        let token = self
            .signer
            .sign_link("default", &link.key().deletion(), when(at));
        token.unwrap().into()
    }
}

/// So many milliseconds after a moment of the test, which is some seconds ago.
fn when(at: u64) -> SystemTime {
    let minute = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 60
        * 60;
    SystemTime::UNIX_EPOCH + Duration::from_secs(minute) - Duration::from_secs(60)
        + Duration::from_millis(at)
}

fn link(target: &str, interfaces: &[&str]) -> Link {
    Link {
        source_id: "a".parse().unwrap(),
        target: target.parse().unwrap(),
        name: "default".parse().unwrap(),
        wit_namespace: "wasi".into(),
        wit_package: "keyvalue".into(),
        interfaces: interfaces.iter().map(|i| (*i).to_owned()).collect(),
        source_config: vec![],
        target_config: vec![],
    }
}

fn stored(link: &Link, token: Option<&str>) -> StoredLink {
    StoredLink {
        link: Arc::new(link.clone()),
        signature: token.map(Arc::from),
    }
}

fn judge(trust: &LinkTrust, links: &[StoredLink], deletions: &[Arc<str>]) -> Vec<bool> {
    trust.judge(&"a".parse().unwrap(), links, deletions).links
}

#[test]
fn only_what_a_trusted_account_signed_takes_effect() {
    let (lattice, stranger) = (Lattice::new(), Lattice::new());
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    let good = lattice.put(&link, 0);
    let mut widened = link.clone();
    widened.interfaces.push("batch".to_owned());
    let links = [
        good.clone(),
        stored(&link, None),
        stored(&link, Some("a.b.c")),
        stranger.put(&link, 0),
        stored(&widened, good.signature.as_deref()),
        stored(&link, Some(&lattice.delete(&link, 0))),
    ];
    assert_eq!(
        judge(&trust, &links, &[]),
        [true, false, false, false, false, false]
    );
    let elsewhere = lattice
        .signer
        .sign_link("other", &link.statement(), when(0))
        .unwrap();
    assert_eq!(
        judge(&trust, &[stored(&link, Some(&elsewhere))], &[]),
        [false]
    );
}

#[test]
fn a_deleted_link_that_is_written_back_takes_no_effect() {
    let lattice = Lattice::new();
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    let old = lattice.put(&link, 0);
    assert_eq!(judge(&trust, std::slice::from_ref(&old), &[]), [true]);
    judge(&trust, &[], &[lattice.delete(&link, 1)]);
    // The statement is taken out of the state again.
    assert_eq!(judge(&trust, &[old], &[]), [false]);
    assert_eq!(judge(&trust, &[lattice.put(&link, 2)], &[]), [true]);
}

#[test]
fn a_link_that_was_replaced_takes_no_effect_beside_or_instead_of_the_new_one() {
    let lattice = Lattice::new();
    let wide = lattice.put(&link("kv", &["store", "batch"]), 0);
    let narrow = lattice.put(&link("kv", &["store"]), 1);
    let trust = lattice.trust();
    assert_eq!(
        judge(&trust, &[wide.clone(), narrow.clone()], &[]),
        [false, true]
    );
    assert_eq!(judge(&trust, std::slice::from_ref(&wide), &[]), [false]);
    assert_eq!(judge(&trust, &[narrow], &[]), [true]);
    assert!(!trust.is_signed(&wide));
}

#[test]
fn links_to_two_targets_stand_beside_each_other_and_are_deleted_together() {
    let lattice = Lattice::new();
    let trust = lattice.trust();
    let (first, second) = (link("kv", &["store"]), link("other", &["batch"]));
    let links = [lattice.put(&first, 1), lattice.put(&second, 0)];
    assert_eq!(judge(&trust, &links, &[]), [true, true]);
    assert_eq!(
        judge(&trust, &links, &[lattice.delete(&first, 2)]),
        [false, false]
    );
}

#[test]
fn a_deletion_counts_for_its_own_source_alone() {
    let lattice = Lattice::new();
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    let mut of_another = link.clone();
    of_another.source_id = "b".parse().unwrap();
    let links = [lattice.put(&link, 0)];
    let misplaced = [lattice.delete(&of_another, 5), "nonsense".into()];
    assert_eq!(judge(&trust, &links, &misplaced), [true]);
}

#[tokio::test]
async fn what_was_seen_outlives_the_host() {
    let lattice = Lattice::new();
    let link = link("kv", &["store"]);
    let old = lattice.put(&link, 0);
    let trust = Arc::new(lattice.trust());
    judge(&trust, &[], &[lattice.delete(&link, 1)]);
    judge(&trust, &[lattice.put(&link, 3)], &[]);
    let cancel = CancellationToken::new();
    cancel.cancel();
    trust.keep(cancel).await;
    let written = Arc::new(lattice.trust());
    assert_eq!(judge(&written, &[old], &[]), [false]);
    assert_eq!(judge(&written, &[lattice.put(&link, 2)], &[]), [false]);
    assert_eq!(judge(&written, &[lattice.put(&link, 3)], &[]), [true]);
}

#[test]
fn a_put_is_judged_before_it_is_written() {
    let lattice = Lattice::new();
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    let body = |stored: &StoredLink| SignedLink {
        link: Link::clone(&stored.link),
        proof: stored
            .signature
            .as_deref()
            .map(|token| trellis_protocol::control::LinkProof {
                signature: token.to_owned(),
            }),
    };
    let code = |stored: &StoredLink| trust.check_put(&body(stored)).map_err(|r| r.code);
    assert_eq!(code(&stored(&link, None)), Err("unsigned"));
    assert_eq!(code(&stored(&link, Some("x"))), Err("signature-malformed"));
    assert_eq!(
        code(&Lattice::new().put(&link, 0)),
        Err("signature-untrusted")
    );
    assert_eq!(
        code(&stored(&link, Some(&lattice.delete(&link, 0)))),
        Err("signature-mismatch")
    );
    let old = lattice.put(&link, 0);
    assert_eq!(code(&old), Ok(()));
    judge(&trust, &[], &[lattice.delete(&link, 1)]);
    assert_eq!(code(&old), Err("signature-replayed"));
}

#[test]
fn a_deletion_that_was_signed_before_the_link_deletes_nothing() {
    let lattice = Lattice::new();
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    let deletion = |at| SignedDeletion {
        key: link.key(),
        proof: Some(trellis_protocol::control::LinkProof {
            signature: lattice.delete(&link, at).to_string(),
        }),
    };
    let code = |deletion: &SignedDeletion| trust.check_deletion(deletion).map_err(|r| r.code);
    assert_eq!(code(&deletion(0)), Ok(()));
    assert_eq!(judge(&trust, &[lattice.put(&link, 1)], &[]), [true]);
    assert_eq!(code(&deletion(0)), Err("signature-replayed"));
    assert_eq!(code(&deletion(2)), Ok(()));
    assert_eq!(code(&link.key().into()), Err("unsigned"));
}

#[test]
fn a_damaged_file_costs_the_damaged_lines() {
    let lattice = Lattice::new();
    let text = r#"{"source_id":"a","name":"default","wit_namespace":"wasi","wit_package":"keyvalue","at":99999999999999}
{"source_id":"a",
"#;
    fs::write(lattice.dir.path().join(FILE_NAME), text).unwrap();
    let trust = lattice.trust();
    let link = link("kv", &["store"]);
    assert_eq!(judge(&trust, &[lattice.put(&link, 0)], &[]), [false]);
}
