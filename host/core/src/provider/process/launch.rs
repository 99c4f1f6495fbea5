//! One incarnation of a provider process: from a file to a provider that has started, or the reason why not.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trellis_pipe::{Hello, Pipe, PipeEnd, PipeError, PipeLimits, Question};
use trellis_protocol::EntityId;
use trellis_provider_sdk::{Outbound, StartError};

use super::calls::Calls;
use super::child::Child;
use super::door::{Door, start_error};
use super::isolation::{IsolationOptions, Means, prepare};
use super::log::{Log, Stream};
use super::program::{Program, ProgramError};
use super::spawn::spawn;

/// Time that a process has to say what it is.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// Time that it then has to start.
const START_MAX: Duration = Duration::from_secs(30);

/// How long the end of the socket waits for that of the process.
const TOGETHER_MAX: Duration = Duration::from_secs(1);

/// How long the last frames of a process that has ended are read. Short: something that it started may hold the socket
/// open, and calls that are let in meanwhile are lost.
const LAST_FRAMES_MAX: Duration = Duration::from_millis(100);

/// How long the last lines of a process that has ended are waited for.
const LAST_LINES_MAX: Duration = Duration::from_millis(250);

/// What is started, and with what.
pub(in crate::provider) struct Order {
    pub(in crate::provider) id: EntityId,
    pub(in crate::provider) path: PathBuf,
    pub(in crate::provider) lattice: String,
    pub(in crate::provider) host: String,
    pub(in crate::provider) config: BTreeMap<String, String>,
    pub(in crate::provider) outbound: Arc<dyn Outbound>,
    pub(in crate::provider) isolation: IsolationOptions,
}

/// Why a provider process did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LaunchError {
    /// The file cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The system did not start it.
    #[error(
        "{} cannot be started: {source}; is it a program for this machine, and is its interpreter there?",
        path.display()
    )]
    Spawn {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended before it said what it is.
    #[error(
        "{} ended ({how}) before it said hello: it is no provider of Trellis, or it cannot run here. \
         A provider is a program that is built with trellis-provider-sdk, or speaks the protocol's section on \
         a provider's socket{said}",
        path.display()
    )]
    NoProvider {
        /// The file.
        path: PathBuf,
        /// How it ended.
        how: String,
        /// What it printed last.
        said: Said,
    },
    /// It says nothing.
    #[error(
        "{} runs and did not say hello within {} s: it is no provider of Trellis, or it hangs. It was ended{said}",
        path.display(),
        HELLO_MAX.as_secs()
    )]
    NoHello {
        /// The file.
        path: PathBuf,
        /// What it printed last.
        said: Said,
    },
    /// It says something else.
    #[error(
        "{} does not speak as a provider of Trellis does: {reason}. Build it against the version that this host has{said}",
        path.display()
    )]
    Misspoke {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
        /// What it printed last.
        said: Said,
    },
    /// It refused to start.
    #[error(transparent)]
    NotStarted(#[from] StartError),
    /// It ended while it started.
    #[error("it ended while it started ({how}){said}")]
    EndedStarting {
        /// How it ended.
        how: String,
        /// What it printed last.
        said: Said,
    },
    /// It did not say whether it started.
    #[error("it did not start within {} s, and was ended{said}", START_MAX.as_secs())]
    StartTimeout {
        /// What it printed last.
        said: Said,
    },
}

impl LaunchError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Program(error) => error.code(),
            Self::Spawn { .. } => "program-not-started",
            Self::NoProvider { .. } | Self::NoHello { .. } | Self::Misspoke { .. } => {
                "not-a-provider"
            }
            Self::NotStarted(StartError::Config { .. }) => "config-invalid",
            Self::NotStarted(_) | Self::EndedStarting { .. } | Self::StartTimeout { .. } => {
                "provider-failed"
            }
        }
    }
}

/// The last lines of a process's output, for a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said(Vec<String>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; its last lines were:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// A process that has started.
pub(super) struct Incarnation {
    pub(super) door: Arc<Door>,
    pub(super) hello: Hello,
    process: Process,
    pipe: Pipe,
}

/// A process and its output.
struct Process {
    child: Child,
    log: Arc<Log>,
    readers: JoinSet<()>,
}

impl Order {
    /// Starts an incarnation. Dropping the future kills the process.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left of the process then.
    pub(super) async fn launch(&self) -> Result<Incarnation, LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| self.not_spawned(error))?;
        let ours = ours
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixStream::from_std(ours))
            .map_err(|error| self.not_spawned(error))?;
        let mut process = self.spawn(theirs).await?;
        match self.greet(ours, &mut process).await {
            Ok((pipe, hello)) => Ok(Incarnation {
                door: Arc::new(Door::new(self.id.clone(), pipe.clone())),
                hello,
                process,
                pipe,
            }),
            Err(error) => {
                process.child.kill().await;
                Err(error)
            }
        }
    }

    fn not_spawned(&self, source: io::Error) -> LaunchError {
        LaunchError::Spawn {
            path: self.path.clone(),
            source,
        }
    }

    async fn spawn(&self, socket: UnixStream) -> Result<Process, LaunchError> {
        let (path, options) = (self.path.clone(), self.isolation.clone());
        let preparing = tokio::task::spawn_blocking(move || {
            let program = Program::check(&path)?;
            let prepared = prepare(&program, &options);
            Ok::<_, ProgramError>((program, prepared))
        });
        let (program, prepared) = preparing
            .await
            .map_err(|error| self.not_spawned(io::Error::other(error)))??;
        let spawned = spawn(Handle::current(), program, socket, prepared.confinement).await;
        let mut child = spawned.map_err(|error| self.not_spawned(error))?;
        let (id, pid) = (&self.id, child.id());
        match &prepared.means {
            Means::None(reason) => {
                tracing::warn!(provider_id = %id, pid, reason, "a provider process was started that is not kept from this host's files");
            }
            means => {
                tracing::info!(provider_id = %id, pid, isolation = %means, "a provider process was started");
            }
        }
        let log = Arc::new(Log::new(self.id.clone()));
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            let log = Arc::clone(&log);
            readers.spawn(async move { log.follow(stdout, Stream::Stdout).await });
        }
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            readers.spawn(async move { log.follow(stderr, Stream::Stderr).await });
        }
        Ok(Process {
            child: Child::new(child, prepared.temporary),
            log,
            readers,
        })
    }

    /// Hears what the process is, and has it start.
    async fn greet(
        &self,
        socket: tokio::net::UnixStream,
        process: &mut Process,
    ) -> Result<(Pipe, Hello), LaunchError> {
        let handler = Arc::new(Calls(Arc::clone(&self.outbound)));
        let path = || self.path.clone();
        let (pipe, hello) =
            match Pipe::host_end(socket, PipeLimits::default(), handler, HELLO_MAX).await {
                Ok(begun) => begun,
                Err(PipeError::Ended(PipeEnd::Eof | PipeEnd::Io { .. })) => {
                    return Err(match process.ended_soon().await {
                        Some(how) => LaunchError::NoProvider {
                            path: path(),
                            how,
                            said: process.last_words().await,
                        },
                        None => LaunchError::Misspoke {
                            path: path(),
                            reason: "it closed its socket".to_owned(),
                            said: process.last_words().await,
                        },
                    });
                }
                Err(PipeError::NoHello(_)) => {
                    return Err(LaunchError::NoHello {
                        path: path(),
                        said: process.last_words().await,
                    });
                }
                Err(error) => {
                    return Err(LaunchError::Misspoke {
                        path: path(),
                        reason: error.to_string(),
                        said: process.last_words().await,
                    });
                }
            };
        let start = Question::Start {
            id: self.id.clone(),
            lattice: self.lattice.clone(),
            host: self.host.clone(),
            config: self.config.clone(),
        };
        match timeout(START_MAX, pipe.ask(start)).await {
            Ok(Ok(Ok(()))) => Ok((pipe, hello)),
            Ok(Ok(Err(failure))) => Err(start_error(failure).into()),
            Ok(Err(end)) => Err(LaunchError::EndedStarting {
                how: process
                    .ended_soon()
                    .await
                    .unwrap_or_else(|| end.to_string()),
                said: process.last_words().await,
            }),
            Err(_) => {
                pipe.close("the provider did not start in time");
                Err(LaunchError::StartTimeout {
                    said: process.last_words().await,
                })
            }
        }
    }
}

impl Incarnation {
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.child.id()
    }

    /// Waits until the process or its socket has ended, and says how. May be dropped and asked again.
    pub(super) async fn ended(&mut self) -> String {
        let pipe = self.pipe.clone();
        tokio::select! {
            status = self.process.child.ended() => {
                // Calls in flight end by the socket's own end, which says that their outcome is unknown.
                let _ = timeout(LAST_FRAMES_MAX, pipe.ended()).await;
                exit(status)
            }
            end = pipe.ended() => match &end {
                PipeEnd::Eof | PipeEnd::Io { .. } => {
                    let how = self.process.ended_soon().await;
                    how.unwrap_or_else(|| "it closed its socket and went on".to_owned())
                }
                _ => end.to_string(),
            },
        }
    }

    /// Makes sure that nothing is left of it. Gives back its last lines.
    pub(super) async fn bury(mut self) -> Said {
        self.pipe.close("the provider's process has ended");
        self.process.child.kill().await;
        self.process.last_words().await
    }

    /// Ends it in order, after it has shut down: the socket, then signals. Says whether it went by itself.
    pub(super) async fn end(mut self) -> bool {
        self.pipe.close("the provider was stopped");
        let status = self.process.child.end().await;
        self.process.last_words().await;
        status.is_some_and(|status| status.code().is_some())
    }
}

impl Process {
    /// How it ended, if it does within a moment.
    async fn ended_soon(&mut self) -> Option<String> {
        timeout(TOGETHER_MAX, self.child.ended())
            .await
            .ok()
            .map(exit)
    }

    async fn last_words(&mut self) -> Said {
        let reading = async { while self.readers.join_next().await.is_some() {} };
        // A process that lives on keeps its streams open.
        let _ = timeout(LAST_LINES_MAX, reading).await;
        Said(self.log.tail())
    }
}

fn exit(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "it is gone".to_owned(), |status| status.to_string())
}
