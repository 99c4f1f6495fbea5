//! Keys, claims and builds, by their whole output. No network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::shell::{Shell, component};
use serde_json::json;
use trellis_claims::{KeyKind, SigningKey, TrustRoots, UnixTime, verify_component};

const MANIFEST: &str = "name = \"hello\"\nversion = \"1.2.0\"\nrevision = 3\ntags = [\"demo\"]\n\
    capabilities = [\"wasi:http/incoming-handler\", \"wasi:keyvalue\"]\n\
    [build]\nartifact = \"out/hello.wasm\"\n";

fn account_of(shell: &Shell) -> String {
    let listed = shell.wash(&["keys", "list", "-o", "json"]).json();
    let keys = listed["keys"].as_array().unwrap();
    let account = keys.iter().find(|key| key["name"] == "account").unwrap();
    account["public_key"].as_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_first_build_makes_private_keys_says_where_and_signs() {
    let shell = Shell::new();
    shell.write("trellis.toml", MANIFEST);
    shell.write("out/hello.wasm", component());

    let said = shell.wash(&["build", "--no-build", "-o", "json"]);
    said.assert_code(0);

    let keys = shell.path("config/trellis/keys");
    for name in ["account.nk", "hello_module.nk"] {
        let path = keys.join(name);
        assert_eq!(mode(&path), 0o600);
        assert!(
            said.stderr.contains(&path.display().to_string()),
            "{}",
            said.stderr
        );
    }
    assert_eq!(mode(&keys), 0o700);
    let json = said.json();
    assert_eq!(json["success"], true);
    assert_eq!(json["path"], json!(shell.path("out/hello_s.wasm")));
    assert_eq!(
        (&json["name"], &json["version"], &json["revision"]),
        (&json!("hello"), &json!("1.2.0"), &json!(3))
    );
    assert_eq!(
        json["capabilities"],
        json!(["wasi:http/incoming-handler", "wasi:keyvalue"])
    );
    assert_eq!(json["issuer"], json!(account_of(&shell)));

    let mut roots = TrustRoots::default();
    roots
        .insert(json["issuer"].as_str().unwrap().parse().unwrap())
        .unwrap();
    let signed = fs::read(shell.path("out/hello_s.wasm")).unwrap();
    let verified = verify_component(&signed, &roots, UnixTime::now()).unwrap();
    assert_eq!(verified.claims.subject.as_str(), json["subject"]);
    assert_eq!(verified.claims.tags, ["demo"]);
}

#[test]
fn a_build_tells_people_the_file_and_the_grants() {
    let shell = Shell::new();
    shell.write("trellis.toml", MANIFEST);
    shell.write("out/hello.wasm", component());
    let said = shell.wash(&["build", "--no-build"]);
    said.assert_code(0);
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(
        lines[0],
        format!("Component  {}", shell.path("out/hello_s.wasm").display())
    );
    assert_eq!(lines[1], "Actor      hello 1.2.0 (revision 3)");
    assert_eq!(
        lines[2],
        "Granted    wasi:http/incoming-handler, wasi:keyvalue"
    );
    assert!(lines[3].starts_with("Subject    M"));
    assert!(lines[4].starts_with("Issuer     A"));
    assert!(lines[5].starts_with("Expires    2"));
    assert_eq!(lines.len(), 6);
}

#[test]
fn building_again_keeps_the_keys_and_says_nothing_of_them() {
    let shell = Shell::new();
    shell.write("trellis.toml", MANIFEST);
    shell.write("out/hello.wasm", component());
    let first = shell.wash(&["build", "--no-build", "-o", "json"]).json();
    let again = shell.wash(&["build", "--no-build", "-o", "json"]);
    assert_eq!(again.stderr, "");
    assert_eq!(again.json()["issuer"], first["issuer"]);
    assert_eq!(again.json()["subject"], first["subject"]);
}

#[test]
fn a_command_of_the_manifest_is_run_and_its_words_go_to_stderr() {
    let shell = Shell::new();
    shell.write(
        "trellis.toml",
        "name = \"a\"\nversion = \"1.0.0\"\ncapabilities = []\n\
         [build]\ncommand = \"echo building && cp in.wasm out.wasm\"\nartifact = \"out.wasm\"\n",
    );
    shell.write("in.wasm", component());
    let said = shell.wash(&["build", "-o", "json"]);
    said.assert_code(0);
    assert_eq!(said.json()["capabilities"], json!([]));
    assert!(said.stderr.contains("building"));
}

#[test]
fn a_failing_build_is_5_and_signs_nothing() {
    let shell = Shell::new();
    shell.write(
        "trellis.toml",
        "name = \"a\"\nversion = \"1.0.0\"\ncapabilities = []\n\
         [build]\ncommand = \"exit 3\"\nartifact = \"a.wasm\"\n",
    );
    shell.write("a.wasm", component());
    let said = shell.wash(&["build"]);
    said.assert_code(5);
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("the build failed"), "{}", said.stderr);
    assert!(!shell.path("a_s.wasm").exists());
    assert!(!shell.path("config").exists(), "no key was needed");
}

#[test]
fn the_component_of_a_cargo_package_is_found_with_its_version() {
    let shell = Shell::new();
    shell.write(
        "Cargo.toml",
        "[package]\nname = \"code-maker\"\nversion = \"0.4.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    );
    shell.write("src/lib.rs", "");
    shell.write(
        "trellis.toml",
        "name = \"codemaker\"\ncapabilities = [\"demo:codes\"]\n",
    );
    let missing = shell.wash(&["build", "--no-build"]);
    missing.assert_code(5);
    assert!(
        missing.stderr.contains("leave out --no-build"),
        "{}",
        missing.stderr
    );

    shell.write("target/wasm32-wasip2/release/code_maker.wasm", component());
    let said = shell.wash(&["build", "--no-build", "-o", "json"]);
    said.assert_code(0);
    assert_eq!(said.json()["version"], "0.4.0");
    assert_eq!(
        said.json()["path"],
        json!(shell.path("target/wasm32-wasip2/release/codemaker_s.wasm"))
    );
}

#[test]
fn a_misspelt_key_in_the_manifest_is_named() {
    let shell = Shell::new();
    shell.write("actor/trellis.toml", "name = \"a\"\ncapabilites = []\n");
    let said = shell.wash(&["build", "--path", "actor", "-o", "json"]);
    said.assert_code(5);
    let error = said.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("actor/trellis.toml")
            && error.contains("line 2")
            && error.contains("`capabilites`"),
        "{error}"
    );
    assert_eq!(said.json()["code"], "local");
}

#[test]
fn a_directory_without_a_manifest_says_what_to_write() {
    let said = Shell::new().wash(&["build"]);
    said.assert_code(5);
    assert!(
        said.stderr.contains("there is no trellis.toml in ."),
        "{}",
        said.stderr
    );
}

#[test]
fn claims_are_signed_and_inspected() {
    let shell = Shell::new();
    shell.write("a.wasm", component());
    let line = [
        "claims",
        "sign",
        "a.wasm",
        "--name",
        "greeter",
        "--ver",
        "0.1.0",
        "--rev",
        "2",
        "--cap",
        "wasi:keyvalue",
        "-c",
        "wasi:http/incoming-handler",
        "--tag",
        "x",
        "--call-alias",
        "demo/g",
    ];
    shell.wash(&line).assert_code(0);

    let said = shell.wash(&["claims", "inspect", "a_s.wasm"]);
    said.assert_code(0);
    assert_eq!(said.stderr, "");
    let account = account_of(&shell);
    let expected = [
        "Actor       greeter".to_owned(),
        "Version     0.1.0".to_owned(),
        "Revision    2".to_owned(),
        format!("Issuer      {account} (your account)"),
        "Tags        x".to_owned(),
        "Call alias  demo/g".to_owned(),
        "Granted     wasi:http/incoming-handler".to_owned(),
        "            wasi:keyvalue".to_owned(),
        "Verdict     holds: signed by the issuer, unchanged, valid now".to_owned(),
    ];
    for line in expected {
        assert!(
            said.stdout.lines().any(|said| said == line),
            "{line}\n{}",
            said.stdout
        );
    }

    let json = shell
        .wash(&["claims", "inspect", "a_s.wasm", "-o", "json"])
        .json();
    assert_eq!(
        json["verdict"],
        json!({"holds": true, "issuer_is_own_account": true})
    );
    let keys: Vec<_> = json["claims"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        keys,
        [
            "call_alias",
            "capabilities",
            "content_hash",
            "expires",
            "issued_at",
            "issuer",
            "name",
            "not_before",
            "revision",
            "subject",
            "tags",
            "token_id",
            "version"
        ]
    );

    let token = shell
        .wash(&["claims", "inspect", "a_s.wasm", "--jwt-only"])
        .stdout;
    assert_eq!(token.trim_end().split('.').count(), 3);
}

#[test]
fn a_component_changed_after_signing_is_seen_through() {
    let shell = Shell::new();
    shell.write("a.wasm", component());
    shell
        .wash(&["claims", "sign", "a.wasm", "-n", "a", "-v", "1"])
        .assert_code(0);
    let mut bytes = fs::read(shell.path("a_s.wasm")).unwrap();
    bytes[12] ^= 1;
    shell.write("b.wasm", bytes);
    let said = shell.wash(&["claims", "inspect", "b.wasm", "-o", "json"]);
    said.assert_code(1);
    assert_eq!(said.stderr, "");
    let json = said.json();
    assert_eq!(json["verdict"]["holds"], false);
    assert_eq!(json["verdict"]["code"], "claims-hash-mismatch");
    assert_eq!(json["claims"]["name"], "a");
    assert_eq!(
        (&json["success"], &json["code"]),
        (&json!(false), &json!("refused"))
    );

    let said = shell.wash(&["claims", "inspect", "b.wasm"]);
    said.assert_code(1);
    assert!(said.stdout.contains("DOES NOT HOLD"), "{}", said.stdout);
    assert_eq!(
        said.stderr,
        "error: the claims of b.wasm do not hold; hosts refuse to run it\n"
    );

    let said = shell.wash(&["claims", "inspect", "b.wasm", "--jwt-only"]);
    said.assert_code(0);
}

#[test]
fn an_unsigned_component_is_1() {
    let shell = Shell::new();
    shell.write("a.wasm", component());
    for line in [
        &["claims", "inspect", "a.wasm"][..],
        &["claims", "inspect", "a.wasm", "--jwt-only"],
    ] {
        let said = shell.wash(line);
        said.assert_code(1);
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains("unsigned"), "{}", said.stderr);
    }
    let said = shell.wash(&["claims", "inspect", "a.wasm", "-o", "json"]);
    said.assert_code(1);
    assert_eq!(said.json()["success"], false);
    assert_eq!(said.json()["verdict"]["holds"], false);
    assert_eq!(said.json()["verdict"]["code"], "claims-unsigned");
}

#[test]
fn a_file_that_is_no_component_is_5() {
    let shell = Shell::new();
    shell.write("text.wasm", "no component");
    shell.write("core.wasm", b"\0asm\x01\0\0\0");
    for (file, word) in [
        ("text.wasm", "WebAssembly"),
        ("core.wasm", "core module"),
        ("missing.wasm", "cannot read missing.wasm"),
    ] {
        let said = shell.wash(&["claims", "inspect", file]);
        said.assert_code(5);
        assert!(said.stderr.contains(word), "{file}: {}", said.stderr);
    }
    let said = shell.wash(&["claims", "sign", "text.wasm", "-n", "a", "-v", "1"]);
    said.assert_code(5);
    assert!(!shell.path("config").exists(), "no key was needed");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_chmod_that_mends_it() {
    let shell = Shell::new();
    shell.write("a.wasm", component());
    shell.wash(&["keys", "gen", "account"]).assert_code(0);
    let path = shell.path("config/trellis/keys/account.nk");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let said = shell.wash(&["claims", "sign", "a.wasm", "-n", "a", "-v", "1"]);
    said.assert_code(5);
    assert!(
        said.stderr
            .contains(&format!("chmod 600 {}", path.display())),
        "{}",
        said.stderr
    );
}

#[test]
fn issuer_and_subject_come_from_files_and_variables_too() {
    let mut shell = Shell::new();
    shell.write("a.wasm", component());
    let account = SigningKey::generate(KeyKind::Account);
    let module = SigningKey::generate(KeyKind::Module);
    shell.set("TEAM", account.seed().as_str());
    let line = [
        "claims",
        "sign",
        "a.wasm",
        "-n",
        "a",
        "-v",
        "1",
        "-o",
        "json",
        "-d",
        "s.wasm",
        "--issuer",
        "env:TEAM",
        "--subject",
        module.public().as_str(),
    ];
    let said = shell.wash(&line);
    said.assert_code(0);
    assert_eq!(said.json()["issuer"], account.public().as_str());
    assert_eq!(said.json()["subject"], module.public().as_str());
    assert!(
        !shell.path("config").exists(),
        "no key of one's own was needed"
    );

    let seed = account.seed();
    let said = shell.wash(&[
        "claims", "sign", "a.wasm", "-n", "a", "-v", "1", "-i", &seed,
    ]);
    said.assert_code(5);
    assert!(!said.stderr.contains(seed.as_str()));

    let said = shell.wash(&[
        "claims", "sign", "a.wasm", "-n", "a", "-v", "1", "-s", "env:TEAM",
    ]);
    said.assert_code(5);
    assert!(
        said.stderr.contains("expected the key of a module"),
        "{}",
        said.stderr
    );
}

#[test]
fn keys_are_made_listed_and_never_overwritten() {
    let shell = Shell::new();
    let none = shell.wash(&["keys", "list"]);
    none.assert_code(0);
    assert_eq!(none.stdout, "");
    let made = shell
        .wash(&["keys", "gen", "operator", "--name", "ours", "-o", "json"])
        .json();
    assert_eq!(made["kind"], "operator");
    assert!(made["public_key"].as_str().unwrap().starts_with('O'));
    shell
        .wash(&["keys", "gen", "user", "--name", "ours"])
        .assert_code(5);
    let listed = shell.wash(&["keys", "list", "-o", "json"]).json();
    assert_eq!(
        listed,
        json!({
            "success": true,
            "directory": shell.path("config/trellis/keys"),
            "keys": [{
                "name": "ours",
                "kind": "operator",
                "public_key": made["public_key"],
                "path": made["path"],
            }],
        })
    );
    let table = shell.wash(&["keys", "list"]).stdout;
    assert!(table.starts_with("NAME  KIND      PUBLIC KEY"), "{table}");
}

#[test]
fn a_printed_seed_is_kept_nowhere() {
    let shell = Shell::new();
    let said = shell.wash(&["keys", "gen", "user", "--print", "-o", "json"]);
    said.assert_code(0);
    let seed = said.json()["seed"].as_str().unwrap().to_owned();
    let key = SigningKey::from_seed_of(KeyKind::User, &seed).unwrap();
    assert_eq!(said.json()["public_key"], key.public().as_str());
    assert!(!shell.path("config").exists());
}

#[test]
fn the_directory_of_keys_can_be_named() {
    let mut shell = Shell::new();
    shell.set("TRELLIS_KEYS_DIR", shell.path("mine").to_str().unwrap());
    shell.wash(&["keys", "gen", "account"]).assert_code(0);
    assert_eq!(mode(&shell.path("mine/account.nk")), 0o600);
    assert!(!shell.path("config").exists());
}
