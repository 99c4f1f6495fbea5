#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn cache(bytes_max: u64) -> (TempDir, Arc<Cache>) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(directory.path()), bytes_max).unwrap();
    (directory, Arc::new(cache))
}

fn keep(cache: &Arc<Cache>, content: &[u8]) -> Kept {
    let mut draft = cache.draft(Some(content.len() as u64)).unwrap();
    draft.add(content).unwrap();
    draft.keep(Shelf::Blobs).unwrap()
}

fn find(cache: &Cache, content: &[u8]) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    let kept = cache.find(Shelf::Blobs, &Digest::of(content), &mut found);
    kept.unwrap().map(|_| found)
}

fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn what_is_kept_is_found_again_by_another_process_too() {
    let (directory, cache) = cache(1000);
    assert_eq!(find(&cache, b"content"), None);
    keep(&cache, b"content");
    assert_eq!(find(&cache, b"content").unwrap(), b"content");
    let other = Cache::open(Some(directory.path()), 1000).unwrap();
    assert_eq!(find(&other, b"content").unwrap(), b"content");
}

#[test]
fn what_was_changed_is_not_loaded_and_is_removed() {
    let (directory, cache) = cache(1000);
    let path = keep(&cache, b"content").path;
    let length = fs::metadata(&path).unwrap().len();
    for damage in 0..length {
        let mut bytes = b"content".to_vec();
        bytes[usize::try_from(damage).unwrap()] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(find(&cache, b"content"), None);
        assert_eq!(files_below(directory.path()), 0);
        keep(&cache, b"content");
    }
    fs::write(&path, b"conten").unwrap();
    assert_eq!(find(&cache, b"content"), None);
    fs::write(&path, b"").unwrap();
    assert_eq!(find(&cache, b"content"), None);
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(find(&cache, b"content"), None);
    fs::create_dir(&path).unwrap();
    assert_eq!(find(&cache, b"content"), None);
    keep(&cache, b"content");
    assert_eq!(find(&cache, b"content").unwrap(), b"content");
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let (directory, cache) = cache(1000);
    let mut draft = cache.draft(None).unwrap();
    draft.add(b"half of it").unwrap();
    assert_eq!(files_below(directory.path()), 1);
    drop(draft);
    assert_eq!(files_below(directory.path()), 0);
}

#[test]
fn a_draft_that_restarts_is_only_what_came_afterwards() {
    let (_directory, cache) = cache(1000);
    let mut draft = cache.draft(None).unwrap();
    draft.add(b"something long").unwrap();
    draft.restart().unwrap();
    draft.add(b"short").unwrap();
    assert_eq!((draft.bytes(), draft.digest()), (5, Digest::of(b"short")));
    draft.keep(Shelf::Blobs).unwrap();
    assert_eq!(find(&cache, b"short").unwrap(), b"short");
}

#[test]
fn the_longest_unused_goes_first_and_what_is_in_use_stays() {
    let (_directory, cache) = cache(30);
    let age = |kept: &Kept, secs| {
        let file = OpenOptions::new().append(true).open(&kept.path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(secs))
            .unwrap();
    };
    let in_use = keep(&cache, b"aaaaaaaaaa");
    age(&in_use, 300);
    let old = keep(&cache, b"bbbbbbbbbb");
    age(&old, 200);
    drop(old);
    let newer = keep(&cache, b"cccccccccc");
    age(&newer, 100);
    drop(newer);
    drop(keep(&cache, b"dddddddddd"));
    assert!(find(&cache, b"aaaaaaaaaa").is_some());
    assert!(find(&cache, b"bbbbbbbbbb").is_none());
    assert!(find(&cache, b"cccccccccc").is_some());
    assert!(find(&cache, b"dddddddddd").is_some());
    // Found means used: now `c` is younger than `d` was.
    let all = [
        in_use,
        keep(&cache, b"dddddddddd"),
        keep(&cache, b"cccccccccc"),
    ];
    assert!(matches!(cache.draft(Some(1)), Err(CacheError::Full { .. })));
    drop(all);
    assert!(cache.draft(Some(1)).is_ok());
}

#[test]
fn as_much_as_the_cache_may_hold_is_kept_and_one_byte_more_is_refused() {
    let (directory, cache) = cache(10);
    keep(&cache, b"0123456789");
    let error = cache.draft(Some(11)).unwrap_err();
    assert_eq!(error.code(), "cache-full");
    let mut draft = cache.draft(None).unwrap();
    draft.add(b"0123456789a").unwrap();
    assert_eq!(draft.keep(Shelf::Blobs).unwrap_err().code(), "cache-full");
    assert_eq!(files_below(directory.path()), 1);
}

#[test]
fn a_program_can_be_executed_at_once_and_by_everybody() {
    let (_directory, cache) = cache(1000);
    let mut draft = cache.draft(None).unwrap();
    draft.add(b"#!/bin/sh\nexit 7\n").unwrap();
    let kept = draft.keep(Shelf::Programs).unwrap();
    // Another test may have forked while the file was being written; its child has it open until it executes something.
    let status = loop {
        match std::process::Command::new(&kept.path).status() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
            status => break status.unwrap(),
        }
    };
    assert_eq!(status.code(), Some(7));
    let mode = fs::metadata(&kept.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o555);
}

#[test]
fn what_a_killed_process_left_goes_when_the_cache_is_opened() {
    let (directory, cache) = cache(1000);
    let aged = |name: &str, age: Duration| {
        let path = directory.path().join("tmp").join(name);
        fs::write(&path, b"half").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    aged("left", DRAFT_SETTLED);
    aged("fresh", DRAFT_SETTLED / 2);
    let mine = cache.draft(None).unwrap();
    Cache::open(Some(directory.path()), 1000).unwrap();
    assert!(!directory.path().join("tmp/left").exists());
    assert!(directory.path().join("tmp/fresh").exists());
    assert!(mine.path().exists());
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Cache::open(Some(directory.path()), 1000).unwrap_err();
    assert_eq!(error.code(), "cache-unusable");
}
