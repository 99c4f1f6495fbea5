//! `wash spy`: the invocations of an actor or provider as they end, on every host that runs it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use trellis_lattice::client::{ClientError, ControlClient, Series};
use trellis_protocol::EntityId;
use trellis_protocol::control::HostInventory;
use trellis_protocol::control::observe::{
    Direction, Shown, ShownHttp, SpyComponent, SpyRecord, WITHIN_MAX,
};

use super::following::{self, Following, News, Reader, Watch, at, json_line, show, time_of_day};
use crate::cli::Spy;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::{self, Format, Report, printable};
use crate::progress::Progress;
use crate::settings::Settings;

/// What is asked of each host.
#[derive(Clone)]
struct Invocations {
    id: EntityId,
    direction: Option<Direction>,
    heads_only: bool,
}

impl Watch for Invocations {
    type Record = SpyRecord;
    type Mark = ();

    fn mark(_: &SpyRecord) {}

    fn attempt(&self) -> String {
        format!("cannot spy on {}", self.id)
    }

    fn runs(&self, inventory: &HostInventory) -> bool {
        let id = self.id.as_str();
        inventory.components.iter().any(|actor| actor.id == id)
            || inventory.providers.iter().any(|provider| provider.id == id)
    }

    async fn ask(
        &self,
        client: &ControlClient,
        host: &str,
        _: Option<&()>,
    ) -> Result<Series<SpyRecord>, ClientError> {
        let request = SpyComponent {
            component_id: self.id.clone(),
            within_ms: u32::try_from(WITHIN_MAX.as_millis()).ok(),
            direction: self.direction,
            heads_only: self.heads_only,
        };
        client.spy(host, &request).await
    }
}

pub(super) async fn run(args: Spy, settings: &Settings, format: Format) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let watch = Invocations {
        id: args.id.clone(),
        direction: args.direction.map(Into::into),
        heads_only: args.heads_only,
    };
    let progress = Progress::start(format!("looking for {}", args.id));
    let hosts = following::hosts(&lattice, &args.id, args.host_id.as_deref(), &watch).await?;
    drop(progress);
    let begin = hosts.into_iter().map(|host| (host, None)).collect();
    let mut following = Following::start(lattice, watch, begin, args.host_id.is_some());
    let until = args.within.map(|within| Instant::now() + within);
    let mut left = args.count;
    loop {
        let news = tokio::select! {
            news = following.next() => news?,
            () = at(until) => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(news) = news else { break };
        match news {
            News::Record(record) => {
                if record.dropped > 0 {
                    output::note(&missed(record.dropped));
                }
                let line = match format {
                    Format::Table => describe(&record),
                    Format::Json => json_line(&record),
                };
                left = left.map(|left| left.saturating_sub(1));
                if show(&line)? == Reader::Gone || left == Some(0) {
                    break;
                }
            }
            News::Dropped(count) => output::note(&missed(count)),
            News::Found(host) => output::note(&format!(
                "note: spying on {} on host {host}; Ctrl-C ends",
                args.id
            )),
            News::Lost(host, why) => output::note(&format!(
                "note: host {host} is not watched any longer: {}",
                printable(&why)
            )),
            News::Refused(refusal) => {
                output::note(&format!(
                    "note: {}",
                    output::printable_lines(refusal.message())
                ));
            }
        }
    }
    Ok(Report::silent())
}

fn missed(count: u64) -> String {
    format!("note: {count} calls more than could be shown")
}

/// A call in one line, and what was said in it below.
fn describe(record: &SpyRecord) -> String {
    let arrow = match record.direction {
        Direction::In => "in ",
        Direction::Out => "out",
    };
    let (method, status) = http(record);
    let mut text = format!(
        "{} {arrow} {} → {}  {}{}  {}{}  {}\n",
        time_of_day(&record.time),
        printable(&record.source),
        printable(&record.target),
        printable(&record.operation),
        method.map_or_else(String::new, |head| format!("  {head}")),
        printable(&record.outcome),
        status.map_or_else(String::new, |status| format!(" {status}")),
        took(Duration::from_micros(record.micros)),
    );
    if record.link != "default" {
        text.insert_str(
            text.len() - 1,
            &format!("  link {}", printable(&record.link)),
        );
    }
    if let Some(refusal) = &record.refusal {
        text.push_str(&format!("    refused: {}\n", printable(refusal)));
    }
    for (title, shown) in [("request", &record.request), ("response", &record.response)] {
        match shown {
            None => {}
            Some(Shown::Http(http)) => {
                for (name, value) in &http.headers {
                    text.push_str(&format!(
                        "    {title} {}: {}\n",
                        printable(name),
                        printable(value)
                    ));
                }
            }
            Some(Shown::Value(value) | Shown::Untyped(value)) => {
                text.push_str(&format!("    {title}: {}\n", printable(&compact(value))));
            }
            Some(Shown::Cut { text: cut, bytes }) => {
                text.push_str(&format!(
                    "    {title}: {}… ({bytes} bytes)\n",
                    printable(cut)
                ));
            }
            Some(Shown::Opaque { bytes }) => {
                text.push_str(&format!("    {title}: {bytes} bytes\n"));
            }
        }
    }
    text
}

/// What a line says of an HTTP request and its response.
fn http(record: &SpyRecord) -> (Option<String>, Option<u16>) {
    let head = |shown: &Option<Shown>| match shown {
        Some(Shown::Http(http)) => Some(http.clone()),
        _ => None,
    };
    let request = head(&record.request).map(|ShownHttp { method, path, .. }| {
        let method = method.unwrap_or_default();
        let path = path.unwrap_or_default();
        printable(format!("{method} {path}").trim())
    });
    (request, head(&record.response).and_then(|http| http.status))
}

/// No result is no value, and not the word for it.
fn compact(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => value.to_string(),
    }
}

fn took(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        _ => format!("{:.1}s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> SpyRecord {
        SpyRecord {
            time: "2026-11-22T14:00:00.123Z".to_owned(),
            invocation_id: "0".repeat(32),
            trace_id: None,
            direction: Direction::In,
            source: "http".to_owned(),
            target: "hello".to_owned(),
            operation: "wasi:http/incoming-handler#handle".to_owned(),
            link: "default".to_owned(),
            host: "NFERN".to_owned(),
            depth: 0,
            outcome: "ok".to_owned(),
            refusal: None,
            micros: 412,
            request: None,
            response: None,
            dropped: 0,
        }
    }

    #[test]
    fn an_http_request_is_a_line_with_its_fields_below() {
        let request = ShownHttp {
            method: Some("GET".to_owned()),
            path: Some("/a?b".to_owned()),
            headers: vec![("authorization".to_owned(), "(hidden)".to_owned())],
            ..ShownHttp::default()
        };
        let response = ShownHttp {
            status: Some(200),
            ..ShownHttp::default()
        };
        let record = SpyRecord {
            request: Some(Shown::Http(request)),
            response: Some(Shown::Http(response)),
            ..record()
        };
        assert_eq!(
            describe(&record),
            "14:00:00.123 in  http → hello  wasi:http/incoming-handler#handle  GET /a?b  ok 200  412µs\n    request authorization: (hidden)\n"
        );
    }

    #[test]
    fn a_call_shows_its_arguments_its_result_and_why_it_was_refused() {
        let called = SpyRecord {
            direction: Direction::Out,
            link: "cache".to_owned(),
            micros: 12_345,
            request: Some(Shown::Value(json!(["key", 1]))),
            response: Some(Shown::Value(json!(null))),
            ..record()
        };
        assert_eq!(
            describe(&called),
            "14:00:00.123 out http → hello  wasi:http/incoming-handler#handle  ok  12.3ms  link cache\n    request: [\"key\",1]\n    response: nothing\n"
        );
        let refused = SpyRecord {
            outcome: "no-link".to_owned(),
            refusal: Some("no link\u{1b}[2J".to_owned()),
            request: Some(Shown::Cut {
                text: "[\"x".to_owned(),
                bytes: 9_000,
            }),
            ..record()
        };
        assert!(describe(&refused).ends_with(
            "no-link  412µs\n    refused: no link\\u{1b}[2J\n    request: [\"x… (9000 bytes)\n"
        ));
    }
}
