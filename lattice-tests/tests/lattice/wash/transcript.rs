//! A session with `wash`, word for word, in a file of `lattice-tests/transcripts`.
//!
//! ```text
//! # What the session is about.
//! $ wash get inventory          a command
//! host N… (alpha), up <up>      what it printed
//! ! note: …                     what it said on stderr
//! [exit 1]                      how it ended, if not with 0
//! $~ wash call …                a command that is given again until it ends with 0
//! ```
//!
//! The whole output counts. What is another thing at each run is masked (`mask`). `TRELLIS_TRANSCRIPTS=write` writes the
//! files anew instead of comparing them; the difference is for a person to judge.

use std::fmt::Write as _;
use std::path::PathBuf;

use trellis_lattice_tests::eventually;

use super::mask::Masks;
use super::shell::{Home, Outcome};

/// A session as it stands in its file.
pub(super) struct Transcript<'a> {
    name: &'static str,
    home: &'a Home,
    masks: Masks,
    variables: Vec<(String, String)>,
}

impl<'a> Transcript<'a> {
    pub(super) fn new(name: &'static str, home: &'a Home) -> Self {
        let mut masks = Masks::default();
        masks.text(&home.path().to_string_lossy(), "~");
        masks.text(env!("CARGO_PKG_VERSION"), "<version>");
        masks.text(std::env::consts::ARCH, "<arch>");
        masks.text(&home.nats_server_version(), "<nats version>");
        Self {
            name,
            home,
            masks,
            variables: Vec::new(),
        }
    }

    /// `$NAME` in a command stands for this, which the output shows as `shown`.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str, shown: &str) -> Self {
        self.masks.text(value, shown);
        self.variables.push((format!("${name}"), value.to_owned()));
        // The longest name first, so that none is taken for the beginning of another.
        self.variables
            .sort_by_key(|(name, _)| usize::MAX - name.len());
        self
    }

    /// Gives every command of the file, and compares.
    pub(super) async fn play(&self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("transcripts")
            .join(format!("{}.txt", self.name));
        let written = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let mut played = String::new();
        for line in written.lines() {
            if line.starts_with('#') {
                played.push_str(line);
                played.push('\n');
            } else if let Some(command) = line.strip_prefix("$~ ") {
                let outcome = eventually("the command succeeds", async || {
                    let outcome = self.run(command).await;
                    (outcome.code == Some(0)).then_some(outcome)
                })
                .await;
                self.tell(&mut played, line, &outcome);
            } else if let Some(command) = line.strip_prefix("$ ") {
                let outcome = self.run(command).await;
                self.tell(&mut played, line, &outcome);
            }
        }
        if std::env::var_os("TRELLIS_TRANSCRIPTS").is_some_and(|wish| wish == "write") {
            std::fs::write(&path, played).expect("a transcript can be written");
            return;
        }
        assert!(
            played == written,
            "{} went another way than it is written:\n{}",
            self.name,
            difference(&written, &played)
        );
    }

    async fn run(&self, command: &str) -> Outcome {
        let mut command = command.to_owned();
        for (name, value) in &self.variables {
            command = command.replace(name, value);
        }
        let words = words(&command);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let (program, arguments) = words.split_first().expect("a command has a first word");
        assert_eq!(*program, "wash", "a transcript runs wash alone");
        self.home.wash(arguments).await
    }

    fn tell(&self, played: &mut String, line: &str, outcome: &Outcome) {
        let stdout = self.masks.apply(&outcome.stdout);
        let stderr = self.masks.apply(&outcome.stderr);
        played.push_str(line);
        played.push('\n');
        played.push_str(&stdout);
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            played.push_str("\\\n");
        }
        for line in stderr.lines() {
            writeln!(played, "! {line}").expect("a String takes every write");
        }
        if outcome.code != Some(0) {
            let code = outcome
                .code
                .map_or_else(|| "by a signal".to_owned(), |code| code.to_string());
            writeln!(played, "[exit {code}]").expect("a String takes every write");
        }
    }
}

/// The first lines that differ, and where.
fn difference(written: &str, played: &str) -> String {
    let (mut written, mut played) = (written.lines(), played.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (written.next(), played.next()) {
            (None, None) => return "nothing but the end of the last line".to_owned(),
            (one, other) if one == other => {}
            (one, other) => {
                let rest: Vec<_> = played.take(12).collect();
                return format!(
                    "line {number}\n  written: {}\n  played:  {}\n           {}",
                    one.unwrap_or("(the end)"),
                    other.unwrap_or("(the end)"),
                    rest.join("\n           ")
                );
            }
        }
    }
}

/// Words with blanks between; single quotes hold them together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut in_word, mut quoted) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                in_word = true;
            }
            ' ' if !quoted => {
                if in_word {
                    words.push(std::mem::take(&mut word));
                    in_word = false;
                }
            }
            c => {
                word.push(c);
                in_word = true;
            }
        }
    }
    if in_word {
        words.push(word);
    }
    words
}

#[test]
fn a_command_line_is_split_as_a_shell_would() {
    assert_eq!(words("wash a 'b c' '' d"), ["wash", "a", "b c", "", "d"]);
}
