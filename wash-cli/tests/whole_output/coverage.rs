//! Every command is documented, and somewhere its whole output is held.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use wash::cli::Cli;

const ARTIFACTS: &str = "lattice-tests/tests/lattice/wash_artifacts.rs";
const TRANSFER: &str = "lattice-tests/tests/lattice/wash_artifacts/transfer.rs";
const DOCTOR: &str = "lattice-tests/tests/lattice/doctor.rs";
const IMPORT: &str = "lattice-tests/tests/lattice/import.rs";
const OBSERVING: &str = "lattice-tests/tests/lattice/observing/shell.rs";
const SIGNING: &str = "wash-cli/tests/whole_output/signing.rs";

/// Commands whose whole output is held by tests and not by a transcript, and where.
const TOLD_ELSEWHERE: [(&str, &str); 25] = [
    ("build", SIGNING),
    ("claims inspect", SIGNING),
    ("claims sign", SIGNING),
    ("claims token account", ARTIFACTS),
    ("claims token component", ARTIFACTS),
    ("claims token host", ARTIFACTS),
    ("claims token provider", ARTIFACTS),
    ("completions", ARTIFACTS),
    ("doctor", DOCTOR),
    ("import", IMPORT),
    ("inspect", ARTIFACTS),
    ("keys gen", ARTIFACTS),
    ("keys get", ARTIFACTS),
    ("keys list", ARTIFACTS),
    ("logs", OBSERVING),
    ("man", ARTIFACTS),
    ("par create", ARTIFACTS),
    ("par insert", ARTIFACTS),
    ("par inspect", ARTIFACTS),
    ("pull", TRANSFER),
    ("push", TRANSFER),
    ("spy", OBSERVING),
    ("top", OBSERVING),
    ("wit", ARTIFACTS),
    ("wit build", ARTIFACTS),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands that do something: those without commands of their own, or that can be given without one.
fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        let path = format!("{path} {}", below.get_name());
        if !below.has_subcommands() || !below.is_subcommand_required_set() {
            found.insert(path.trim().to_owned());
        }
        leaves(below, &path, found);
    }
}

fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    leaves(&Cli::command(), "", &mut found);
    found
}

/// The command that a line of a transcript gives, by its name in the definitions: aliases are resolved.
fn command_of(line: &str) -> Option<String> {
    let words = line
        .strip_prefix("$ wash ")
        .or_else(|| line.strip_prefix("$~ wash "))?;
    let mut command = Cli::command();
    let mut path = Vec::new();
    for word in words
        .split_whitespace()
        .filter(|word| !word.starts_with('-'))
    {
        let Some(below) = command.find_subcommand(word) else {
            break;
        };
        path.push(below.get_name().to_owned());
        command = below.clone();
    }
    (!path.is_empty()).then(|| path.join(" "))
}

fn transcribed() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut people, mut programs) = (BTreeSet::new(), BTreeSet::new());
    let directory = repository().join("lattice-tests/transcripts");
    for entry in fs::read_dir(&directory).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let Some(command) = command_of(line) else {
                continue;
            };
            if line.contains("-o json") || line.contains("--output json") {
                programs.insert(command);
            } else {
                people.insert(command);
            }
        }
    }
    (people, programs)
}

#[test]
fn every_command_is_in_the_documentation() {
    let text = fs::read_to_string(repository().join("docs/wash.md")).unwrap();
    let missing: Vec<_> = commands()
        .into_iter()
        .filter(|command| !text.contains(&format!("`wash {command}")))
        .collect();
    assert!(missing.is_empty(), "docs/wash.md does not name {missing:?}");
}

#[test]
fn every_variable_is_in_the_documentation() {
    let text = fs::read_to_string(repository().join("docs/wash.md")).unwrap();
    let mut missing = BTreeSet::new();
    let command = Cli::command();
    let below: Vec<_> = command.get_subcommands().collect();
    for command in std::iter::once(&command).chain(below) {
        for argument in command.get_arguments() {
            let variable = argument.get_env().and_then(|name| name.to_str());
            if let Some(name) = variable
                && !text.contains(name)
            {
                missing.insert(name.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "docs/wash.md does not name {missing:?}");
}

#[test]
fn every_command_has_a_transcript_for_people_and_one_for_programs() {
    let (people, programs) = transcribed();
    let mut missing = Vec::new();
    for command in commands() {
        if let Some((_, file)) = TOLD_ELSEWHERE.iter().find(|(told, _)| *told == command) {
            let text = fs::read_to_string(repository().join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            let last = command.rsplit(' ').next().unwrap();
            assert!(
                text.contains(&format!("\"{last}\"")) && text.contains("json"),
                "{file} does not give `wash {command}`"
            );
            continue;
        }
        if !people.contains(&command) {
            missing.push(format!("{command} (for people)"));
        }
        if !programs.contains(&command) {
            missing.push(format!("{command} (for programs)"));
        }
    }
    assert!(missing.is_empty(), "no transcript has {missing:#?}");
}

#[test]
fn a_table_of_what_is_told_elsewhere_names_commands_alone() {
    let commands = commands();
    for (told, _) in TOLD_ELSEWHERE {
        assert!(commands.contains(told), "{told}");
    }
}
