//! A terminal of one's own: a home directory, an environment of nothing but what a test says, and `wash` in it. What a
//! command prints is compared whole, with what differs from run to run masked.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use trellis_claims::SigningKey;
use trellis_lattice_tests::Lattice;
use trellis_lattice_tests::binary::program;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// The JSON object on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in what was printed: {self:?}"))
    }

    /// Everything, as a person sees it.
    pub(crate) fn transcript(&self) -> String {
        let code = self
            .code
            .map_or("a signal".to_owned(), |code| code.to_string());
        format!("{}{}exit {code}\n", self.stdout, self.stderr)
    }
}

/// A terminal.
pub(crate) struct Terminal {
    home: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Terminal {
    /// One that knows no lattice.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let path = home.path().display().to_string();
        Self {
            home,
            variables: BTreeMap::from([("HOME".to_owned(), path)]),
        }
    }

    /// One that knows a lattice, and signs with the lattice's own account.
    pub(crate) fn of(lattice: &Lattice) -> Self {
        let mut terminal = Self::new();
        terminal.set("TRELLIS_NATS_URL", lattice.url());
        terminal.set("TRELLIS_LATTICE", lattice.name());
        terminal.keep_key("account", lattice.account());
        terminal
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The working directory, which is the home as well.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.home().join(below)
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        std::fs::write(&path, content).expect("a file can be written into a new directory");
        path
    }

    /// Puts a key where `wash` keeps them.
    pub(crate) fn keep_key(&self, name: &str, key: &SigningKey) {
        let directory = self.path(".config/trellis/keys");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .expect("a directory can be made");
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(directory.join(format!("{name}.nk")))
            .and_then(|mut file| file.write_all(key.seed().as_bytes()))
            .expect("a key can be written");
    }

    /// Runs `wash`.
    pub(crate) async fn wash(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(program("wash"));
        command.args(arguments);
        self.run(command).await
    }

    /// Runs `wash`, which must succeed, and reads its JSON.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let said = self
            .wash(&[arguments, &["--output", "json"]].concat())
            .await;
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.json()
    }

    /// Runs a script, for which `wash` is on the path.
    pub(crate) async fn script(&self, text: &str) -> Said {
        let bin = program("wash");
        let directory = bin.parent().expect("a program stands in a directory");
        let mut command = Command::new("sh");
        command
            .args(["-e", "-c", text])
            .env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
        let path = command
            .get_envs()
            .find_map(|(name, value)| (name == "PATH").then(|| value.map(ToOwned::to_owned)))
            .flatten();
        self.run_with(command, path).await
    }

    async fn run(&self, command: Command) -> Said {
        self.run_with(command, None).await
    }

    async fn run_with(&self, mut command: Command, path: Option<std::ffi::OsString>) -> Said {
        command
            .env_clear()
            .envs(&self.variables)
            .envs(path.map(|path| ("PATH", path)))
            .current_dir(self.home())
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("running a command does not panic")
            .expect("the program can be run");
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A text in which what differs from run to run is replaced: the home by `~`, keys by their first letter and `…`,
    /// digests by `sha256:…`, moments by `<time>`, tokens by `<jwt>`, and each of `more` by its name.
    pub(crate) fn masked(&self, text: &str, more: &[(&str, &str)]) -> String {
        let mut text = text.to_owned();
        for (found, shown) in more {
            text = text.replace(found, shown);
        }
        let real = std::fs::canonicalize(self.home()).expect("the home is there");
        for home in [real.as_path(), self.home()] {
            text = text.replace(&home.display().to_string(), "~");
        }
        let mut masked = String::new();
        for line in text.split_inclusive('\n') {
            let mut shown = String::new();
            for word in line.split_inclusive([' ', '\n', ',', ';', '"', ')', '(', '@']) {
                shown.push_str(&mask_word(word));
            }
            masked.push_str(&shown);
        }
        masked
    }
}

fn mask_word(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '\n', ',', ';', '"', ')', '(', ':', '.', '@']);
    let rest = &word[bare.len()..];
    let is_key = bare.len() == 56
        && bare.starts_with(['A', 'M', 'N', 'O', 'U', 'V'])
        && bare
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_seed = bare.len() == 58
        && bare.starts_with('S')
        && bare
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let is_moment = bare.len() == 20
        && bare.ends_with('Z')
        && bare.as_bytes()[10] == b'T'
        && bare.starts_with("20");
    let shown = if is_key || is_seed {
        format!("{}…", &bare[..if is_seed { 2 } else { 1 }])
    } else if bare.len() == 71 && bare.starts_with("sha256:") {
        "sha256:…".to_owned()
    } else if is_moment {
        "<time>".to_owned()
    } else if bare.starts_with("eyJ") {
        "<jwt>".to_owned()
    } else {
        bare.to_owned()
    };
    shown + rest
}
