//! Archives of providers, from everywhere.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use trellis_artifacts::{
    Archive, ArchiveBuilder, ArtifactOptions, Artifacts, FetchError, Kind, Program, Upload,
    media_type,
};
use trellis_claims::{KeyKind, Platform, SigningKey, TrustRoots, UnixTime, Validity};
use trellis_test_backends::Registry;
use trellis_test_backends::faulty::{Fault, FaultyRegistry};

use crate::fixture::{Provider, files_below, image, options, reference, token};

fn trusting(cache: &Path, registry: &str, trust: TrustRoots) -> Artifacts {
    let options = ArtifactOptions {
        insecure_registries: vec![registry.to_owned()],
        trust,
        ..options(cache)
    };
    Artifacts::open(options, None).unwrap()
}

/// Fetches an archive from a registry that has it.
async fn fetched(
    archive: Vec<u8>,
    trust: TrustRoots,
) -> Result<(Program, tempfile::TempDir), FetchError> {
    let cache = tempfile::tempdir().unwrap();
    let image = image(archive, media_type::PROVIDER_ARCHIVE);
    let registry = FaultyRegistry::start(image, Fault::None).await.unwrap();
    let artifacts = trusting(cache.path(), &registry.name(), trust);
    let wanted = reference(format!("{}/p:1", registry.name()));
    let artifact = artifacts.fetch(&wanted, Kind::Provider, |_| {}).await;
    if artifact.is_err() {
        assert!(files_below(&cache.path().join("programs")).is_empty());
    }
    Ok((artifact?.program().unwrap().clone(), cache))
}

#[tokio::test]
async fn a_provider_is_pushed_fetched_believed_and_can_be_run() {
    let registry = Registry::start().unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = Provider::new();
    let name = reference(format!("{}/providers/testing:1", registry.name()));
    let archive = one.path().join("testing.par");
    std::fs::write(&archive, &provider.archive).unwrap();
    let publisher = trusting(one.path(), &registry.name(), TrustRoots::default());
    publisher
        .push(
            &name,
            Kind::Provider,
            Upload::File(&archive),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .unwrap();
    let host = trusting(other.path(), &registry.name(), provider.trust());
    let artifact = host.fetch(&name, Kind::Provider, |_| {}).await.unwrap();
    assert_eq!(artifact.media_type, media_type::PROVIDER_ARCHIVE);
    let program = artifact.program().unwrap();
    let claims = program.claims.as_ref().unwrap();
    assert_eq!(claims.name, "testing");
    assert_eq!(claims.issuer, *provider.account.public());
    assert_eq!(std::fs::read(&program.path).unwrap(), provider.program);
    assert!(
        std::process::Command::new(&program.path)
            .status()
            .unwrap()
            .success()
    );

    // A program that was changed on the disk is not handed out again.
    std::fs::remove_file(&program.path).unwrap();
    std::fs::write(&program.path, b"#!/bin/sh\nexit 1\n").unwrap();
    let again = host.fetch(&name, Kind::Provider, |_| {}).await.unwrap();
    let again = &again.program().unwrap().path;
    assert_eq!(std::fs::read(again).unwrap(), provider.program);
}

#[tokio::test]
async fn nobody_elses_archive_is_run() {
    let provider = Provider::new();
    let stranger = Provider::new();
    let error = fetched(provider.archive.clone(), stranger.trust())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "archive-untrusted");
    assert!(error.to_string().contains("trust root"), "{error}");
    fetched(provider.archive.clone(), provider.trust())
        .await
        .unwrap();

    // One byte of the program, near the end of the archive.
    let mut changed = provider.archive.clone();
    let at = changed.len() - 1024 - 512;
    changed[at] ^= 1;
    let error = fetched(changed, provider.trust()).await.unwrap_err();
    assert_eq!(error.code(), "archive-untrusted", "{error}");
    assert!(
        error.to_string().contains("not the one that was signed"),
        "{error}"
    );
}

#[tokio::test]
async fn an_archive_for_other_machines_says_for_which() {
    let provider = Provider::for_platform(Platform::new("s390x", "linux").unwrap());
    let error = fetched(provider.archive.clone(), provider.trust())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "platform-missing");
    assert!(error.to_string().contains("s390x-linux"), "{error}");
    // Or says it is for this one, and is not.
    let mut foreign = std::fs::read("/bin/true").unwrap();
    foreign[18..20].copy_from_slice(&[22, 0]);
    let provider = Provider::of(Platform::here(), foreign);
    let error = fetched(provider.archive.clone(), provider.trust())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "platform-missing", "{error}");
}

#[tokio::test]
async fn what_is_no_archive_is_told_apart() {
    let provider = Provider::new();
    let trust = provider.trust();
    for (content, code) in [
        (b"".to_vec(), "artifact-empty"),
        (provider.archive[..1000].to_vec(), "archive-invalid"),
        (
            provider.archive[..provider.archive.len() - 2000].to_vec(),
            "archive-invalid",
        ),
        (
            b"\x1f\x8b\x08 gzip of wasmCloud".to_vec(),
            "archive-invalid",
        ),
        (provider.program.clone(), "not-a-provider"),
        (crate::fixture::component(10), "not-a-provider"),
    ] {
        let length = content.len();
        let error = fetched(content, trust.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{length}: {error}");
    }
}

#[test]
fn an_archive_gains_a_platform_and_a_new_signature() {
    let provider = Provider::new();
    let mut archive = Archive::open(Cursor::new(&provider.archive)).unwrap();
    let validity = Validity::starting(UnixTime::now(), std::time::Duration::from_secs(60));
    let other = Platform::new("s390x", "linux").unwrap();
    let mut both = Vec::new();
    let mut builder = ArchiveBuilder::from_archive(&mut archive, validity)
        .unwrap()
        .executable_bytes(other.clone(), b"for another".to_vec());
    builder.token_mut().revision = 2;
    let account = SigningKey::generate(KeyKind::Account);
    builder.sign(&account, UnixTime::now(), &mut both).unwrap();

    let mut both = Archive::open(Cursor::new(&both)).unwrap();
    assert_eq!(both.claims_unverified().revision, 2);
    assert_eq!(
        both.claims_unverified().subject,
        archive.claims_unverified().subject
    );
    for (platform, content) in [
        (other, &b"for another"[..]),
        (Platform::here(), &provider.program),
    ] {
        let mut out = Vec::new();
        both.extract(&platform, &mut out).unwrap();
        assert_eq!(out, content);
    }
    assert!(both.verify(&provider.trust(), UnixTime::now()).is_err());
}

#[test]
fn an_archive_is_the_same_bytes_from_the_same_content_but_for_its_manifest() {
    let bytes = |archive: &[u8]| {
        let read = Archive::open(Cursor::new(archive)).unwrap();
        let first = read.executables().values().next().copied().unwrap();
        let start = usize::try_from(first.offset).unwrap() - 512;
        archive[start..].to_vec()
    };
    assert_eq!(
        bytes(&Provider::new().archive),
        bytes(&Provider::new().archive)
    );
}

#[test]
fn an_archive_with_any_byte_of_a_header_changed_never_panics_and_is_never_believed_to_be_more() {
    let provider = Provider::of(Platform::here(), b"#!/bin/sh\n".to_vec());
    let whole = &provider.archive;
    for index in (0..512).chain(whole.len() - 2048..whole.len()) {
        for value in [0, 1, b'7', 0x80, 0xff] {
            let mut changed = whole.clone();
            if changed[index] == value {
                continue;
            }
            changed[index] = value;
            if let Ok(mut archive) = Archive::open(Cursor::new(&changed)) {
                let mut out = Vec::new();
                if archive.extract(&Platform::here(), &mut out).is_ok() {
                    assert_eq!(out, provider.program, "{index}");
                }
            }
        }
    }
    for length in 0..whole.len() {
        assert!(
            Archive::open(Cursor::new(&whole[..length])).is_err(),
            "{length}"
        );
    }
    let mut longer = whole.clone();
    longer.extend([0; 512]);
    Archive::open(Cursor::new(&longer)).unwrap();
    longer.extend([1; 512]);
    assert!(Archive::open(Cursor::new(&longer)).is_err());
}

#[test]
fn an_archive_of_another_making_is_refused() {
    let entry = |name: &str, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        // As they stand: `set_path` would refuse some.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_entry_type(kind);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let refused = |entries: &[Vec<u8>]| {
        let mut archive = entries.concat();
        archive.extend([0; 1024]);
        Archive::open(Cursor::new(archive)).unwrap_err()
    };
    let regular = tar::EntryType::Regular;
    let provider = Provider::of(Platform::here(), b"#!/bin/sh\n".to_vec());
    let manifest = {
        let archive = Archive::open(Cursor::new(&provider.archive)).unwrap();
        entry("manifest.jwt", regular, archive.token().as_bytes())
    };
    let platform = format!("bin/{}", Platform::here());
    let program = entry(&platform, regular, b"#!/bin/sh\n");
    for entries in [
        vec![],
        vec![program.clone(), manifest.clone()],
        vec![manifest.clone()],
        vec![manifest.clone(), program.clone(), program.clone()],
        vec![
            manifest.clone(),
            program.clone(),
            entry("bin/x-y", regular, b"z"),
        ],
        vec![
            manifest.clone(),
            program.clone(),
            entry("../etc/passwd", regular, b"z"),
        ],
        vec![
            manifest.clone(),
            entry(&platform, tar::EntryType::Symlink, b""),
        ],
        vec![manifest.clone(), entry(&platform, regular, b"#!/bin/sh\n ")],
        vec![
            entry("manifest.jwt", regular, b"no.jwt.here"),
            program.clone(),
        ],
        vec![
            entry("manifest.jwt", regular, &[b'x'; 70_000]),
            program.clone(),
        ],
    ] {
        let error = refused(&entries);
        assert_eq!(error.code(), "archive-invalid", "{error}");
    }
    let foreign = refused(&[entry("claims.jwt", regular, b"x")]);
    assert!(foreign.to_string().contains("wasmCloud 1.x"), "{foreign}");
}

#[test]
fn an_archive_without_executables_or_with_an_empty_one_is_not_made() {
    let account = SigningKey::generate(KeyKind::Account);
    let sign = |builder: ArchiveBuilder| {
        builder
            .sign(&account, UnixTime::now(), &mut Vec::new())
            .unwrap_err()
    };
    assert_eq!(
        sign(ArchiveBuilder::new(token())).code(),
        "archive-unsigned"
    );
    let empty = ArchiveBuilder::new(token()).executable_bytes(Platform::here(), Vec::new());
    assert!(sign(empty).to_string().contains("is empty"));
    let missing = ArchiveBuilder::new(token()).executable(Platform::here(), Path::new("/none"));
    assert_eq!(sign(missing).code(), "artifact-unreadable");
}

#[tokio::test]
async fn pushing_something_else_as_a_provider_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let artifacts = trusting(cache.path(), "r:1", TrustRoots::default());
    let program = Bytes::from(std::fs::read("/bin/true").unwrap());
    let error = artifacts
        .push(
            &reference("r:1/p:1"),
            Kind::Provider,
            Upload::Bytes(&program),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not-a-provider");
    assert!(error.to_string().contains("wash par create"), "{error}");
}
