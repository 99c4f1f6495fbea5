//! "How to write one" of `docs/providers.md`, followed word for word: its files are written as they stand there, its
//! commands typed, and what they print compared with what it says they print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use trellis_lattice_tests::Lattice;
use trellis_lattice_tests::binary::program;

const GUIDE: &str = include_str!("../../../docs/providers.md");

/// The root of the checkout.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// One thing that the guide has its reader do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Write this file, named by a path that begins with `fx/`.
    File { path: String, text: String },
    /// Type this line; these lines come back.
    Line { line: String, printed: Vec<String> },
}

/// The steps of the section, in their order. A file's path is the last one in backquotes before its block.
fn steps(guide: &str) -> Vec<Step> {
    let (_, section) = guide
        .split_once("\n## How to write one\n")
        .expect("the guide has its section");
    let mut steps = Vec::new();
    let mut path = None;
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            break;
        }
        if let Some(language) = line.strip_prefix("```") {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            if language == "console" {
                steps.extend(session(&block));
            } else {
                let path = path.take().expect("the text before a block names its file");
                let text = block.join("\n") + "\n";
                steps.push(Step::File { path, text });
            }
            continue;
        }
        let named = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with("fx/") && code.contains('.'));
        path = named.last().map(str::to_owned).or(path);
    }
    steps
}

fn session(block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(line), _) => steps.push(Step::Line {
                line: line.to_owned(),
                printed: Vec::new(),
            }),
            (None, Some(Step::Line { printed, .. })) => printed.push((*line).to_owned()),
            (None, _) => panic!("a console begins with a line to type, not with {line:?}"),
        }
    }
    steps
}

/// A reader with a home, a shell, and the checkout beside the new directory.
struct Reader {
    desk: PathBuf,
    home: PathBuf,
    nats_url: String,
    lattice: String,
}

impl Reader {
    /// What was built for the guide before is kept, so that only its first run is slow.
    fn sit_down(lattice: &Lattice) -> Self {
        let desk = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
        fs::create_dir_all(desk.join("fx")).expect("the target directory can be written");
        let checkout = desk.join("trellis");
        // A leftover may lead to a checkout that has moved.
        let _ = fs::remove_file(&checkout);
        let real = fs::canonicalize(CHECKOUT).expect("the checkout is there");
        std::os::unix::fs::symlink(real, checkout).expect("a link can be made");
        let home = lattice.files().join("home");
        fs::create_dir(&home).expect("a directory can be made in a new one");
        Self {
            desk,
            home,
            nats_url: lattice.url().to_owned(),
            lattice: lattice.name().to_owned(),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.desk.join(path);
        // An unchanged file keeps its time, and so what was built from it.
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            return;
        }
        let directory = path.parent().expect("a file is in a directory");
        fs::create_dir_all(directory).expect("a directory can be made");
        fs::write(&path, text).expect("a file can be written");
    }

    /// Pins the versions of dependencies to those of the checkout: a test must not fetch newer ones.
    fn pin(&self, package: &str, lock: &str) {
        let lock = Path::new(CHECKOUT).join(lock);
        let pinned = self.desk.join("fx").join(package).join("Cargo.lock");
        if !pinned.exists() {
            fs::copy(lock, pinned).expect("a lock file can be copied");
        }
    }

    fn shell(&self, line: &str) -> Output {
        let wash = program("wash");
        let mut path = vec![wash.parent().expect("a program is in a directory").into()];
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(self.desk.join("fx"))
            .env(
                "PATH",
                std::env::join_paths(path).expect("paths can be joined"),
            )
            .env("TRELLIS_NATS_URL", &self.nats_url)
            .env("TRELLIS_LATTICE", &self.lattice)
            .env("TRELLIS_KEYS_DIR", self.home.join("keys"))
            .env("TRELLIS_STATE_DIR", self.home.join("state"))
            .env("XDG_DATA_HOME", &self.home)
            .env("XDG_STATE_HOME", &self.home)
            .env("CARGO_NET_OFFLINE", "true")
            // Nobody will debug it, and it is built beside other tests.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_MANIFEST_DIR")
            .stdin(Stdio::null());
        command.output().expect("there is a shell")
    }

    fn must(&self, line: &str) -> String {
        let output = self.shell(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}`: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Reader {
    /// A test that failed must not leave its host behind.
    fn drop(&mut self) {
        let _ = self.shell("wash down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_written_by_the_guide_serves_an_actor() {
    let lattice = Lattice::start().await;
    let reader = Reader::sit_down(&lattice);
    tokio::task::spawn_blocking(move || {
        reader.must("wash up --detached");
        let steps = steps(GUIDE);
        let files = steps.iter().filter(|s| matches!(s, Step::File { .. }));
        assert_eq!(files.count(), 6, "{steps:#?}");
        for step in steps {
            match step {
                Step::File { path, text } => {
                    reader.write(&path, &text);
                    match path.as_str() {
                        "fx/provider/Cargo.toml" => reader.pin("provider", "Cargo.lock"),
                        "fx/shop/Cargo.toml" => reader.pin("shop", "actors/Cargo.lock"),
                        _ => {}
                    }
                }
                Step::Line { line, printed } => {
                    let stdout = reader.must(&line);
                    if !printed.is_empty() {
                        let lines: Vec<_> = stdout.lines().collect();
                        assert_eq!(lines, printed, "of `{line}`");
                    }
                }
            }
        }
        reader.must("wash down");
    })
    .await
    .expect("the guide leads to its end");
}

#[test]
fn a_console_is_lines_and_what_they_print() {
    let guide = "\n## How to write one\n\n`fx/a.txt` and `b`:\n\n```text\nx\n```\n\n```console\n$ one\nsaid\n$ two\n```\n## Next\n";
    let line = |line: &str, printed: &[&str]| Step::Line {
        line: line.to_owned(),
        printed: printed.iter().map(|line| (*line).to_owned()).collect(),
    };
    let file = Step::File {
        path: "fx/a.txt".to_owned(),
        text: "x\n".to_owned(),
    };
    assert_eq!(
        steps(guide),
        [file, line("one", &["said"]), line("two", &[])]
    );
}
