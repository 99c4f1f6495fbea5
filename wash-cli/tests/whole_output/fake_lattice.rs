//! A lattice of one host that answers as it is told: a real NATS server, and a peer of our own behind the control
//! subjects. It runs nothing; what it says is what the tests are about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use trellis_claims::{KeyKind, SigningKey};
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};
use trellis_protocol::LatticeName;
use trellis_protocol::control::call::Base64;
use trellis_protocol::control::observe::{
    CallStats, ComponentStats, HostStats, Latency, ProcessStats, SpyComponent,
};
use trellis_protocol::control::{
    Ack, CallComponent, CallOperation, CallReply, ComponentDescription, DeleteLink, Envelope,
    HostDescription, HostInventory, HttpReply, Map, ProviderDescription, ScaleComponent,
    StartProvider, StopProvider,
};
use trellis_protocol::event::{
    self, ComponentScaleFailed, ComponentScaled, EventData, HostStopped, ProviderStarted,
    ProviderStopped,
};
use trellis_protocol::link::Link;
use trellis_protocol::subject::Subjects;

/// A reference that the host acknowledges, and then refuses by an event.
pub(crate) const UNSIGNED: &str = "oci://example.org/unsigned:1";
/// A reference that the host acknowledges, and is never done with.
pub(crate) const STUCK: &str = "oci://example.org/stuck:1";

/// The lattice. Everything ends with this value.
pub(crate) struct FakeLattice {
    pub(crate) host_id: String,
    nats: Running,
    stop: Option<oneshot::Sender<()>>,
    runs: Option<thread::JoinHandle<()>>,
    _store: tempfile::TempDir,
}

/// What the host runs and remembers.
#[derive(Default)]
struct State {
    components: Vec<ComponentDescription>,
    providers: Vec<ProviderDescription>,
    links: Vec<Link>,
    configs: BTreeMap<String, Map>,
    /// Calls that `hello` has served: so many more each time that somebody asks.
    served: u64,
}

struct Host {
    client: Client,
    subjects: Subjects,
    id: String,
    state: Mutex<State>,
}

impl FakeLattice {
    pub(crate) fn start() -> Self {
        let store = tempfile::tempdir().unwrap();
        let server = locate(explicit_path().as_deref(), &cache_dir().unwrap()).unwrap();
        let nats = Launch::new(&server.path, store.path())
            .without_jetstream()
            .start()
            .unwrap();
        let host_id = SigningKey::generate(KeyKind::Host).public().to_string();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (url, id) = (nats.url().to_owned(), host_id.clone());
        let runs = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = async_nats::connect(url).await.unwrap();
                let subjects = Subjects::new(LatticeName::default());
                let requests = client
                    .subscribe(subjects.control(">", "").trim_end_matches('.').to_owned())
                    .await
                    .unwrap();
                client.flush().await.unwrap();
                ready.send(()).unwrap();
                let host = Arc::new(Host {
                    client,
                    subjects,
                    id,
                    state: Mutex::default(),
                });
                let answering = requests.for_each(|request| host.answer(request));
                tokio::select! {
                    () = answering => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            host_id,
            nats,
            stop: Some(stop),
            runs: Some(runs),
            _store: store,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.nats.url()
    }
}

impl Drop for FakeLattice {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(runs) = self.runs.take() {
            let _ = runs.join();
        }
    }
}

impl Host {
    async fn answer(&self, request: Message) {
        let subject = request.subject.to_string();
        let asked = self.subjects.parse_control(&subject).unwrap();
        let inbox = request.reply.unwrap();
        if let Some(series) = watched((asked.noun, asked.verb), &request.payload, &self.id) {
            for message in series {
                let inbox = inbox.clone();
                self.client.publish(inbox, message.into()).await.unwrap();
            }
            return;
        }
        let (reply, event) = self.carry_out(
            (asked.noun, asked.verb),
            asked.argument.unwrap_or_default(),
            &request.payload,
        );
        self.client.publish(inbox, reply.into()).await.unwrap();
        if let Some(event) = event {
            let bytes = event::encode(&event, &self.id, SystemTime::now(), uuid::Uuid::new_v4());
            let subject = self.subjects.event(event.name());
            self.client.publish(subject, bytes.into()).await.unwrap();
        }
    }

    fn carry_out(
        &self,
        asked: (&str, &str),
        argument: &str,
        body: &[u8],
    ) -> (Vec<u8>, Option<EventData>) {
        let mut state = self.state.lock().unwrap();
        match asked {
            ("host", "ping") => answer(HostDescription {
                id: self.id.clone(),
                friendly_name: "fern".into(),
                labels: labels(),
                lattice: "default".into(),
                uptime_seconds: 61,
                version: Some("0.1.0".into()),
                ..HostDescription::default()
            }),
            ("host", "get") => answer(self.inventory(&state)),
            ("host", "stats") => answer(stats(&mut state, &self.id)),
            ("host", "stop") => accepted(EventData::HostStopped(HostStopped::default())),
            ("component", "scale") => self.scale(&mut state, read(body)),
            ("component", "call") => call(&read(body)),
            ("provider", "start") => self.start_provider(&mut state, read(body)),
            ("provider", "stop") => self.stop_provider(&mut state, &read(body)),
            ("link", "put") => put_link(&mut state, read(body)),
            ("link", "del") => {
                let key: DeleteLink = read(body);
                state.links.retain(|link| link.key() != key);
                (Ack::accepted("").to_bytes(), None)
            }
            ("link", "get") => answer(&state.links),
            ("config", "put") => {
                state.configs.insert(argument.to_owned(), read(body));
                (Ack::accepted("").to_bytes(), None)
            }
            ("config", "get") => match state.configs.get(argument) {
                Some(config) => answer(config),
                None => (Ack::accepted("Configuration not found").to_bytes(), None),
            },
            ("config", "del") => {
                state.configs.remove(argument);
                (Ack::accepted("").to_bytes(), None)
            }
            ("claims", "get") => answer([Map::from([
                ("name".into(), "hello".into()),
                ("sub".into(), "M".into()),
                ("iss".into(), "A".into()),
            ])]),
            other => (Ack::refused(format!("unknown {other:?}")).to_bytes(), None),
        }
    }

    fn inventory(&self, state: &State) -> HostInventory {
        HostInventory {
            host_id: self.id.clone(),
            friendly_name: "fern".into(),
            labels: labels(),
            components: state.components.clone(),
            providers: state.providers.clone(),
            ..HostInventory::default()
        }
    }

    fn scale(&self, state: &mut State, command: ScaleComponent) -> (Vec<u8>, Option<EventData>) {
        assert_eq!(command.host_id, self.id);
        if command.component_ref == STUCK {
            return (Ack::accepted("fetching takes a while").to_bytes(), None);
        }
        if command.component_ref == UNSIGNED {
            return accepted(EventData::ComponentScaleFailed(ComponentScaleFailed {
                component_id: command.component_id.to_string(),
                host_id: self.id.clone(),
                image_ref: command.component_ref,
                max_instances: command.count,
                error: "refused the component: it is unsigned".into(),
                ..ComponentScaleFailed::default()
            }));
        }
        let id = command.component_id.to_string();
        state.components.retain(|component| component.id != id);
        if command.count > 0 {
            state.components.push(ComponentDescription {
                id: id.clone(),
                image_ref: command.component_ref.clone(),
                max_instances: command.count,
                annotations: command.annotations,
                ..ComponentDescription::default()
            });
        }
        accepted(EventData::ComponentScaled(ComponentScaled {
            component_id: id,
            host_id: self.id.clone(),
            image_ref: command.component_ref,
            max_instances: command.count,
            ..ComponentScaled::default()
        }))
    }

    fn start_provider(
        &self,
        state: &mut State,
        command: StartProvider,
    ) -> (Vec<u8>, Option<EventData>) {
        let id = command.provider_id.to_string();
        if state.providers.iter().any(|provider| provider.id == id) {
            return (Ack::refused(format!("{id} runs already")).to_bytes(), None);
        }
        state.providers.push(ProviderDescription {
            id: id.clone(),
            image_ref: Some(command.provider_ref.clone()),
            ..ProviderDescription::default()
        });
        accepted(EventData::ProviderStarted(ProviderStarted {
            provider_id: id,
            host_id: self.id.clone(),
            image_ref: command.provider_ref,
            ..ProviderStarted::default()
        }))
    }

    fn stop_provider(
        &self,
        state: &mut State,
        command: &StopProvider,
    ) -> (Vec<u8>, Option<EventData>) {
        let id = command.provider_id.to_string();
        state.providers.retain(|provider| provider.id != id);
        accepted(EventData::ProviderStopped(ProviderStopped {
            host_id: self.id.clone(),
            provider_id: id,
            annotations: Map::new(),
            reason: String::new(),
            instance_id: String::new(),
            public_key: String::new(),
            link_name: "default".into(),
        }))
    }
}

fn stats(state: &mut State, id: &str) -> HostStats {
    state.served += 1_000;
    HostStats {
        host_id: id.to_owned(),
        friendly_name: "fern".into(),
        uptime_seconds: 61,
        slots: 1_000,
        process: ProcessStats {
            memory_bytes: 64 << 20,
            ..ProcessStats::default()
        },
        latency_bounds_micros: vec![1_000],
        components: vec![ComponentStats {
            id: "hello".into(),
            permits: 7,
            memory_bytes: 1 << 20,
            served: CallStats {
                invocations: state.served,
                refusals: [("overloaded".into(), 3)].into(),
                latency: Latency {
                    sum_micros: 0,
                    buckets: vec![state.served, 0],
                },
            },
            ..ComponentStats::default()
        }],
        ..HostStats::default()
    }
}

/// The messages of a series, for what is answered by one: two records, and the end. Nobody is let in to `closed`.
fn watched(asked: (&str, &str), body: &[u8], host: &str) -> Option<Vec<Vec<u8>>> {
    let records: Vec<Value> = match asked {
        ("component", "spy") => {
            let asked: SpyComponent = read(body);
            if asked.component_id.as_str() == "closed" {
                return Some(vec![Ack::refused("no-link: no link lets `wash` spy on `closed`").to_bytes()]);
            }
            ["ok", "overloaded"]
                .map(|outcome| {
                    serde_json::json!({
                        "time": "2026-11-22T14:00:00.123Z", "invocation_id": "0".repeat(32), "direction": "in",
                        "source": "http", "target": "hello", "operation": "demo:a/b#c", "link": "default",
                        "host": host, "depth": 0, "outcome": outcome, "micros": 412,
                        "request": {"value": ["x", 1]},
                    })
                })
                .into()
        }
        ("component", "logs") => [2, 1]
            .map(|sequence| {
                serde_json::json!({
                    "time": format!("2026-11-22T14:00:0{sequence}.000Z"), "sequence": sequence, "level": "info",
                    "actor": "hello", "host": host, "stream": "stdout", "message": format!("line {sequence}"),
                })
            })
            .into(),
        _ => return None,
    };
    let mut series = vec![Ack::accepted("").to_bytes()];
    let end = serde_json::json!({"end": "time", "dropped": 0});
    series.extend(
        records
            .into_iter()
            .chain([end])
            .map(|record| Envelope::answer(record).to_bytes()),
    );
    Some(series)
}

fn labels() -> Map {
    [("zone".into(), "a".into())].into()
}

fn put_link(state: &mut State, link: Link) -> (Vec<u8>, Option<EventData>) {
    if link.target.as_str() == "forbidden" {
        let message = "the claims of the source do not grant wasi:keyvalue";
        return (Ack::refused(message).to_bytes(), None);
    }
    state.links.push(link);
    (Ack::accepted("").to_bytes(), None)
}

fn call(call: &CallComponent) -> (Vec<u8>, Option<EventData>) {
    match &call.operation {
        CallOperation::Http(http) => answer(CallReply::Http(HttpReply {
            status: 201,
            headers: vec![("x-method".into(), http.method.clone())],
            body: Base64(Bytes::from(format!("you asked for {}", http.path))),
        })),
        CallOperation::Function(function) => {
            answer(CallReply::Result(Value::Array(function.args.clone())))
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

fn answer<T: Serialize>(response: T) -> (Vec<u8>, Option<EventData>) {
    (Envelope::answer(response).to_bytes(), None)
}

fn accepted(event: EventData) -> (Vec<u8>, Option<EventData>) {
    (Ack::accepted("").to_bytes(), Some(event))
}
