//! A conversation with a lattice: a control client, and what its failures mean for whoever typed the command.

use std::time::Duration;

use trellis_lattice::client::{ClientError, ControlClient, Events};
use trellis_lattice::connection::{ConnectError, connect_control};

use crate::environment;
use crate::exit::{Failure, FailureKind, chain};
use crate::settings::Settings;

/// A lattice that a NATS server leads to. Whether any host is there is not known yet.
pub struct Lattice {
    client: ControlClient,
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
            .map_err(|error| not_connected(&error, settings.urls_variable.as_deref()))?;
        Ok(Self {
            client: ControlClient::new(client, options.subjects())
                .with_timeout(settings.question_timeout()),
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

/// `variable` is what the URL came from, if it came from the environment: easily forgotten, and then a riddle.
fn not_connected(error: &ConnectError, variable: Option<&str>) -> Failure {
    let origin = variable.map_or_else(String::new, |name| format!("; the URL is from {name}"));
    match error {
        ConnectError::File { .. } | ConnectError::Seed { .. } => Failure::local_error(error),
        ConnectError::Unreachable { .. } => {
            let remedy = match variable {
                // As long as it is set, `wash up` joins that server too.
                Some(_) => {
                    "without it `wash up` starts a server here; --nats-url names another".to_owned()
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
