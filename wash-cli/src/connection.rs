//! A conversation with a lattice: a control client, and what its failures mean for whoever typed the command.

mod line;

pub use line::{LOST_MAX, while_connected};

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use trellis_lattice::client::{ClientError, ControlClient, Events};
use trellis_lattice::connection::{ConnectError, connect_control};

use crate::environment;
use crate::exit::{Failure, FailureKind, chain};
use crate::settings::{Origin, Settings};

/// A lattice that a NATS server leads to. Whether any host is there is not known yet.
pub struct Lattice {
    client: ControlClient,
    nats: Client,
    name: String,
    servers: String,
    question_timeout: Duration,
    outcome_timeout: Duration,
}

impl Lattice {
    /// Connects to the NATS server.
    ///
    /// # Errors
    /// [`FailureKind::Unreachable`] where no server answers, [`FailureKind::Local`] about the credentials file.
    pub async fn connect(settings: &Settings) -> Result<Self, Failure> {
        let options = settings.lattice_options();
        let client = connect_control(&options)
            .await
            .map_err(|error| not_connected(&error, settings.urls_origin.as_ref()))?;
        line::watch(&client, settings.servers());
        settings.proof.tell();
        Ok(Self {
            client: ControlClient::new(client.clone(), options.subjects())
                .with_timeout(settings.question_timeout())
                .with_signer(settings.proof.signer()),
            nats: client,
            name: settings.lattice.to_string(),
            servers: settings.servers(),
            question_timeout: settings.question_timeout(),
            outcome_timeout: settings.outcome_timeout(),
        })
    }

    /// The control client, patient enough for a question.
    pub fn client(&self) -> &ControlClient {
        &self.client
    }

    /// The control client, patient enough for a command that is answered after its work is done.
    pub fn patient_client(&self) -> ControlClient {
        self.client.clone().with_timeout(self.outcome_timeout)
    }

    /// The same, but asks for this long at most.
    #[must_use]
    pub fn asking_for(mut self, timeout: Option<Duration>) -> Self {
        if let Some(timeout) = timeout {
            self.question_timeout = timeout;
            self.client = self.client.with_timeout(timeout);
        }
        self
    }

    /// How often the connection has been made. Where that has changed, events may have been missed.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.nats.statistics().connects.load(Ordering::Relaxed)
    }

    /// The connection itself: for JetStream, and for requests that are no host's.
    #[must_use]
    pub fn nats(&self) -> &Client {
        &self.nats
    }

    /// The servers, for people.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The lattice's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long a plain question may take.
    #[must_use]
    pub const fn question_timeout(&self) -> Duration {
        self.question_timeout
    }

    /// How long a command may take until its outcome is known.
    #[must_use]
    pub const fn outcome_timeout(&self) -> Duration {
        self.outcome_timeout
    }

    /// The events of the lattice from now on: when this returns, the server knows of the subscription.
    ///
    /// # Errors
    /// As [`Lattice::failure`].
    pub async fn events(&self) -> Result<Events, Failure> {
        self.client
            .events()
            .await
            .map_err(|error| self.failure("cannot listen to events", &error))
    }

    /// What to say when `attempt` (`cannot put the link`) ended so.
    #[must_use]
    pub fn failure(&self, attempt: &str, error: &ClientError) -> Failure {
        let (kind, remedy) = match error {
            ClientError::NoHost { .. } => (FailureKind::Unreachable, ", `wash up` starts one"),
            ClientError::Connection { .. } => (FailureKind::Unreachable, ""),
            ClientError::TimedOut { .. } => (
                FailureKind::TimedOut,
                "; look with `wash get inventory`, or be more patient with --timeout-ms",
            ),
            ClientError::Argument { .. } => (FailureKind::Usage, ""),
            _ => (FailureKind::Refused, ""),
        };
        Failure::new(kind, format!("{attempt}: {}{remedy}", chain(error)))
    }

    /// Nobody is there.
    #[must_use]
    pub fn no_hosts(&self) -> Failure {
        Failure::new(
            FailureKind::Unreachable,
            format!(
                "no host of the lattice {} answers at {}; start one with `wash up`, or name another lattice with --lattice or --nats-url",
                self.name, self.servers
            ),
        )
    }
}

fn not_connected(error: &ConnectError, named: Option<&Origin>) -> Failure {
    let origin = named.map_or_else(String::new, |origin| format!("; the URL is from {origin}"));
    match error {
        ConnectError::File { .. } | ConnectError::Seed { .. } => Failure::local_error(error),
        ConnectError::Unreachable { .. } => {
            let remedy = match named {
                // As long as it is set, `wash up` joins that server too.
                Some(Origin::Variable(_)) => {
                    "without it `wash up` starts a server here; --nats-url names another".to_owned()
                }
                Some(Origin::Context(_)) => {
                    "`wash ctx default` chooses another; --nats-url names another server".to_owned()
                }
                None => format!(
                    "`wash up` starts one; --nats-url or {} names another",
                    environment::NATS_URL.name
                ),
            };
            Failure::new(
                FailureKind::Unreachable,
                format!("{}{origin} ({remedy})", chain(error)),
            )
        }
        _ => Failure::new(
            FailureKind::Unreachable,
            format!("{}{origin}", chain(error)),
        ),
    }
}
