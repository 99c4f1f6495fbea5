//! The floor: what hyper alone needs for the same answer, in the same process model, with the bare client of a backend
//! where the actor would use a provider.
//!
//! | backend | a request does |
//! | --- | --- |
//! | none | nothing |
//! | `nats` | a counter in a JetStream bucket: one write that states the revision it follows, as keyvalue-nats does |
//! | `redis` | `INCRBY`, as keyvalue-redis does |
//! | `postgres` | one prepared select by primary key |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::kv;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};

/// What the hello actor answers as well.
const GREETING: &str = "Hello from Trellis!\n";

/// The key that is counted at.
const KEY: &str = "bare";

/// Attempts to count where somebody else counts at the same key.
const ATTEMPTS_MAX: usize = 16;

/// The statement that the actor sends too.
const SELECT: &str = "SELECT title FROM bench_rows WHERE id = $1";

/// Makes what is read, once.
const TABLE: &str = "BEGIN; \
    SELECT pg_advisory_xact_lock(4711); \
    CREATE TABLE IF NOT EXISTS bench_rows (id integer PRIMARY KEY, title text NOT NULL); \
    INSERT INTO bench_rows SELECT n, 'row ' || n FROM generate_series(1, 1000) AS n ON CONFLICT DO NOTHING; \
    COMMIT; \
    ANALYZE bench_rows;";

/// Serves HTTP/1.1.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// What stands behind it.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Where that is.
    #[arg(long, default_value = "")]
    url: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    Nats,
    Redis,
    Postgres,
}

/// What a request does.
enum Work {
    Greet,
    Count(Box<kv::Store>, Mutex<Option<Counter>>),
    Increment(MultiplexedConnection),
    Select(Client, Statement),
}

/// A counter as this process last wrote it.
#[derive(Clone, Copy)]
struct Counter {
    count: u64,
    revision: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let work = Arc::new(Work::prepare(arguments.backend, &arguments.url).await?);
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("{} can't be listened on", arguments.listen))?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let work = Arc::clone(&work);
        tokio::spawn(async move {
            // A connection that breaks off is its client's business.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(
                    TokioIo::new(socket),
                    service_fn(|request| answer(&work, request)),
                )
                .await;
        });
    }
}

async fn answer(work: &Work, _: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match work.carry_out().await {
        Ok(body) => Response::new(Full::new(body)),
        Err(error) => {
            let mut answer = Response::new(Full::new(Bytes::from(format!("{error:#}\n"))));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer
        }
    })
}

impl Work {
    async fn prepare(backend: Option<Backend>, url: &str) -> Result<Self> {
        Ok(match backend {
            None => Self::Greet,
            Some(Backend::Nats) => {
                let nats = async_nats::connect(url).await?;
                let bucket = kv::Config {
                    bucket: "bench-bare".to_owned(),
                    history: 1,
                    ..kv::Config::default()
                };
                let store = async_nats::jetstream::new(nats)
                    .create_key_value(bucket)
                    .await?;
                Self::Count(Box::new(store), Mutex::new(None))
            }
            Some(Backend::Redis) => {
                let client = redis::Client::open(url)?;
                Self::Increment(client.get_multiplexed_async_connection().await?)
            }
            Some(Backend::Postgres) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute(TABLE).await?;
                let statement = client.prepare(SELECT).await?;
                Self::Select(client, statement)
            }
        })
    }

    async fn carry_out(&self) -> Result<Bytes> {
        match self {
            Self::Greet => Ok(Bytes::from_static(GREETING.as_bytes())),
            Self::Count(store, last) => {
                // Held across the round trip on purpose: all requests count at one key, and would only conflict.
                let mut last = last.lock().await;
                let counter = count(store, *last).await?;
                *last = Some(counter);
                Ok(Bytes::from(format!("{}\n", counter.count)))
            }
            Self::Increment(connection) => {
                let sum: u64 = redis::cmd("INCRBY")
                    .arg(KEY)
                    .arg(1)
                    .query_async(&mut connection.clone())
                    .await?;
                Ok(Bytes::from(format!("{sum}\n")))
            }
            Self::Select(client, statement) => {
                let row = client.query_one(statement, &[&1_i32]).await?;
                let title: &str = row.try_get(0)?;
                Ok(Bytes::from(format!("{title}\n")))
            }
        }
    }
}

async fn count(store: &kv::Store, mut known: Option<Counter>) -> Result<Counter> {
    for _ in 0..ATTEMPTS_MAX {
        let (count, revision) = match known.take() {
            Some(last) => (last.count, last.revision),
            None => match store.entry(KEY).await? {
                Some(entry) => (std::str::from_utf8(&entry.value)?.parse()?, entry.revision),
                None => (0, 0),
            },
        };
        let count = count + 1;
        match store
            .update(KEY, Bytes::from(count.to_string()), revision)
            .await
        {
            Ok(revision) => return Ok(Counter { count, revision }),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("somebody else counts at the same key")
}
