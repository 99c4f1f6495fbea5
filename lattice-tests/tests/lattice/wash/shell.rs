//! A shell with a home of its own, in which `wash` is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use trellis_lattice_tests::binary::program;
use trellis_lattice_tests::{HostFixture, Lattice};
use trellis_nats_server::{NatsServer, cache_dir, explicit_path, locate};

/// What a command came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in what was printed: {self:?}"))
    }
}

/// A home directory, and the variables that commands find.
#[derive(Debug)]
pub(super) struct Home {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    pub(super) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("trellis-home-")
            .tempdir()
            .expect("a temporary directory can be made");
        let home = Self {
            directory,
            variables: Vec::new(),
        };
        let path = home.path().to_string_lossy().into_owned();
        let server = nats_server().path.to_string_lossy().into_owned();
        home.with("HOME", &path)
            .with("PATH", &std::env::var("PATH").unwrap_or_default())
            // Nobody downloads one for a test.
            .with(trellis_nats_server::PATH_VARIABLE, &server)
    }

    /// The version of the server that `wash up` starts here.
    pub(super) fn nats_server_version(&self) -> String {
        nats_server().version.to_string()
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.directory.path()).expect("the directory is there")
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("wash"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub(super) async fn wash(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("running a command does not panic")
            .expect("the program can be run");
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self
            .wash(&[arguments, &["--output", "json"]].concat())
            .await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {outcome:?}");
        let printed = outcome.json();
        assert_eq!(printed["success"], true, "{printed}");
        printed
    }
}

/// The server that the tests use.
fn nats_server() -> &'static NatsServer {
    static FOUND: OnceLock<NatsServer> = OnceLock::new();
    FOUND.get_or_init(|| {
        let cache = cache_dir().expect("there is a cache directory");
        locate(explicit_path().as_deref(), &cache).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// A shell whose `wash` knows a lattice with one host, `alpha`.
pub(super) struct Shell {
    pub(super) host: HostFixture,
    pub(super) home: Home,
    // After the host, which speaks to its server to the last.
    pub(super) lattice: Lattice,
}

impl Shell {
    pub(super) async fn open() -> Self {
        let lattice = Lattice::start().await;
        let host = lattice.host("alpha").start().await;
        let home = Home::new()
            .with("TRELLIS_NATS_URL", lattice.url())
            .with("TRELLIS_LATTICE", lattice.name());
        Self {
            host,
            home,
            lattice,
        }
    }

    pub(super) async fn wash(&self, arguments: &[&str]) -> Outcome {
        self.home.wash(arguments).await
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> Value {
        self.home.json(arguments).await
    }
}

/// Ends what `wash up --detached` started in a home, however a test ends.
pub(super) struct Cleared<'a>(pub(super) &'a Home);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        // What is not there needs no end, and a test that fails says so itself.
        let _ = self.0.command(&["down", "--all"]).output();
    }
}

/// Writes a program that can be run, such as an editor.
pub(super) fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .expect("its mode can be set");
}
