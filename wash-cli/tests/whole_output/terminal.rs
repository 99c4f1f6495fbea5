//! What only a terminal shows: questions, and what is being waited for. The terminal is that of `script` (util-linux),
//! which every Linux has.

use serde_json::json;

use crate::fake_lattice::{FakeLattice, STUCK};
use crate::shell::Shell;

/// The names of the contexts there are.
fn contexts(shell: &Shell) -> serde_json::Value {
    let said = shell.wash(&["ctx", "list", "-o", "json"]);
    said.assert_code(0);
    said.json()["contexts"].clone()
}

#[test]
fn what_destroys_asks_on_a_terminal_and_does_only_what_is_confirmed() {
    let shell = Shell::new();
    shell
        .wash(&["ctx", "new", "site", "--nats-url", "nats://example.org"])
        .assert_code(0);
    let delete = ["ctx", "del", "site"];

    // Nothing, anything else and a no are a no.
    for typed in ["\n", "maybe\n", "n\n"] {
        let said = shell.wash_on_a_terminal(&delete, typed);
        said.assert_code(1);
        assert!(
            said.stdout.contains("? [y/N] ") && said.stdout.contains("it was not confirmed"),
            "{}",
            said.stdout
        );
        assert_eq!(contexts(&shell), json!(["site"]));
    }
    // Nobody can be asked where there is no terminal.
    shell.wash(&delete).assert_code(2);
    assert_eq!(contexts(&shell), json!(["site"]));

    shell.wash_on_a_terminal(&delete, "Y\n").assert_code(0);
    assert_eq!(contexts(&shell), json!([]));
}

#[test]
fn what_is_waited_for_is_shown_on_a_terminal_and_nowhere_else() {
    let lattice = FakeLattice::start();
    let mut shell = Shell::new();
    shell.set("TRELLIS_NATS_URL", lattice.url());
    // Patience enough for the host to answer on a busy machine; the outcome never comes.
    let start = ["start", "component", STUCK, "a", "-t", "4000"];
    let waiting = format!("starting a on {} (fern)", lattice.host_id);

    let seen = shell.wash_on_a_terminal(&start, "");
    seen.assert_code(4);
    let shown = seen.stdout.matches(&waiting).count();
    assert!(shown > 1, "it turns: {}", seen.stdout);

    let said = shell.wash(&start);
    said.assert_code(4);
    assert_eq!(said.stdout, "");
    // The host's remark and the error, each a line, and nothing that turned.
    let lines: Vec<_> = said.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", said.stderr);
    assert_eq!(lines[0], "note: the host says: fetching takes a while");
    assert!(lines[1].starts_with("error: no outcome of starting a"));
}
