//! The NATS server: whether it answers, what it is, and what its clock says.

use std::time::{Duration, Instant, SystemTime};

use async_nats::Client;
use futures::StreamExt as _;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trellis_lattice::connection::{ConnectError, SERVER_VERSION_MIN, connect_control};
use trellis_lattice::state::Bucket;

use super::finding::Findings;
use crate::environment;
use crate::exit::chain;
use crate::settings::Settings;

const REACHABLE: &str = "nats.reachable";
const VERSION: &str = "nats.version";
const PAYLOAD: &str = "nats.max-payload";
const JETSTREAM: &str = "nats.jetstream";
const CLOCK: &str = "nats.clock";

/// Smallest message that the server must take: a frame between hosts with its headers.
const PAYLOAD_BYTES_MIN: usize = 64 * 1024;

/// What a server takes unless it is told otherwise; answers of busy hosts come close.
const PAYLOAD_BYTES_USUAL: usize = 1024 * 1024;

/// Clocks that differ by more refuse each other's claims.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// A difference that is said, since it grows.
const SKEW_NOTED: Duration = Duration::from_secs(2);

/// How long the server may take for what it does as a matter of course.
const WITHIN: Duration = Duration::from_secs(2);

/// How long the note of a request may come after its answer.
const NOTE_WITHIN: Duration = Duration::from_millis(300);

/// Looks at the server; a client of it, if its JetStream can be asked further.
pub(super) async fn look(settings: &Settings, findings: &mut Findings) -> Option<Client> {
    let client = match connect_control(&settings.lattice_options()).await {
        Ok(client) => client,
        Err(error) => {
            not_connected(settings, &error, findings);
            return None;
        }
    };
    let info = client.server_info();
    let begin = Instant::now();
    match tokio::time::timeout(WITHIN, client.flush()).await {
        Ok(Ok(())) => findings.ok(
            REACHABLE,
            format!(
                "{} answers in {:.1} ms",
                settings.servers(),
                begin.elapsed().as_secs_f64() * 1e3
            ),
        ),
        _ => {
            findings.broken(
                REACHABLE,
                format!(
                    "{} took the connection, and then said nothing",
                    settings.servers()
                ),
                "look at the server's log; restart it",
            );
            return None;
        }
    }
    findings.ok(VERSION, format!("nats-server {}", info.version));
    payload(info.max_payload, findings);
    if !jetstream(settings, &client, findings).await {
        return None;
    }
    clock(settings, &client, findings).await;
    Some(client)
}

fn not_connected(settings: &Settings, error: &ConnectError, findings: &mut Findings) {
    let message = chain(error);
    match error {
        ConnectError::Unreachable { .. } if !settings.urls_named => findings.warning(
            REACHABLE,
            format!("no NATS server answers at {}", settings.servers()),
            "`wash up` starts one; --nats-url names another",
        ),
        ConnectError::Unreachable { .. } => {
            let origin = settings.urls_origin_text();
            findings.broken(
                REACHABLE,
                message,
                format!("start it there, or correct {origin}"),
            );
        }
        ConnectError::TooOld { .. } => {
            let (major, minor) = SERVER_VERSION_MIN;
            findings.broken(
                VERSION,
                message,
                format!("upgrade it to {major}.{minor} or newer"),
            );
        }
        ConnectError::Tls { .. } => findings.broken(
            REACHABLE,
            message,
            "name the authority that signed the server's certificate, and write the URL tls://…",
        ),
        ConnectError::Refused { .. } | ConnectError::File { .. } | ConnectError::Seed { .. } => {
            findings.broken(
                REACHABLE,
                message,
                format!("give the right --creds, or {}", environment::CREDS.name),
            );
        }
        _ => findings.broken(REACHABLE, message, "name a server with --nats-url"),
    }
}

fn payload(bytes: usize, findings: &mut Findings) {
    let kib = bytes >> 10;
    if bytes < PAYLOAD_BYTES_MIN {
        findings.broken(
            PAYLOAD,
            format!("messages may have {kib} KiB, too few for frames between hosts"),
            "set max_payload to 1MB in the server's configuration",
        );
    } else if bytes < PAYLOAD_BYTES_USUAL {
        findings.warning(
            PAYLOAD,
            format!("messages may have {kib} KiB; a long inventory may not fit"),
            "set max_payload to 1MB in the server's configuration",
        );
    } else {
        findings.ok(PAYLOAD, format!("messages may have {kib} KiB"));
    }
}

/// Says whether JetStream answers.
async fn jetstream(settings: &Settings, client: &Client, findings: &mut Findings) -> bool {
    let context = super::lattice::context(settings, client);
    let asked = tokio::time::timeout(WITHIN, context.query_account()).await;
    let fix = match settings.js_domain {
        None => {
            "start the server with `-js`, or enable JetStream for the account; at a leaf, name the hub's domain with --js-domain"
        }
        Some(_) => {
            "look at the domain that --js-domain names; start its server with `-js`, or enable JetStream for the account"
        }
    };
    match asked {
        Ok(Ok(account)) => {
            let storage = account.limits.max_storage;
            let streams = account.limits.max_streams;
            let limits = match storage {
                Some(bytes) if bytes >= 0 => format!(", at most {} MiB of files", bytes >> 20),
                _ => String::new(),
            };
            if streams.is_some_and(|max| max > 0 && account.streams >= max as usize) {
                findings.warning(
                    JETSTREAM,
                    format!("all {} streams of the account are in use", account.streams),
                    "raise max_streams of the account: each lattice needs a few",
                );
            } else {
                findings.ok(JETSTREAM, format!("{} streams{limits}", account.streams));
            }
            true
        }
        Ok(Err(error)) => {
            findings.broken(JETSTREAM, format!("JetStream: {}", chain(&error)), fix);
            false
        }
        Err(_) => {
            findings.broken(
                JETSTREAM,
                format!("JetStream does not answer within {} s", WITHIN.as_secs()),
                "look whether the cluster has a leader: `nats server report jetstream`",
            );
            false
        }
    }
}

/// What an answer of JetStream, or the server's note about one, says of its time.
#[derive(Deserialize)]
struct Timed {
    #[serde(alias = "timestamp")]
    ts: Option<String>,
}

/// Compares the clocks. The server tells its own in every description of a stream, and else in its note about the
/// request, which goes to whoever audits JetStream.
async fn clock(settings: &Settings, client: &Client, findings: &mut Findings) {
    let Some((skew, uncertain)) = skew(settings, client).await else {
        return findings.warning(
            CLOCK,
            "the server does not tell its time",
            "compare the clocks by hand: claims are valid from a moment until another",
        );
    };
    let seconds = skew.whole_milliseconds() as f64 / 1e3;
    let words = if seconds < 0.0 {
        format!(
            "the server's clock is {:.1} s behind this machine's",
            -seconds
        )
    } else {
        format!("the server's clock is {seconds:.1} s ahead of this machine's")
    };
    let apart = skew.unsigned_abs().saturating_sub(uncertain);
    let fix = "synchronise both clocks, for instance with systemd-timesyncd or chrony";
    if apart > SKEW_MAX {
        findings.broken(CLOCK, format!("{words}; claims are judged by clocks"), fix);
    } else if apart > SKEW_NOTED {
        findings.warning(CLOCK, words, fix);
    } else {
        findings.ok(CLOCK, "the server's clock and this machine's agree");
    }
}

/// How far the server's clock is ahead, and how uncertain that is.
async fn skew(settings: &Settings, client: &Client) -> Option<(time::Duration, Duration)> {
    let mut notes = client.subscribe("$JS.EVENT.ADVISORY.API").await.ok()?;
    let stream = format!("KV_{}", Bucket::LatticeData.name(&settings.lattice));
    let subject = format!("$JS.API.STREAM.INFO.{stream}");
    let (sent, begin) = (SystemTime::now(), Instant::now());
    let answer = tokio::time::timeout(WITHIN, client.request(subject, "".into()))
        .await
        .ok()?
        .ok()?;
    let taken = begin.elapsed();
    let told = match moment(&answer.payload) {
        Some(told) => told,
        None => {
            let note = tokio::time::timeout(NOTE_WITHIN, notes.next())
                .await
                .ok()??;
            moment(&note.payload)?
        }
    };
    let middle = OffsetDateTime::from(sent + taken / 2);
    Some((told - middle, taken / 2))
}

fn moment(json: &[u8]) -> Option<OffsetDateTime> {
    let timed: Timed = serde_json::from_slice(json).ok()?;
    OffsetDateTime::parse(&timed.ts?, &Rfc3339).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_is_read_from_a_stream_and_from_a_note() {
        let stream = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","ts":"2026-01-02T03:04:05.678Z"}"#;
        let note = br#"{"type":"io.nats.jetstream.advisory.v1.api_audit","timestamp":"2026-01-02T03:04:05.678Z"}"#;
        let told = moment(stream).unwrap();
        assert_eq!(told.unix_timestamp(), 1_767_323_045);
        assert_eq!(moment(note), Some(told));
        assert_eq!(moment(br#"{"error":{"code":404}}"#), None);
    }
}
