use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn store() -> (tempfile::TempDir, KeyStore) {
    let home = tempfile::tempdir().unwrap();
    let store = KeyStore::new(home.path().join("config/keys"));
    (home, store)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_account_key_is_made_once_and_kept_private() {
    let (_home, store) = store();
    let first = store.account().unwrap();
    assert_eq!(store.account().unwrap().public(), first.public());
    assert_eq!(mode(store.directory()), 0o700);
    assert_eq!(mode(&store.path_of(ACCOUNT)), 0o600);
}

#[test]
fn each_actor_has_a_module_key_of_its_own() {
    let (_home, store) = store();
    let one = store.module("one").unwrap();
    let two = store.module("two").unwrap();
    assert_ne!(one.public(), two.public());
    assert_eq!(one.kind(), KeyKind::Module);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_mends_it() {
    let (_home, store) = store();
    store.account().unwrap();
    let path = store.path_of(ACCOUNT);
    for exposed in [0o640, 0o604, 0o660] {
        set_mode(&path, exposed);
        let error = store.account().unwrap_err();
        assert!(matches!(error, KeyStoreError::Exposed { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("chmod 600 {}", path.display()))
        );
    }
    set_mode(&path, 0o400);
    assert!(store.account().is_ok());
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let (_home, store) = store();
    store.account().unwrap();
    set_mode(store.directory(), 0o770);
    assert!(matches!(
        store.account(),
        Err(KeyStoreError::DirectoryExposed { mode: 0o770, .. })
    ));
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let (_home, store) = store();
    store.generate("x_module", KeyKind::Account).unwrap();
    assert!(matches!(
        store.module("x"),
        Err(KeyStoreError::Key {
            source: KeyError::WrongKind { .. },
            ..
        })
    ));
}

#[test]
fn an_existing_key_is_never_overwritten() {
    let (_home, store) = store();
    let first = store.generate("mine", KeyKind::User).unwrap();
    assert!(matches!(
        store.generate("mine", KeyKind::User),
        Err(KeyStoreError::Exists { .. })
    ));
    assert_eq!(store.list().unwrap()[0].public, first.public);
}

#[test]
fn first_runs_at_once_end_up_with_one_key() {
    let (_home, store) = store();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.account().unwrap().public().clone()))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(fs::read_dir(store.directory()).unwrap().count(), 1);
}

#[test]
fn the_largest_key_file_is_read_and_one_more_byte_is_refused() {
    let (_home, store) = store();
    let key = store.account().unwrap();
    let path = store.path_of(ACCOUNT);
    let padded = |bytes: u64| {
        let mut text = key.seed().to_string();
        text.push_str(&" ".repeat(usize::try_from(bytes).unwrap() - text.len()));
        text
    };
    fs::write(&path, padded(KEY_FILE_BYTES_MAX)).unwrap();
    assert!(store.account().is_ok());
    fs::write(&path, padded(KEY_FILE_BYTES_MAX + 1)).unwrap();
    assert!(matches!(
        store.account(),
        Err(KeyStoreError::TooLarge { .. })
    ));
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    for bad in ["", "../x", "a/b", ".hidden", "-flag", "a b", "ä", "a\0"] {
        assert!(check_name("a key", bad).is_err(), "{bad:?}");
    }
    assert!(check_name("a key", &"a".repeat(KEY_NAME_BYTES_MAX)).is_ok());
    assert!(check_name("a key", &"a".repeat(KEY_NAME_BYTES_MAX + 1)).is_err());
}

#[test]
fn a_seed_as_an_argument_is_refused_and_not_repeated() {
    let seed = SigningKey::generate(KeyKind::Account).seed();
    let error = KeySource::parse(&seed).unwrap_err();
    assert!(matches!(error, KeyStoreError::SeedArgument));
    assert!(!error.to_string().contains(seed.as_str()));
}

#[test]
fn a_source_is_a_file_a_variable_or_a_public_key() {
    let key = SigningKey::generate(KeyKind::Module);
    assert_eq!(
        KeySource::parse("env:SEED").unwrap(),
        KeySource::Variable("SEED".into())
    );
    assert_eq!(
        KeySource::parse(key.public().as_str()).unwrap(),
        KeySource::Public(key.public().clone())
    );
    assert_eq!(
        KeySource::parse("keys/a.nk").unwrap(),
        KeySource::File("keys/a.nk".into())
    );
    let environment: Environment = [("SEED", key.seed().as_str())].into_iter().collect();
    let read = signing_key(
        &KeySource::Variable("SEED".into()),
        KeyKind::Module,
        &environment,
    );
    assert_eq!(read.unwrap().public(), key.public());
}
