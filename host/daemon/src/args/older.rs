//! The names that variables had in wasmCloud 1.x. They are read where ours are not set, and whoever uses them is told.
//!
//! A flag names its variable where it is defined. Where only the older name is set, the definition is turned to that one
//! before the command line is read, so that clap reads it as it would read ours: the process's environment is never
//! written.

use std::env;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Our names, and the older ones in the order in which they are looked at.
const OLDER: &[(&str, &[&str])] = &[
    ("TRELLIS_LATTICE", &["WASMCLOUD_LATTICE"]),
    (
        "TRELLIS_CREDS",
        &[
            "WASMCLOUD_CTL_CREDSFILE",
            "WASMCLOUD_CTL_CREDS",
            "WASMCLOUD_NATS_CREDS",
        ],
    ),
    ("TRELLIS_NATS_CA", &["WASMCLOUD_CTL_TLS_CA_FILE"]),
    ("TRELLIS_JS_DOMAIN", &["WASMCLOUD_JS_DOMAIN"]),
    ("TRELLIS_CONTROL_PREFIX", &["WASMCLOUD_CTL_TOPIC_PREFIX"]),
    ("TRELLIS_ALLOW_FILE", &["WASMCLOUD_ALLOW_FILE_LOAD"]),
    ("TRELLIS_ALLOW_FILE_LOAD", &["WASMCLOUD_ALLOW_FILE_LOAD"]),
    ("TRELLIS_ALLOW_LATEST", &["WASMCLOUD_OCI_ALLOW_LATEST"]),
    (
        "TRELLIS_INSECURE_REGISTRIES",
        &["WASMCLOUD_OCI_ALLOWED_INSECURE"],
    ),
    ("TRELLIS_LOG_LEVEL", &["WASMCLOUD_LOG_LEVEL"]),
    (
        "TRELLIS_STRUCTURED_LOGGING",
        &["WASMCLOUD_STRUCTURED_LOGGING_ENABLED"],
    ),
    ("TRELLIS_OCI_REGISTRY", &["OCI_REGISTRY"]),
    ("TRELLIS_OCI_USER", &["OCI_REGISTRY_USER"]),
    ("TRELLIS_OCI_PASSWORD", &["OCI_REGISTRY_PASSWORD"]),
    ("TRELLIS_NATS_HOST", &["WASMCLOUD_NATS_HOST"]),
    ("TRELLIS_NATS_PORT", &["WASMCLOUD_NATS_PORT"]),
    ("TRELLIS_NATS_CONNECT_ONLY", &["NATS_CONNECT_ONLY"]),
    ("TRELLIS_NATS_CONFIG", &["NATS_CONFIG"]),
    ("TRELLIS_NATS_REMOTE_URL", &["NATS_REMOTE_URL"]),
    ("TRELLIS_NATS_CREDSFILE", &["NATS_CREDSFILE"]),
    ("TRELLIS_NATS_JS_DOMAIN", &["NATS_JS_DOMAIN"]),
    ("TRELLIS_NATS_WEBSOCKET_PORT", &["NATS_WEBSOCKET_PORT"]),
];

/// What the variables of a host's labels begin with in wasmCloud 1.x.
const LABEL_PREFIX: &str = "WASMCLOUD_LABEL_";

/// What is told of an older name that was read.
#[must_use]
pub fn note(older: &str, name: &str) -> String {
    format!("note: read {older}; its name is {name} now")
}

/// The flags of a command that were turned to an older variable.
#[derive(Debug, Default)]
pub struct Turned(Vec<(String, String)>);

/// The same command, whose flags read an older variable where ours is not set and that one is.
#[must_use]
pub fn reading_older_variables(command: Command) -> (Command, Turned) {
    reading(command, &|name| {
        env::var_os(name).is_some_and(|value| !value.is_empty())
    })
}

fn reading(command: Command, is_set: &dyn Fn(&str) -> bool) -> (Command, Turned) {
    let mut turned = Turned::default();
    let command = turned.turn(command, is_set);
    (command, turned)
}

impl Turned {
    fn turn(&mut self, command: Command, is_set: &dyn Fn(&str) -> bool) -> Command {
        let mut command = command.mut_args(|argument| {
            let name = argument
                .get_env()
                .and_then(|name| name.to_str())
                .map(str::to_owned);
            let older = match &name {
                Some(name) if !is_set(name) => older_names(name).find(|older| is_set(older)),
                _ => None,
            };
            match (older, name) {
                (Some(older), Some(name)) => {
                    self.0
                        .push((argument.get_id().to_string(), note(older, &name)));
                    argument.env(older)
                }
                _ => argument,
            }
        });
        let names: Vec<String> = command
            .get_subcommands()
            .map(|subcommand| subcommand.get_name().to_owned())
            .collect();
        for name in names {
            command = command.mut_subcommand(name, |subcommand| self.turn(subcommand, is_set));
        }
        command
    }

    /// What is to be told about the older variables that a command line has read.
    #[must_use]
    pub fn notes(&self, matches: &ArgMatches) -> Vec<String> {
        let mut notes = Vec::new();
        let mut matches = Some(matches);
        while let Some(here) = matches {
            for (id, note) in &self.0 {
                let is_there = here.try_contains_id(id).unwrap_or(false);
                if is_there
                    && here.value_source(id) == Some(ValueSource::EnvVariable)
                    && !notes.contains(note)
                {
                    notes.push(note.clone());
                }
            }
            matches = here.subcommand().map(|(_, below)| below);
        }
        notes
    }
}

fn older_names(name: &str) -> impl Iterator<Item = &'static str> {
    OLDER
        .iter()
        .filter(move |(ours, _)| *ours == name)
        .flat_map(|(_, older)| older.iter().copied())
}

/// Labels that variables such as `WASMCLOUD_LABEL_zone` give a host.
pub fn older_labels(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, String)> {
    let mut labels: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let key = name.to_str()?.strip_prefix(LABEL_PREFIX)?.to_owned();
            let value = value.into_string().ok()?;
            (!key.is_empty()).then_some((key, value))
        })
        .collect();
    labels.sort();
    labels
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let lattice = Arg::new("lattice").long("lattice").env("TRELLIS_LATTICE");
        Command::new("host").subcommand(Command::new("up").arg(lattice))
    }

    fn env_of_lattice(command: &Command) -> String {
        let up = command.find_subcommand("up").unwrap();
        let argument = up.get_arguments().next().unwrap();
        argument.get_env().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_flag_reads_the_older_variable_where_only_that_one_is_set() {
        let (only_older, _) = reading(command(), &|name| name == "WASMCLOUD_LATTICE");
        assert_eq!(env_of_lattice(&only_older), "WASMCLOUD_LATTICE");
        let (both, _) = reading(command(), &|_| true);
        assert_eq!(env_of_lattice(&both), "TRELLIS_LATTICE");
        let (neither, _) = reading(command(), &|_| false);
        assert_eq!(env_of_lattice(&neither), "TRELLIS_LATTICE");
    }

    #[test]
    fn a_flag_on_the_command_line_leaves_nothing_to_tell() {
        let (command, turned) = reading(command(), &|name| name == "WASMCLOUD_LATTICE");
        let matches = command
            .try_get_matches_from(["host", "up", "--lattice", "a"])
            .unwrap();
        assert!(turned.notes(&matches).is_empty());
    }

    #[test]
    fn labels_are_read_from_their_variables() {
        let variables = [
            ("WASMCLOUD_LABEL_zone", "a"),
            ("WASMCLOUD_LABEL_", "x"),
            ("PATH", "/"),
        ];
        let labels = older_labels(variables.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(labels, [("zone".to_owned(), "a".to_owned())]);
    }
}
