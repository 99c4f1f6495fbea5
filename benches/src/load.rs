//! Load on an HTTP server from one thread: some connections, one request at a time on each, and a precise timer.
//!
//! Closed, each connection asks again when it has its answer. Open, request number *i* is due at *i / rate*, whatever
//! became of those before it, and its latency counts from then: a server that stalls is charged for all requests that
//! were due meanwhile, also for those that found no free connection (there is no coordinated omission).

pub mod answer;
mod connection;
mod timer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::epoll;
use serde_json::{Value, json};

use crate::histogram::Histogram;
use connection::{Connection, Progress};
use timer::Timer;

/// Events that are taken from the system at a time.
const EVENTS_AT_A_TIME: usize = 256;

/// The timer's mark among the events; connections are marked by their index.
const TIMER_MARK: u64 = u64::MAX;

/// Failures in a row after which a server counts as gone.
const FAILURES_MAX: u64 = 10_000;

/// What is asked of whom, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// Who is asked.
    pub address: SocketAddr,
    /// For what.
    pub path: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long requests are sent.
    pub duration: Duration,
    /// Requests a second; none: as many as are answered.
    pub rate: Option<f64>,
    /// How long requests that were due are still sent after that, and then how long answers are waited for.
    pub grace: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Latencies of answers of 2xx and 3xx.
    pub well: Histogram,
    /// Latencies of all other answers.
    pub refused: Histogram,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that ended without an answer.
    pub failures: u64,
    /// Requests that were due and found no free connection before the end.
    pub unsent: u64,
    /// Time from the first request to the last answer that counts.
    pub took: Duration,
}

impl Outcome {
    /// The line that the program prints.
    pub fn to_json(&self) -> Value {
        let answered = self.well.count() + self.refused.count();
        let per_second = |count: u64| count as f64 / self.took.as_secs_f64().max(1e-9);
        json!({
            "answered": answered,
            "per_second": per_second(self.well.count()),
            "answered_per_second": per_second(answered),
            "well": self.well.to_json(),
            "refused": self.refused.to_json(),
            "statuses": self.statuses,
            "failures": self.failures,
            "unsent": self.unsent,
        })
    }
}

/// Sends the load.
///
/// # Errors
/// Where nobody listens, or the server has gone.
pub fn run(load: &Load) -> Result<Outcome> {
    Generator::new(load)?.run()
}

struct Generator<'a> {
    load: &'a Load,
    request: Vec<u8>,
    epoll: std::os::fd::OwnedFd,
    timer: Timer,
    connections: Vec<Connection>,
    /// Indices of connections that have nothing to do.
    idle: Vec<usize>,
    begin: Instant,
    /// Requests begun so far.
    begun: u64,
    failures_in_a_row: u64,
    outcome: Outcome,
}

impl<'a> Generator<'a> {
    fn new(load: &'a Load) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = Timer::new()?;
        epoll::add(
            &epoll,
            &timer,
            epoll::EventData::new_u64(TIMER_MARK),
            epoll::EventFlags::IN,
        )?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let connection = Connection::open(load.address)
                .with_context(|| format!("nobody listens at {}", load.address))?;
            watch(&epoll, &connection, index)?;
            connections.push(connection);
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\n\r\n",
            load.path, load.address
        );
        Ok(Self {
            load,
            request: request.into_bytes(),
            epoll,
            timer,
            // The first connection is taken first.
            idle: (0..load.connections).rev().collect(),
            connections,
            begin: Instant::now(),
            begun: 0,
            failures_in_a_row: 0,
            outcome: Outcome::default(),
        })
    }

    fn run(mut self) -> Result<Outcome> {
        self.begin = Instant::now();
        let end = self.load.duration;
        // What was due is still sent for a while after the end, and what was sent is waited for a while after that.
        let last = end + 2 * self.load.grace;
        let mut events = Vec::with_capacity(EVENTS_AT_A_TIME);
        loop {
            self.send_what_is_due()?;
            let now = self.begin.elapsed();
            let all_idle = self.idle.len() == self.connections.len();
            if now >= last || (now >= end && all_idle && self.due(now) <= self.begun) {
                break;
            }
            self.timer.wake_at(self.next_look(now).min(last), now)?;
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    TIMER_MARK => self.timer.heard()?,
                    mark => self.heard(usize::try_from(mark)?)?,
                }
            }
        }
        let now = self.begin.elapsed();
        self.outcome.unsent = self.all_due(now).saturating_sub(self.begun);
        // What had no answer in all that time is lost; in a closed loop it is what was cut off by the end.
        let unanswered = (self.connections.len() - self.idle.len()) as u64;
        self.outcome.failures += unanswered;
        self.outcome.took = match self.load.rate {
            Some(_) => now.max(end),
            None => now,
        };
        Ok(self.outcome)
    }

    /// How many requests are to be sent by now; in a closed loop always one more than there are.
    fn due(&self, now: Duration) -> u64 {
        if now > self.load.duration + self.load.grace {
            return self.begun;
        }
        self.all_due(now)
    }

    fn all_due(&self, now: Duration) -> u64 {
        match self.load.rate {
            Some(rate) => (now.min(self.load.duration).as_secs_f64() * rate).ceil() as u64,
            None if now < self.load.duration => u64::MAX,
            None => self.begun,
        }
    }

    /// When the next request is due, or the loop has something to decide.
    fn next_look(&self, now: Duration) -> Duration {
        match self.load.rate {
            Some(rate) if now < self.load.duration && !self.idle.is_empty() => {
                intended(self.begun, rate)
            }
            _ if now < self.load.duration => self.load.duration,
            _ => self.load.duration + 2 * self.load.grace,
        }
    }

    fn send_what_is_due(&mut self) -> Result<()> {
        let mut now = self.begin.elapsed();
        while self.due(now) > self.begun {
            let Some(index) = self.idle.pop() else { break };
            let since = match self.load.rate {
                Some(rate) => intended(self.begun, rate),
                None => now,
            };
            self.begun += 1;
            if self.connections[index].ask(&self.request, since).is_err() {
                self.failed(index)?;
            }
            now = self.begin.elapsed();
        }
        Ok(())
    }

    /// A connection has something to say.
    fn heard(&mut self, index: usize) -> Result<()> {
        match self.connections[index].read() {
            Ok(Progress::Waiting) => Ok(()),
            Ok(Progress::Answered { status, since }) => {
                let latency = self.begin.elapsed().saturating_sub(since);
                let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                if (200..400).contains(&status) {
                    self.outcome.well.add(latency);
                } else {
                    self.outcome.refused.add(latency);
                }
                *self.outcome.statuses.entry(status).or_default() += 1;
                self.failures_in_a_row = 0;
                self.idle.push(index);
                Ok(())
            }
            // An idle connection that its server gave up is replaced, and nothing is lost.
            Ok(Progress::ClosedIdle) => self.replace(index),
            Err(_) => self.failed(index),
        }
    }

    /// The request on this connection has no answer. It goes on with a new one.
    fn failed(&mut self, index: usize) -> Result<()> {
        self.outcome.failures += 1;
        self.failures_in_a_row += 1;
        if self.failures_in_a_row > FAILURES_MAX {
            bail!("{} answers no more", self.load.address);
        }
        self.replace(index)?;
        self.idle.push(index);
        Ok(())
    }

    fn replace(&mut self, index: usize) -> Result<()> {
        // Closing the former socket takes it from the epoll set.
        self.connections[index] = Connection::open(self.load.address)
            .with_context(|| format!("{} takes no more connections", self.load.address))?;
        watch(&self.epoll, &self.connections[index], index)
    }
}

fn intended(index: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(index as f64 / rate)
}

fn watch(epoll: &std::os::fd::OwnedFd, connection: &Connection, index: usize) -> Result<()> {
    let mark = epoll::EventData::new_u64(u64::try_from(index)?);
    epoll::add(epoll, connection.socket(), mark, epoll::EventFlags::IN)?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
