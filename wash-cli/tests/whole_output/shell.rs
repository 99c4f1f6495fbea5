//! A machine of one's own for the binary: an empty home directory and an empty environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where commands run. Gone with this value.
pub(crate) struct Shell {
    home: tempfile::TempDir,
    variables: BTreeMap<OsString, OsString>,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut shell = Self {
            home,
            variables: BTreeMap::new(),
        };
        // What a build needs, and nothing of whoever runs the tests.
        for name in [
            "PATH",
            "CARGO",
            "RUSTC",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
        ] {
            if let Some(value) = std::env::var_os(name) {
                shell.variables.insert(name.into(), value);
            }
        }
        for (name, below) in [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
        ] {
            let path = shell.path(below);
            shell.variables.insert(name.into(), path.into());
        }
        shell
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.into(), value.into());
    }

    /// A path in the temporary directory, which is also the working directory.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.home.path()).unwrap().join(below)
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn wash(&self, args: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_wash"))
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .envs(&self.variables)
            .output()
            .unwrap();
        Said::of(output)
    }

    /// The same on a terminal, at which something is typed. What appears there is in `stdout`.
    pub(crate) fn wash_on_a_terminal(&self, args: &[&str], typed: &str) -> Said {
        let words = [env!("CARGO_BIN_EXE_wash")].into_iter();
        let line: Vec<_> = words.chain(args.iter().copied()).map(quoted).collect();
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command"])
            .arg(line.join(" "))
            .arg("/dev/null")
            .current_dir(self.home.path())
            .env_clear()
            .envs(&self.variables)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("util-linux has `script`");
        let mut keyboard = child.stdin.take().unwrap();
        keyboard.write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(keyboard);
        Said::of(output)
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A port that nobody listens on at this moment.
pub(crate) fn unused_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The smallest component: its preamble, and one custom section.
pub(crate) fn component() -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend_from_slice(b"\0\x05\x04note");
    bytes
}
