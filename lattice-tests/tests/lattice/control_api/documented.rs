//! `docs/control-api.md` names every operation and every event, and names only tests that there are.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use trellis_protocol::event::EventData;

/// Every request that a host of this project answers.
const REQUESTS: &[&str] = &[
    "host.ping",
    "host.get",
    "host.stop",
    "host.links",
    "host.stats",
    "component.auction",
    "component.scale",
    "component.update",
    "component.call",
    "component.spy",
    "component.logs",
    "provider.auction",
    "provider.start",
    "provider.stop",
    "link.put",
    "link.del",
    "link.get",
    "claims.get",
    "config.put",
    "config.get",
    "config.del",
    "label.put",
    "label.del",
    "registry.put",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(repository().join("docs/control-api.md")).expect("the page is there")
}

/// Rows of tables whose last column says which tests hold them: the first column, and the tests.
fn rows(page: &str) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    let mut is_held = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            is_held = false;
            continue;
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let last = cells.last().copied().unwrap_or_default();
        if last == "held by" {
            is_held = true;
        } else if is_held && !last.starts_with("---") {
            rows.push((cells[0].to_owned(), quoted(last)));
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// The names of all functions in the sources of this repository.
fn functions() -> HashSet<String> {
    let mut functions = HashSet::new();
    for directory in [
        "host",
        "interfaces",
        "lattice-tests",
        "providers",
        "wash-cli",
        "xtask",
    ] {
        collect(&repository().join(directory), &mut functions);
    }
    functions
}

fn collect(directory: &Path, functions: &mut HashSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory can be read") {
        let path = entry.expect("a directory can be read").path();
        if path.is_dir() {
            collect(&path, functions);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source can be read");
            let named = source.lines().filter_map(|line| {
                let (_, rest) = line.split_once("fn ")?;
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
                Some(rest[..end].to_owned())
            });
            functions.extend(named);
        }
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let functions = functions();
    let rows = rows(&page());
    assert!(rows.len() > REQUESTS.len(), "the page has tables");
    for (what, tests) in rows {
        assert!(!tests.is_empty(), "nothing holds {what}");
        for test in tests {
            assert!(
                functions.contains(&test),
                "{what}: there is no test `{test}`"
            );
        }
    }
}

#[test]
fn every_request_and_every_event_stands_in_a_table_of_the_page() {
    let rows = rows(&page());
    let named: HashSet<String> = rows.iter().flat_map(|(what, _)| quoted(what)).collect();
    for name in REQUESTS.iter().chain(EventData::NAMES) {
        assert!(named.contains(*name), "`{name}` is not documented");
    }
}
