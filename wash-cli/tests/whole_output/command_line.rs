//! The command line as programs and people meet it: exit codes, help, and mistakes. No network.

use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use crate::shell::{Shell, component, unused_port};

#[test]
fn the_help_lists_every_command_and_every_exit_code() {
    let said = Shell::new().wash(&["--help"]);
    said.assert_code(0);
    for word in [
        "up",
        "down",
        "build",
        "claims",
        "keys",
        "start",
        "scale",
        "stop",
        "link",
        "config",
        "get",
        "call",
        "Exit codes:",
    ] {
        assert!(said.stdout.contains(word), "{word}\n{}", said.stdout);
    }
    assert_eq!(said.stderr, "");
}

#[test]
fn mistakes_on_the_command_line_are_2_and_silent_on_stdout() {
    let shell = Shell::new();
    for line in [
        &["nonsense"][..],
        &["start", "component", "ref"],
        &["start", "component", "ref", "a.b"],
        &["start", "component", "ref", "id", "--max-instances", "0"],
        &["link", "put", "a", "b", "wasi", "http"],
        &[
            "link",
            "put",
            "a",
            "b",
            "wasi",
            "http",
            "--interface",
            "No_Kebab",
        ],
        &["config", "put", "name", "novalue"],
        &["config", "put", "name", "a=1", "a=2"],
        &["config", "put", "bad name", "a=1"],
        &["keys", "gen", "curve"],
        &["call", "a", "nofunction"],
        &["get", "hosts", "-x", "a.b"],
        &["get", "hosts", "--nats-url", "http://x"],
        &[
            "scale",
            "component",
            "h",
            "ref",
            "id",
            "--host-id",
            "h",
            "-c",
            "1",
        ],
    ] {
        let said = shell.wash(line);
        said.assert_code(2);
        assert_eq!(said.stdout, "", "{line:?}");
        assert!(
            said.stderr.starts_with("error: "),
            "{line:?}\n{}",
            said.stderr
        );
    }
}

#[test]
fn mistakes_are_json_for_those_who_read_json() {
    let shell = Shell::new();
    for line in [
        &["nonsense", "-o", "json"][..],
        &["-o", "json", "call", "a", "f"],
    ] {
        let said = shell.wash(line);
        said.assert_code(2);
        let json = said.json();
        assert_eq!(json["success"], false);
        assert_eq!(json["code"], "usage");
        assert!(json["error"].is_string());
        assert_eq!(json.as_object().unwrap().len(), 3);
    }
}

#[test]
fn without_a_nats_server_it_is_3_and_says_what_to_start() {
    let shell = Shell::new();
    let url = format!("nats://ada:hunter2@127.0.0.1:{}", unused_port());
    for line in [
        &["get", "hosts"][..],
        &["link", "query"],
        &["config", "get", "x"],
        &["stop", "component", "x"],
    ] {
        let said = shell.wash(&[line, &["--nats-url", &url, "--timeout-ms", "300"]].concat());
        said.assert_code(3);
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains("wash up"), "{}", said.stderr);
        assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
    }
}

#[test]
fn a_url_that_leads_nowhere_is_traced_to_its_variable() {
    let port = unused_port();
    for (variable, value) in [
        ("TRELLIS_NATS_URL", format!("nats://127.0.0.1:{port}")),
        ("WASMCLOUD_CTL_PORT", port.to_string()),
    ] {
        let mut shell = Shell::new();
        shell.set(variable, &value);
        let said = shell.wash(&["get", "hosts", "-t", "300"]);
        said.assert_code(3);
        let origin = format!("; the URL is from {variable} (without it `wash up` starts");
        assert!(said.stderr.contains(&origin), "{}", said.stderr);

        // A flag is in plain sight.
        let url = format!("nats://127.0.0.1:{port}");
        let said = shell.wash(&["get", "hosts", "-t", "300", "--nats-url", &url]);
        said.assert_code(3);
        assert!(!said.stderr.contains("is from"), "{}", said.stderr);
    }
}

#[test]
fn a_bare_word_that_is_a_file_is_a_name_with_a_note() {
    let shell = Shell::new();
    shell.write("hello", "");
    let url = format!("nats://127.0.0.1:{}", unused_port());
    let line = ["--nats-url", &url, "-t", "300", "start", "component"];
    let said = shell.wash(&[&line[..], &["hello", "x"]].concat());
    said.assert_code(3);
    assert!(
        said.stderr.contains(
            "note: hello is taken for a name; the file that is called so here is ./hello"
        ),
        "{}",
        said.stderr
    );
    for reference in ["./hello", "hello:1"] {
        let said = shell.wash(&[&line[..], &[reference, "x"]].concat());
        said.assert_code(3);
        assert!(!said.stderr.contains("note:"), "{}", said.stderr);
    }
}

#[test]
fn the_help_for_links_names_the_port_that_opens_without_configuration() {
    let said = Shell::new().wash(&["link", "put", "--help"]);
    said.assert_code(0);
    assert!(said.stdout.contains("0.0.0.0:8000"), "{}", said.stdout);
}

#[test]
fn a_component_that_is_not_there_is_5_before_anybody_is_asked() {
    let said = Shell::new().wash(&["start", "component", "./missing.wasm", "x"]);
    said.assert_code(5);
    assert!(said.stderr.contains("./missing.wasm"), "{}", said.stderr);
}

#[test]
fn older_names_of_variables_are_read_with_a_note() {
    let mut shell = Shell::new();
    let port = unused_port().to_string();
    shell.set("WASMCLOUD_CTL_PORT", &port);
    let said = shell.wash(&["get", "hosts", "-t", "300"]);
    said.assert_code(3);
    assert!(
        said.stderr
            .contains("note: read WASMCLOUD_CTL_PORT; its name is TRELLIS_NATS_URL now"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains(&port), "{}", said.stderr);
}

#[test]
fn limits_are_named_in_the_units_that_hosts_read() {
    for command in ["start", "scale"] {
        let said = Shell::new().wash(&[command, "component", "--help"]);
        said.assert_code(0);
        for limit in ["max_memory_limit=<bytes>", "max_execution_time=<seconds>"] {
            assert!(said.stdout.contains(limit), "{}", said.stdout);
        }
    }
}

#[test]
fn the_help_for_calls_says_how_to_call_another_actor() {
    let said = Shell::new().wash(&["call", "--help"]);
    said.assert_code(0);
    assert!(
        said.stdout.contains("wash link del wash"),
        "{}",
        said.stdout
    );
}

#[test]
fn what_would_make_a_registry_believed_is_named_by_the_flags_of_wash() {
    let shell = Shell::new();
    let file = shell.write("hello.wasm", component());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Plain HTTP, whatever is asked.
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let reference = format!("localhost:{port}/hello:1.0");
    for line in [
        &["push", &reference, file.to_str().unwrap()][..],
        &["pull", &reference],
    ] {
        let said = shell.wash(line);
        said.assert_code(1);
        assert!(
            said.stderr.contains("`wash` has `--ca` and `--insecure`"),
            "{line:?}\n{}",
            said.stderr
        );
    }
}

#[test]
fn down_where_nothing_runs_is_no_failure() {
    let shell = Shell::new();
    let said = shell.wash(&["down", "-o", "json"]);
    said.assert_code(0);
    assert_eq!(
        said.json(),
        serde_json::json!({
            "success": true,
            "state_dir": shell.path("state/trellis"),
            "host": "not-running",
            "hosts": [],
            "nats": "not-running",
        })
    );
}

#[test]
fn what_jetstream_keeps_is_not_deleted_where_a_directory_does_not_say_which() {
    let shell = Shell::new();
    let dir = shell.path("elsewhere");
    let dir = dir.to_str().unwrap();
    let said = shell.wash(&["down", "--state-dir", dir, "--purge-jetstream", "-y"]);
    said.assert_code(1);
    assert_eq!(
        said.stderr,
        format!(
            "error: refused to delete what JetStream keeps: nothing runs in {dir}, so it does not say which server is meant; name it with --nats-url and --lattice\n"
        )
    );
}
