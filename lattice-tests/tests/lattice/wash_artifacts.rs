//! Artifacts, keys and claims at the command line: whole outputs, for people and for programs.

mod transfer;

use serde_json::{Value, json};
use trellis_claims::{KeyKind, SigningKey};
use trellis_lattice_tests::actor::Signature;
use trellis_lattice_tests::binary;

use crate::terminal::Terminal;

/// A terminal whose account key is known, with a signed actor in a file.
fn with_hello() -> Terminal {
    let terminal = Terminal::new();
    let account = SigningKey::generate(KeyKind::Account);
    terminal.keep_key("account", &account);
    terminal.write("hello.wasm", Signature::of("hello", &account).component());
    terminal.write("bare.wasm", binary::component("hello"));
    terminal
}

/// What a command prints, masked; the sizes and versions of a built component differ from build to build.
async fn transcript(terminal: &Terminal, arguments: &[&str]) -> String {
    let said = terminal.wash(arguments).await;
    let masked = terminal.masked(&said.transcript(), &[]);
    let mut text = String::new();
    for line in masked.lines() {
        match line.strip_prefix("Size ") {
            Some(size) => {
                let blanks = size.len() - size.trim_start().len();
                text.push_str(&format!("Size {}<size>", " ".repeat(blanks)));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_component_shows_its_claims_and_what_it_needs() {
    let terminal = with_hello();
    let shown = transcript(&terminal, &["inspect", "hello.wasm"]).await;
    let head: Vec<_> = shown.lines().take(16).collect();
    assert_eq!(
        head,
        [
            "Artifact    file://~/hello.wasm",
            "Kind        component",
            "Size        <size>",
            "Digest      sha256:…",
            "Media type  application/wasm",
            "Actor       hello",
            "Version     0.1.0",
            "Revision    1",
            "Subject     M…",
            "Issuer      A… (your account)",
            "Tags        test",
            "Not before  <time>",
            "Expires     <time>",
            "Content     sha256:…",
            "Granted     wasi:http/incoming-handler",
            "Verdict     holds: signed by the issuer, unchanged, valid now",
        ]
    );
    assert!(shown.ends_with("exit 0\n"), "{shown}");

    let report = terminal.json(&["inspect", "hello.wasm"]).await;
    assert_eq!(report["kind"], "component");
    assert_eq!(report["claims"]["name"], "hello");
    assert_eq!(
        report["verdict"],
        json!({"holds": true, "issuer_is_own_account": true})
    );
    let bytes = std::fs::metadata(terminal.path("hello.wasm"))
        .expect("it is there")
        .len();
    assert_eq!(report["bytes"], bytes);
    let names = |key: &str| -> Vec<String> {
        serde_json::from_value(report[key].clone()).expect("a list of names")
    };
    assert!(
        names("exports")[0].starts_with("wasi:http/incoming-handler@0.2."),
        "{report}"
    );
    assert!(
        names("imports")
            .iter()
            .any(|name| name.starts_with("wasi:http/types@0.2."))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_a_changed_and_a_foreign_file_are_told_apart() {
    let terminal = with_hello();
    let unsigned = terminal.wash(&["inspect", "bare.wasm"]).await;
    assert_eq!(unsigned.code, Some(0), "it can be looked at: {unsigned:?}");
    assert!(
        unsigned
            .stdout
            .contains("Claims      none: it is unsigned, and hosts refuse to run it"),
        "{unsigned:?}"
    );

    let mut bytes = std::fs::read(terminal.path("hello.wasm")).expect("it is there");
    // A custom section more, behind the signature.
    bytes.extend_from_slice(b"\0\x05\x04note");
    terminal.write("changed.wasm", &bytes);
    let changed = terminal.wash(&["inspect", "changed.wasm"]).await;
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert!(changed.stdout.contains("DOES NOT HOLD"), "{changed:?}");
    assert_eq!(
        changed.stderr,
        "error: the claims of changed.wasm do not hold; hosts refuse to run it\n"
    );
    let changed = terminal
        .wash(&["inspect", "changed.wasm", "--output", "json"])
        .await
        .json();
    assert_eq!(changed["verdict"]["code"], "claims-hash-mismatch");

    terminal.write("notes.txt", "no component at all");
    terminal.write("empty.wasm", "");
    for name in ["notes.txt", "empty.wasm"] {
        let foreign = terminal.wash(&["inspect", name]).await;
        assert_eq!(
            (foreign.code, foreign.stdout.as_str()),
            (Some(5), ""),
            "{foreign:?}"
        );
        assert!(foreign.stderr.starts_with("error: cannot "), "{foreign:?}");
    }
    let missing = terminal.wash(&["inspect", "missing.wasm"]).await;
    assert_eq!(missing.code, Some(5), "{missing:?}");
    let nothing = terminal.wash(&["inspect", "hello"]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_and_the_wit_can_be_had_alone() {
    let terminal = with_hello();
    assert_eq!(
        transcript(&terminal, &["inspect", "hello.wasm", "--jwt-only"]).await,
        "<jwt>\nexit 0\n"
    );
    assert_eq!(
        transcript(&terminal, &["inspect", "bare.wasm", "--jwt-only"]).await,
        "error: bare.wasm has no claims: it is unsigned; sign it with `wash build` or `wash claims sign`\nexit 1\n"
    );
    let inspected = terminal.wash(&["inspect", "hello.wasm", "--wit"]).await;
    let printed = terminal.wash(&["wit", "hello.wasm"]).await;
    assert_eq!(inspected.stdout, printed.stdout);
    assert!(
        printed.stdout.starts_with("package root:component;\n"),
        "{printed:?}"
    );
    assert!(
        printed
            .stdout
            .contains("export wasi:http/incoming-handler@0.2."),
        "{printed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_wit_is_printed_and_encoded() {
    let terminal = Terminal::new();
    std::fs::create_dir(terminal.path("wit")).expect("a directory can be made");
    terminal.write(
        "wit/world.wit",
        "package demo:greeting@1.2.0;\n\ninterface greet {\n  hello: func(name: string) -> string;\n}\n\nworld app {\n  export greet;\n}\n",
    );
    let expected = "\
package demo:greeting@1.2.0;

interface greet {
  hello: func(name: string) -> string;
}

world app {
  export greet;
}
exit 0
";
    assert_eq!(transcript(&terminal, &["wit", "wit"]).await, expected);
    assert_eq!(
        transcript(&terminal, &["wit", "build"]).await,
        "demo:greeting@1.2.0: ~/demo:greeting@1.2.0.wasm\nexit 0\n"
    );
    assert_eq!(
        transcript(&terminal, &["wit", "./demo:greeting@1.2.0.wasm"]).await,
        expected
    );
    let built = terminal
        .json(&["wit", "build", "--file", "greeting.wasm"])
        .await;
    assert_eq!(built["package"], "demo:greeting@1.2.0");
    terminal.write(
        "wit/world.wit",
        "package demo:greeting;\nworld app { import other:thing/x; }\n",
    );
    let lacking = terminal.wash(&["wit", "build"]).await;
    assert_eq!(lacking.code, Some(5), "{lacking:?}");
    assert!(lacking.stderr.contains("deps/"), "{lacking:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_shown_and_listed() {
    let terminal = Terminal::new();
    let keys = terminal.path("mine").display().to_string();
    let directory = ["--directory", keys.as_str()];
    let with = |arguments: &[&'static str]| -> Vec<String> {
        arguments
            .iter()
            .chain(&directory)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let run = async |arguments: &[&'static str]| {
        let words = with(arguments);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        transcript(&terminal, &words).await
    };
    assert_eq!(
        run(&["keys", "gen", "component", "--name", "hello"]).await,
        "Public key  M…\nFile        ~/mine/hello.nk\nexit 0\n"
    );
    assert_eq!(
        run(&["keys", "get", "hello.nk"]).await,
        "Public key  M…\nSeed        SM…\nnote: whoever has the seed has the key\nexit 0\n"
    );
    assert_eq!(
        run(&["keys", "get", "hello", "--public"]).await,
        "M…\nexit 0\n"
    );
    assert_eq!(
        run(&["keys", "list"]).await,
        "NAME   KIND    PUBLIC KEY                                                FILE\nhello  module  M…  ~/mine/hello.nk\nexit 0\n"
    );
    assert_eq!(
        run(&["keys", "get", "nobody"]).await,
        "error: there is no key in ~/mine/nobody.nk; make one with `wash keys gen`\nexit 5\n"
    );
    let words = with(&["keys", "get", "hello"]);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let got = terminal.json(&words).await;
    assert_eq!(
        (&got["kind"], &got["name"]),
        (&json!("module"), &json!("hello"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_by_themselves_and_hold_where_they_are_used() {
    let terminal = with_hello();
    terminal.json(&["keys", "gen", "operator"]).await;
    let operator = terminal
        .path(".config/trellis/keys/operator.nk")
        .display()
        .to_string();
    let vouched = [
        "claims", "token", "account", "--name", "team", "--issuer", &operator,
    ];
    assert_eq!(transcript(&terminal, &vouched).await, "<jwt>\nexit 0\n");
    let token = terminal.json(&vouched).await;
    assert!(
        token["issuer"]
            .as_str()
            .is_some_and(|key| key.starts_with('O')),
        "{token}"
    );
    terminal.write("team.jwt", token["token"].as_str().expect("a token"));
    let signed = terminal
        .json(&[
            "claims",
            "sign",
            "bare.wasm",
            "--name",
            "hello",
            "--ver",
            "1.0.0",
            "--cap",
            "wasi:http/incoming-handler",
            "--account-token",
            "team.jwt",
        ])
        .await;
    assert_eq!(signed["name"], "hello");

    let detached = terminal
        .json(&[
            "claims",
            "token",
            "component",
            "bare.wasm",
            "--name",
            "hello",
            "--ver",
            "1.0.0",
            "--nbf",
            "1",
        ])
        .await;
    assert_eq!(detached["kind"], "component");
    assert!(
        detached["content_hash"]
            .as_str()
            .is_some_and(|hash| hash.starts_with("sha256:"))
    );

    let host = SigningKey::generate(KeyKind::Host);
    let certificate = terminal
        .json(&[
            "claims",
            "token",
            "host",
            "--subject",
            host.public().as_str(),
            "--may-run",
            "hello",
            "--lattice",
            "edge",
        ])
        .await;
    assert_eq!(certificate["lattice"], "edge");
    assert_eq!(certificate["may_run"], json!(["hello"]));
    let read = trellis_claims::HostCertificate::decode_unverified(
        certificate["token"].as_str().expect("a token"),
    )
    .expect("a certificate can be read");
    assert!(read.may_run("hello") && !read.may_run("other"));
    let wrong = terminal
        .wash(&[
            "claims",
            "token",
            "account",
            "--name",
            "x",
            "--issuer",
            "missing.nk",
        ])
        .await;
    assert_eq!(wrong.code, Some(5), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_made_looked_at_and_added_to() {
    let terminal = with_hello();
    terminal.write("provider", "#!/bin/sh\necho x86\n");
    terminal.write("provider-arm", "#!/bin/sh\necho arm\n");
    terminal.write("schema.json", "{\"type\": \"object\"}\n");
    let create = [
        "par",
        "create",
        "--name",
        "files",
        "--vendor",
        "Example",
        "--version",
        "1.2.0",
        "--revision",
        "3",
        "--binary",
        "provider",
        "--arch",
        "x86_64-linux",
        "--cap",
        "wasi:blobstore",
        "--schema",
        "schema.json",
    ];
    let rows = "\
Provider    files
Vendor      Example
Version     1.2.0
Revision    3
Subject     V…
";
    let made = transcript(&terminal, &create).await;
    assert!(
        made.starts_with(&format!("Archive     ~/provider.par\n{rows}")),
        "{made}"
    );
    assert!(made.contains("note: made the provider key V…"), "{made}");
    let insert = [
        "par",
        "insert",
        "provider.par",
        "--binary",
        "provider-arm",
        "--arch",
        "aarch64-linux",
    ];
    let inserted = transcript(&terminal, &insert).await;
    assert!(inserted.ends_with("exit 0\n"), "{inserted}");
    let expected = "\
Artifact    file://~/provider.par
Kind        provider
Size        <size>
Digest      sha256:…
Media type  application/vnd.trellis.provider.archive.v1+tar
Provider    files
Vendor      Example
Version     1.2.0
Revision    3
Subject     V…
Issuer      A… (your account)
Not before  <time>
Expires     <time>
Serves      wasi:blobstore
Calls       nothing
Platforms   aarch64-linux, 19 B, sha256:…
            x86_64-linux, 19 B, sha256:…
Schema      of its configuration, in JSON
Verdict     holds: signed by the issuer, unchanged, valid now
exit 0
";
    assert_eq!(
        transcript(&terminal, &["inspect", "provider.par"]).await,
        expected
    );
    assert_eq!(
        transcript(&terminal, &["par", "inspect", "provider.par"]).await,
        expected
    );
    assert_eq!(
        transcript(&terminal, &["claims", "token", "provider", "provider.par"]).await,
        "<jwt>\nexit 0\n"
    );
    let report = terminal.json(&["inspect", "provider.par"]).await;
    assert_eq!(report["claims"]["serves"], json!(["wasi:blobstore"]));
    assert_eq!(report["claims"]["targets"]["aarch64-linux"]["bytes"], 19);

    let mut bytes = std::fs::read(terminal.path("provider.par")).expect("it is there");
    let at = bytes
        .windows(3)
        .rposition(|window| window == b"x86")
        .expect("it is in there");
    bytes[at] = b'y';
    terminal.write("changed.par", &bytes);
    let changed = terminal
        .wash(&["inspect", "changed.par", "--output", "json"])
        .await;
    assert_eq!(changed.code, Some(1), "{changed:?}");
    assert_eq!(changed.json()["verdict"]["code"], "archive-untrusted");
    let wit = terminal.wash(&["inspect", "provider.par", "--wit"]).await;
    assert_eq!(wit.code, Some(2), "{wit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_are_made_of_the_same_definitions() {
    let terminal = Terminal::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = terminal.wash(&["completions", shell]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        for word in ["doctor", "inspect", "allow-latest"] {
            assert!(said.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(
        transcript(&terminal, &["completions", "zsh", "--dir", "functions"]).await,
        "~/functions/_wash\nexit 0\n"
    );
    let made = terminal.json(&["man", "--dir", "man1"]).await;
    let paths: Vec<String> = serde_json::from_value(made["paths"].clone()).expect("a list");
    for page in ["wash.1", "wash-link-put.1", "wash-par-create.1"] {
        assert!(
            paths.iter().any(|path| path.ends_with(&format!("/{page}"))),
            "{paths:?}"
        );
    }
    let page = terminal.wash(&["man", "link", "put"]).await;
    assert!(
        page.stdout.contains("wash-link-put") && page.stdout.contains("SOURCE"),
        "{page:?}"
    );
    let nothing = terminal.wash(&["man", "sing"]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    let report: Value = terminal.json(&["completions", "fish"]).await;
    assert_eq!(report["shell"], "fish");
}
