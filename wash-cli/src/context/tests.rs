#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn contexts() -> (tempfile::TempDir, Contexts) {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("contexts");
    let contexts = Contexts::of(Some(&directory), &mut Environment::default()).unwrap();
    (home, contexts)
}

fn site() -> Context {
    Context {
        nats_url: Some("nats://ada:hunter2@example.org:4333".to_owned()),
        lattice: Some("prod".to_owned()),
        ..Context::default()
    }
}

#[test]
fn what_is_saved_is_loaded_and_private() {
    let (_home, contexts) = contexts();
    let path = contexts.save("site", &site(), false).unwrap();
    assert_eq!(contexts.load("site").unwrap(), site());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(
        contexts.save("site", &site(), false),
        Err(ContextError::Exists { .. })
    ));
    assert_eq!(contexts.list().unwrap(), ["site"]);
}

#[test]
fn the_default_goes_with_its_context() {
    let (_home, contexts) = contexts();
    assert_eq!(contexts.default_name().unwrap(), None);
    assert!(matches!(
        contexts.set_default("site"),
        Err(ContextError::Missing { .. })
    ));
    contexts.save("site", &site(), false).unwrap();
    contexts.set_default("site").unwrap();
    assert_eq!(contexts.default_name().unwrap().as_deref(), Some("site"));
    assert!(contexts.delete("site").unwrap());
    assert_eq!(contexts.default_name().unwrap(), None);
}

#[test]
fn a_file_of_the_older_shell_is_read() {
    let (_home, contexts) = contexts();
    fs::create_dir(contexts.directory()).unwrap();
    let text = r#"{"name":"old","cluster_seed":"","ctl_host":"10.0.0.1","ctl_port":5893,"ctl_jwt":"","ctl_seed":"",
        "ctl_credsfile":null,"ctl_timeout":2000,"ctl_lattice_prefix":"default","rpc_host":"127.0.0.1","rpc_port":1}"#;
    fs::write(contexts.path("old").unwrap(), text).unwrap();
    let context = contexts.load("old").unwrap();
    assert_eq!(context.nats_url.as_deref(), Some("nats://10.0.0.1:5893"));
    assert_eq!(context.lattice.as_deref(), Some("default"));
    assert_eq!((context.nats_jwt, context.timeout_ms), (None, None));
}

#[test]
fn a_name_leads_out_of_no_directory() {
    let (_home, contexts) = contexts();
    for name in ["", "..", "../x", "a/b", ".hidden", "a b"] {
        assert!(
            matches!(contexts.load(name), Err(ContextError::Name { .. })),
            "{name}"
        );
    }
}

#[test]
fn a_file_that_is_no_context_says_how_to_mend_it() {
    let (_home, contexts) = contexts();
    fs::create_dir(contexts.directory()).unwrap();
    for text in [
        "{",
        "[]",
        r#"{"lattice":"a.b"}"#,
        r#"{"nats_url":"http://x"}"#,
    ] {
        fs::write(contexts.path("bad").unwrap(), text).unwrap();
        let error = contexts.load("bad").unwrap_err().to_string();
        assert!(error.contains("wash ctx edit bad"), "{error}");
    }
}
