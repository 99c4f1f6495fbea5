//! The control interface to the letter: driven by the client that other tools use, and byte by byte where that client does
//! not look. `docs/control-api.md` says of each operation and event which of these tests holds it.

mod abuse;
mod auctions;
mod buckets;
mod delivery;
mod documented;
mod events;
mod foreign;
mod gone;
mod labels;
mod malformed;
mod moody;
mod operations;
mod oracle;
mod outage;
mod registry;
mod subjects;

use std::time::Duration;

use async_nats::Client;
use futures::StreamExt as _;
use serde_json::Value;
use trellis_lattice_tests::Lattice;
use trellis_lattice_tests::wait::in_time;
use trellis_protocol::subject::Subjects;

/// Longest wait for an answer or an event.
const WITHIN: Duration = Duration::from_secs(60);

/// Whoever asks on a subject of the interface without a client in between.
struct Asker {
    client: Client,
    subjects: Subjects,
}

impl Asker {
    async fn of(lattice: &Lattice) -> Self {
        Self {
            client: lattice.stranger().await,
            subjects: lattice.options().subjects(),
        }
    }

    /// The subject of a request: `noun.verb`, and what follows.
    fn subject(&self, request: &str, argument: Option<&str>) -> String {
        let (noun, verb) = request.split_once('.').expect("noun.verb");
        match argument {
            Some(argument) => self.subjects.control_with(noun, verb, argument),
            None => self.subjects.control(noun, verb),
        }
    }

    /// The one answer to a request.
    async fn ask(&self, request: &str, argument: Option<&str>, body: impl Into<Vec<u8>>) -> Value {
        let subject = self.subject(request, argument);
        let asking = self.client.request(subject.clone(), body.into().into());
        let answer = in_time(WITHIN, &subject, asking).await;
        let answer = answer.unwrap_or_else(|error| panic!("{subject}: {error}"));
        serde_json::from_slice(&answer.payload).expect("an answer is JSON")
    }

    /// The one answer to a request whose body is JSON.
    async fn ask_json(&self, request: &str, argument: Option<&str>, body: &Value) -> Value {
        self.ask(request, argument, body.to_string()).await
    }

    /// All answers that come until it has been quiet for a while.
    async fn gather(&self, subject: String, body: Vec<u8>, quiet: Duration) -> Vec<Value> {
        let inbox = self.client.new_inbox();
        let mut answers = self
            .client
            .subscribe(inbox.clone())
            .await
            .expect("an inbox can be subscribed to");
        self.client
            .publish_with_reply(subject, inbox, body.into())
            .await
            .expect("a request can be published");
        let mut gathered = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout(quiet, answers.next()).await {
            if answer.status.is_none() {
                let answer = serde_json::from_slice(&answer.payload);
                gathered.push(answer.expect("an answer is JSON"));
            }
        }
        gathered
    }
}

/// The lattice's events, as they are on the wire.
struct Wire {
    events: async_nats::Subscriber,
    /// What was read and not asked for yet.
    seen: Vec<Value>,
}

impl Wire {
    async fn tap(lattice: &Lattice) -> Self {
        let client = lattice.stranger().await;
        let subject = lattice.options().subjects().events();
        let events = client.subscribe(subject).await;
        let events = events.expect("events can be subscribed to");
        // An answer proves that the server has read the subscription.
        let _ = client.request("nobody.listens", "".into()).await;
        Self {
            events,
            seen: Vec::new(),
        }
    }

    /// The first event of this name, of this host where one is given, whose data satisfies `is_it`.
    async fn next(
        &mut self,
        name: &str,
        host: Option<&str>,
        is_it: impl Fn(&Value) -> bool,
    ) -> Value {
        let wanted = |event: &Value| {
            event["type"] == format!("com.wasmcloud.lattice.{name}")
                && host.is_none_or(|host| event["source"] == host)
                && is_it(&event["data"])
        };
        if let Some(place) = self.seen.iter().position(wanted) {
            return self.seen.remove(place);
        }
        let waiting = async {
            loop {
                let message = self.events.next().await.expect("the connection stays open");
                let event: Value =
                    serde_json::from_slice(&message.payload).expect("an event is JSON");
                assert_eq!(
                    event["type"]
                        .as_str()
                        .and_then(|kind| kind.rsplit('.').next()),
                    message.subject.rsplit('.').next(),
                    "the subject and the type agree"
                );
                if wanted(&event) {
                    return event;
                }
                self.seen.push(event);
            }
        };
        in_time(WITHIN, name, waiting).await
    }

    /// How many events of this name and host come within a time, those that were seen before among them.
    async fn count(&mut self, name: &str, host: &str, within: Duration) -> usize {
        let until = tokio::time::Instant::now() + within;
        while let Ok(Some(message)) = tokio::time::timeout_at(until, self.events.next()).await {
            let event = serde_json::from_slice(&message.payload);
            self.seen.push(event.expect("an event is JSON"));
        }
        let name = format!("com.wasmcloud.lattice.{name}");
        let of_it = |event: &&Value| event["type"] == name && event["source"] == host;
        self.seen.iter().filter(of_it).count()
    }
}

/// The keys of an object, in order.
fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Asserts that an answer is a success without an answer.
fn assert_accepted(answer: &Value) {
    assert_eq!(answer["success"], true, "{answer}");
    assert!(answer.get("response").is_none(), "{answer}");
}

/// Asserts that an answer is a refusal with a sentence.
fn assert_refused(answer: &Value) -> String {
    assert_eq!(answer["success"], false, "{answer}");
    assert!(answer.get("response").is_none(), "{answer}");
    let message = answer["message"].as_str().expect("a message is a text");
    assert!(message.contains(' '), "{message:?} is no sentence");
    message.to_owned()
}
