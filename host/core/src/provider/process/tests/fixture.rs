//! A host's part: scripts in a directory, orders, calls, and an actor that answers everything.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{EntityId, InvocationId, Lease, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::{
    Call, HttpRequest, HttpResponse, Outbound, OutboundCall, Provider as _,
};

use super::super::isolation::IsolationOptions;
use super::super::launch::Order;
use super::super::supervisor::{Phase, Supervised};

/// The longest that a test waits for anything.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Answers every call with what it was given.
pub(super) struct Echo;

#[async_trait]
impl Outbound for Echo {
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal> {
        assert!(call.idempotent && call.type_hash == 7);
        Ok(format!(
            "{}: {}",
            call.target,
            String::from_utf8_lossy(&call.payload)
        )
        .into())
    }

    async fn http(&self, _: OutboundCall, _: HttpRequest) -> Result<HttpResponse, Refusal> {
        Err(Refusal::new(RefusalCode::UnknownOperation, "no HTTP here"))
    }
}

/// A directory of programs, and what their orders have in common.
pub(super) struct Workshop {
    pub(super) dir: TempDir,
    pub(super) config: BTreeMap<String, String>,
    pub(super) private_paths: Vec<PathBuf>,
}

impl Workshop {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).expect("chmod");
        Self {
            dir,
            config: BTreeMap::new(),
            private_paths: Vec::new(),
        }
    }

    /// Opens the directory to other users, so that they can reach the programs.
    pub(super) fn open_to_all(self) -> Self {
        fs::set_permissions(self.dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        self
    }

    /// Adds to the configuration of everything that is ordered.
    pub(super) fn with_config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a script there.
    pub(super) fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    pub(super) fn order(&self, program: &Path) -> Order {
        Order {
            id: EntityId::new("p").expect("an id"),
            path: program.to_owned(),
            lattice: "default".to_owned(),
            host: "NTEST".to_owned(),
            config: self.config.clone(),
            outbound: Arc::new(Echo),
            isolation: IsolationOptions {
                user: None,
                private_paths: self.private_paths.clone(),
            },
        }
    }

    /// Starts the provider of these tests.
    pub(super) async fn start(&self) -> Supervised {
        let program = self.program("provider", &super::provider::script());
        let (process, hello) = Supervised::start(self.order(&program))
            .await
            .unwrap_or_else(|error| panic!("it did not start: {error}"));
        assert_eq!(hello.name, "test");
        assert_eq!(hello.serves, ["test:provider/probe"]);
        assert_eq!(hello.calls, ["test:actor/echo"]);
        process
    }
}

/// Calls a function of the provider with text, for text.
pub(super) async fn ask(
    process: &Supervised,
    function: &str,
    payload: &str,
) -> Result<String, Refusal> {
    let current = process.current()?;
    let answer = current.door.invoke(call(function, payload)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(super) fn call(function: &str, payload: &str) -> Call {
    Call {
        id: InvocationId::random(),
        source: EntityId::new("actor").expect("an id"),
        link: LinkName::default(),
        operation: Operation::new("test:provider/probe", function),
        type_hash: 0,
        payload: payload.to_owned().into(),
        deadline: Instant::now() + SOON,
        cancel: CancellationToken::new(),
        lease: Lease {
            host: Arc::from("NTEST"),
            instance: 1,
        },
        depth: 0,
        chain: Arc::default(),
        traceparent: None,
    }
}

/// Waits for a phase.
pub(super) async fn phase(process: &Supervised, wanted: impl Fn(&Phase) -> bool) -> Phase {
    let mut watch = process.watch();
    let waiting = async {
        let mut phase = process.phase();
        while !wanted(&phase) {
            phase = watch.next().await.unwrap_or(Phase::Stopped);
        }
        phase
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("the phase came in time")
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub(super) fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().unwrap_or_default().trim();
    !matches!(state.chars().next(), None | Some('Z' | 'X'))
}

/// Waits until something is so.
pub(super) async fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn kill(pid: &str) {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
}
