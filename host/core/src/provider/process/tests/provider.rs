//! A provider that does what a test asks for, in a process: this test program, started by a script as one of its own tests.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::{
    Call, Link, LinkEnd, LinkError, OutboundCall, Provider, ProviderFactory, ProviderSetup,
    StartError, process,
};

/// What the script sets.
const ROLE: &str = "TEST_ROLE";

/// Text of a script that runs this program as a provider.
pub(super) fn script() -> String {
    as_test(
        "provider",
        "provider::process::tests::provider::in_the_role_of_a_provider",
    )
}

/// Text of a script that runs one of the tests here in a role.
pub(super) fn as_test(role: &str, test: &str) -> String {
    let program = std::env::current_exe().expect("a test knows its own program");
    let program = program.display();
    format!("#!/bin/sh\n{ROLE}={role} exec '{program}' --exact {test} --nocapture\n")
}

pub(super) fn has_role(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|found| found == role)
}

#[test]
fn in_the_role_of_a_provider() {
    if has_role("provider") {
        let _ = process::main(Factory);
        // The other threads are none of its business.
        std::process::exit(0);
    }
}

struct Factory;

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "test"
    }

    fn serves(&self) -> &'static [&'static str] {
        &["test:provider/probe"]
    }

    fn calls(&self) -> &'static [&'static str] {
        &["test:actor/echo"]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        match setup.config.get("start").map(String::as_str) {
            Some("refuse") => Err(StartError::Config {
                key: "start".to_owned(),
                reason: "it says refuse".to_owned(),
            }),
            Some("exit") => {
                eprintln!("ERROR the backend is on fire");
                std::process::exit(9)
            }
            _ if setup
                .config
                .get("exit if")
                .is_some_and(|path| Path::new(path).exists()) =>
            {
                eprintln!("ERROR the backend is on fire");
                std::process::exit(9)
            }
            _ => Ok(Arc::new(Probe::new(setup))),
        }
    }
}

struct Probe {
    setup: ProviderSetup,
    links: AtomicUsize,
    waiting: AtomicUsize,
}

impl Probe {
    fn new(setup: ProviderSetup) -> Self {
        Self {
            setup,
            links: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    async fn ask_actor(&self, payload: Bytes) -> Result<Bytes, Refusal> {
        let call = OutboundCall {
            target: EntityId::new("actor").expect("an id"),
            link: LinkName::default(),
            operation: Operation::new("test:actor/echo", "echo"),
            type_hash: 7,
            payload,
            deadline: Instant::now() + Duration::from_secs(5),
            cancel: CancellationToken::new(),
            idempotent: true,
            traceparent: None,
        };
        self.setup.outbound.invoke(call).await
    }
}

#[async_trait]
impl Provider for Probe {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        if let Some(reason) = link.config.get("refuse") {
            return Err(LinkError::Config {
                key: "refuse".to_owned(),
                reason: reason.clone(),
            });
        }
        self.links.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {
        self.links.fetch_sub(1, Ordering::Relaxed);
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        let text = || String::from_utf8_lossy(&call.payload).into_owned();
        let answer = match &*call.operation.function {
            "echo" => return Ok(call.payload),
            "pid" => std::process::id().to_string(),
            "uid" => rustix::process::getuid().as_raw().to_string(),
            "links" => self.links.load(Ordering::Relaxed).to_string(),
            "environment" => std::env::vars_os()
                .map(|(key, _)| key.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
            "directory" => std::env::current_dir()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            "read" => std::fs::read_to_string(text()).unwrap_or_else(|error| error.to_string()),
            "write" => std::fs::write(text(), "x")
                .map_or_else(|error| error.to_string(), |()| "written".to_owned()),
            "temporary" => {
                let path = std::env::temp_dir().join("x");
                std::fs::write(&path, "x")
                    .map_or_else(|error| error.to_string(), |()| path.display().to_string())
            }
            "signal" => {
                let pid = text().parse().ok().and_then(rustix::process::Pid::from_raw);
                let sent = pid.map(rustix::process::test_kill_process);
                format!("{sent:?}")
            }
            "grandchild" => Command::new("sleep")
                .arg("1000")
                .spawn()
                .map(|child| child.id().to_string())
                .unwrap_or_default(),
            "print" => {
                eprintln!("{}", text());
                String::new()
            }
            "flood" => {
                for n in 0..200_000 {
                    eprintln!("line {n}");
                }
                "printed".to_owned()
            }
            "ask actor" => return self.ask_actor(call.payload).await,
            "panic" => panic!("as asked"),
            "exit" => std::process::exit(7),
            "wait" => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
            "waiting" => self.waiting.load(Ordering::Relaxed).to_string(),
            _ => {
                return Err(Refusal::new(RefusalCode::UnknownOperation, "no such thing"));
            }
        };
        Ok(answer.into())
    }

    async fn shutdown(&self, _: Duration) {
        if let Some(path) = self.setup.config.get("farewell") {
            let _ = std::fs::write(path, "it was asked to shut down");
        }
    }
}
