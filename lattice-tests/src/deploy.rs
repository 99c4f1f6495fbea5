//! What an operator does, each with its outcome: commands are acknowledged before their work is done, so the outcome is
//! waited for among the events.

use std::time::Duration;

use trellis_lattice::client::{ClientError, ControlClient, Events};
use trellis_protocol::control::{
    CallComponent, CallOperation, CallReply, Configuration, DeleteLink, FunctionCall, HttpCall,
    ScaleComponent, StartProvider,
};
use trellis_protocol::event::EventData;
use trellis_protocol::{EntityId, Link, LinkName};

use crate::wait::in_time;

/// Longest wait for the outcome of a command: a component may have to be compiled on a busy machine.
const OUTCOME_WITHIN: Duration = Duration::from_secs(60);

/// Why something was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The stable word; `refused` where the command was not even accepted.
    pub code: String,
    /// What went wrong, and what would help.
    pub error: String,
}

/// An operator with a connection to a lattice.
#[derive(Debug, Clone)]
pub struct Operator {
    client: ControlClient,
}

/// An id.
///
/// # Panics
/// Where the text is none.
pub fn id(text: &str) -> EntityId {
    EntityId::new(text).expect("a test names ids rightly")
}

/// The link `source` → `target` for interfaces of one package, such as `wasi:keyvalue/store,atomics`.
///
/// # Panics
/// Where the text is none.
pub fn link(source: &str, target: &str, interfaces: &str) -> Link {
    let (package, interfaces) = interfaces.split_once('/').expect("package/interfaces");
    let (namespace, package) = package.split_once(':').expect("namespace:package");
    Link {
        source_id: id(source),
        target: id(target),
        name: LinkName::default(),
        wit_namespace: namespace.to_owned(),
        wit_package: package.to_owned(),
        interfaces: interfaces.split(',').map(str::to_owned).collect(),
        source_config: Vec::new(),
        target_config: Vec::new(),
    }
}

/// A command that starts or scales an actor.
pub fn scale(host: &str, reference: &str, actor: &str, count: u32) -> ScaleComponent {
    ScaleComponent {
        component_ref: reference.to_owned(),
        component_id: id(actor),
        count,
        annotations: None,
        host_id: host.to_owned(),
        config: Vec::new(),
        allow_update: false,
        component_limits: None,
    }
}

impl Operator {
    pub(crate) fn new(client: ControlClient) -> Self {
        Self { client }
    }

    /// The client itself.
    pub fn client(&self) -> &ControlClient {
        &self.client
    }

    /// Starts, scales or stops an actor, and waits until that is done. What it returns is how many permits it has now.
    ///
    /// # Errors
    /// [`Failed`] where the host says no.
    ///
    /// # Panics
    /// Where the host says nothing.
    pub async fn scale(&self, command: &ScaleComponent) -> Result<u32, Failed> {
        let mut events = self.events().await;
        let accepted = self.client.scale(&command.host_id, command).await;
        accepted.map_err(refused)?;
        let actor = command.component_id.as_str();
        outcome(&mut events, &command.host_id, |event| match event {
            EventData::ComponentScaled(scaled) if scaled.component_id == actor => {
                Some(Ok(scaled.max_instances))
            }
            EventData::ComponentScaleFailed(failed) if failed.component_id == actor => {
                Some(Err(Failed {
                    code: failed.code.clone().unwrap_or_default(),
                    error: failed.error.clone(),
                }))
            }
            _ => None,
        })
        .await
    }

    /// Starts a provider, and waits until it serves.
    ///
    /// # Errors
    /// [`Failed`] where the host says no.
    ///
    /// # Panics
    /// Where the host says nothing.
    pub async fn start_provider(
        &self,
        host: &str,
        reference: &str,
        provider: &str,
        config: &[&str],
    ) -> Result<(), Failed> {
        let command = StartProvider {
            provider_id: id(provider),
            provider_ref: reference.to_owned(),
            host_id: host.to_owned(),
            config: config.iter().map(|name| (*name).to_owned()).collect(),
            annotations: None,
        };
        let mut events = self.events().await;
        let accepted = self.client.start_provider(host, &command).await;
        accepted.map_err(refused)?;
        outcome(&mut events, host, |event| match event {
            EventData::ProviderStarted(started) if started.provider_id == provider => Some(Ok(())),
            EventData::ProviderStartFailed(failed) if failed.provider_id == provider => {
                Some(Err(Failed {
                    code: failed.code.clone().unwrap_or_default(),
                    error: failed.error.clone(),
                }))
            }
            _ => None,
        })
        .await
    }

    /// Puts a link.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn link(&self, link: &Link) {
        if let Err(error) = self.client.put_link(link).await {
            panic!("the link {link:?} is not put: {error}");
        }
    }

    /// Takes a link back.
    ///
    /// # Panics
    /// Where that is refused.
    pub async fn unlink(&self, link: &Link) {
        let key: DeleteLink = link.key();
        if let Err(error) = self.client.del_link(&key).await {
            panic!("the link {link:?} is not deleted: {error}");
        }
    }

    /// Puts a named configuration.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn configure(&self, name: &str, pairs: &[(&str, &str)]) {
        let map = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        if let Err(error) = self.client.put_config(name, &Configuration(map)).await {
            panic!("the configuration `{name}` is not put: {error}");
        }
    }

    /// Calls a function of an actor through a host.
    ///
    /// # Errors
    /// The refusal.
    pub async fn call(
        &self,
        host: &str,
        actor: &str,
        interface: &str,
        function: &str,
        args: Vec<serde_json::Value>,
    ) -> Result<serde_json::Value, ClientError> {
        let call = CallComponent {
            component_id: id(actor),
            operation: CallOperation::Function(FunctionCall {
                interface: interface.to_owned(),
                function: function.to_owned(),
                args,
            }),
            deadline_ms: Some(10_000),
        };
        match self.client.call(host, &call).await? {
            CallReply::Result(value) => Ok(value),
            CallReply::Http(reply) => panic!("a function was called, HTTP answered: {reply:?}"),
        }
    }

    /// Has an actor answer `GET path` through a host; gives back status and body.
    ///
    /// # Errors
    /// The refusal.
    pub async fn call_http(
        &self,
        host: &str,
        actor: &str,
        path: &str,
    ) -> Result<(u16, String), ClientError> {
        let call = CallComponent {
            component_id: id(actor),
            operation: CallOperation::Http(HttpCall {
                method: "GET".to_owned(),
                path: path.to_owned(),
                authority: None,
                headers: Vec::new(),
                body: Default::default(),
            }),
            deadline_ms: Some(10_000),
        };
        match self.client.call(host, &call).await? {
            CallReply::Http(reply) => {
                let text = String::from_utf8_lossy(&reply.body.0).into_owned();
                Ok((reply.status, text))
            }
            CallReply::Result(value) => panic!("HTTP was called, a function answered: {value}"),
        }
    }

    /// The lattice's events from now on.
    ///
    /// # Panics
    /// Where NATS does not answer.
    pub async fn events(&self) -> Events {
        self.client
            .events()
            .await
            .expect("events can be subscribed to")
    }
}

/// The first event of a host that `choose` recognises.
///
/// # Panics
/// Where none comes in time.
pub async fn outcome<T>(
    events: &mut Events,
    host: &str,
    mut choose: impl FnMut(&EventData) -> Option<T>,
) -> T {
    let searching = async {
        loop {
            let event = events.next().await.expect("the connection stays open");
            let event = event.expect("hosts publish well-formed events");
            if event.source != host {
                continue;
            }
            let data = event.typed().expect("hosts publish well-formed events");
            if let Some(found) = data.as_ref().and_then(&mut choose) {
                return found;
            }
        }
    };
    in_time(
        OUTCOME_WITHIN,
        "the event that tells the outcome",
        searching,
    )
    .await
}

fn refused(error: ClientError) -> Failed {
    Failed {
        code: "refused".to_owned(),
        error: error.to_string(),
    }
}
