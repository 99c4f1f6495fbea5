//! The floor of a call between hosts: request and reply over NATS by two processes, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures::StreamExt as _;
use trellis_bench::histogram::Histogram;

/// Asks, or answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    url: String,
    /// The subject.
    #[arg(long, default_value = "bench.echo")]
    subject: String,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Gives every request back as its reply.
    Answer,
    /// Asks one request after the other and prints one line of JSON.
    Ask {
        /// Bytes of each request.
        #[arg(long)]
        bytes: usize,
        /// Requests before those that count.
        #[arg(long, default_value_t = 50)]
        warm_up: u32,
        /// How many count.
        #[arg(long)]
        requests: u32,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let client = async_nats::connect(&arguments.url).await?;
    match arguments.role {
        Role::Answer => {
            let mut requests = client.subscribe(arguments.subject).await?;
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    client.publish(reply, request.payload).await?;
                }
            }
            Ok(())
        }
        Role::Ask {
            bytes,
            warm_up,
            requests,
        } => {
            let payload = Bytes::from(vec![0x5a; bytes]);
            let mut latencies = Histogram::default();
            for number in 0..warm_up + requests {
                let begin = Instant::now();
                let asked = client.request(arguments.subject.clone(), payload.clone());
                let reply = tokio::time::timeout(Duration::from_secs(5), asked).await??;
                let took = begin.elapsed();
                ensure!(
                    reply.payload.len() == bytes,
                    "the echo is not what was said"
                );
                if number >= warm_up {
                    latencies.add(u64::try_from(took.as_nanos())?);
                }
            }
            #[expect(clippy::print_stdout, reason = "the line is the program's output")]
            {
                println!("{}", latencies.to_json());
            }
            Ok(())
        }
    }
}
