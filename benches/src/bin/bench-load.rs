//! A closed loop of requests over some connections for some seconds: each connection sends the next request when it has
//! the answer to the last. Prints one line of JSON: requests per second, latencies in microseconds, failures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends requests and measures the answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Who is asked.
    #[arg(long)]
    address: SocketAddr,
    /// Connections, each with one request at a time.
    #[arg(long)]
    connections: usize,
    /// Seconds that are measured.
    #[arg(long)]
    seconds: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.connections > 0, "at least one connection");
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..arguments.connections {
        connections.spawn(ask(arguments.address, end));
    }
    let mut latencies = Vec::new();
    while let Some(connection) = connections.join_next().await {
        latencies.extend(connection??);
    }
    let took = begin.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index.min(latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    };
    let line = serde_json::json!({
        "requests": latencies.len(),
        "per_second": latencies.len() as f64 / took,
        "p50_us": f64::from(at(0.50)) / 1000.0,
        "p99_us": f64::from(at(0.99)) / 1000.0,
    });
    #[expect(clippy::print_stdout, reason = "the line is the program's output")]
    {
        println!("{line}");
    }
    Ok(())
}

/// Latencies of one connection in nanoseconds.
async fn ask(address: SocketAddr, end: Instant) -> Result<Vec<u32>> {
    let socket = TcpStream::connect(address)
        .await
        .with_context(|| format!("nobody listens at {address}"))?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let host = address.to_string();
    let mut latencies = Vec::with_capacity(1 << 16);
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(latencies);
        }
        one(&mut sender, &host).await?;
        latencies.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}

async fn one(sender: &mut SendRequest<Empty<Bytes>>, host: &str) -> Result<()> {
    sender.ready().await?;
    let request = Request::builder()
        .uri("/")
        .header("host", host)
        .body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    ensure!(
        answer.status().is_success(),
        "an answer of {}",
        answer.status()
    );
    answer.into_body().collect().await?;
    Ok(())
}
