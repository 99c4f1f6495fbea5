//! Looking at an actor or provider on every host that runs it, for as long as somebody looks.
//!
//! One task looks for hosts; each host that is found has one of its own, which asks it, hands on what comes, and asks again
//! when the host's time is over. A host that goes is said so, and looked for again like any other.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use trellis_lattice::client::{ClientError, ControlClient, Series};
use trellis_protocol::EntityId;
use trellis_protocol::control::HostInventory;
use trellis_protocol::control::observe::{EndReason, Watched};

use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::{json_text, printable};
use crate::placement::{self, Host};

/// How often it is asked which hosts run it.
const LOOK_AROUND: Duration = Duration::from_secs(2);

/// News that wait to be shown. Hosts drop what is not taken, and say so.
const NEWS_MAX: usize = 1024;

/// What is asked of each host.
pub(super) trait Watch: Clone + Send + Sync + 'static {
    /// What it answers with.
    type Record: serde::de::DeserializeOwned + Send + 'static;

    /// How far it has been read: what is asked for next comes after it.
    type Mark: Clone + Send + 'static;

    /// The mark of a record.
    fn mark(record: &Self::Record) -> Self::Mark;

    /// What the attempt is called where it fails.
    fn attempt(&self) -> String;

    /// Whether a host runs what is watched.
    fn runs(&self, inventory: &HostInventory) -> bool;

    /// Asks a host for what comes after the last record that was read of it.
    fn ask(
        &self,
        client: &ControlClient,
        host: &str,
        last: Option<&Self::Mark>,
    ) -> impl Future<Output = Result<Series<Self::Record>, ClientError>> + Send;
}

/// What there is to tell.
#[derive(Debug)]
pub(super) enum News<T> {
    /// A record of a host.
    Record(T),
    /// So many were lost on the way from a host.
    Dropped(u64),
    /// A host is watched from now on.
    Found(Host),
    /// A host is not watched any more.
    Lost(Host, String),
    /// A host does not let itself be watched.
    Refused(Failure),
}

/// The news. Everything ends with this value.
pub(super) struct Following<T> {
    news: mpsc::Receiver<News<T>>,
    looking: AbortHandle,
    /// Hosts of the beginning that have not answered yet.
    awaited: usize,
    watched: usize,
    /// The last refusal.
    refusal: Option<Failure>,
}

impl<T> Drop for Following<T> {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// Hosts to begin with, each with how far it has been read.
pub(super) type Begin<M> = Vec<(Host, Option<M>)>;

impl<T: Send + 'static> Following<T> {
    /// Follows on these hosts, and on further ones unless one is meant.
    pub(super) fn start<W: Watch<Record = T>>(
        lattice: Lattice,
        watch: W,
        begin: Begin<W::Mark>,
        only_these: bool,
    ) -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let awaited = begin.len();
        let looking = tokio::spawn(look(lattice, watch, begin, only_these, sender));
        Self {
            news,
            looking: looking.abort_handle(),
            awaited,
            watched: 0,
            refusal: None,
        }
    }

    /// The next news. None where every host that was meant is gone for good. Cancel-safe.
    ///
    /// # Errors
    /// The refusal where no host lets itself be watched.
    pub(super) async fn next(&mut self) -> Result<Option<News<T>>, Failure> {
        loop {
            let Some(news) = self.news.recv().await else {
                return match self.refusal.take() {
                    Some(refusal) if self.watched == 0 => Err(refusal),
                    _ => Ok(None),
                };
            };
            match news {
                News::Found(_) => {
                    self.awaited = self.awaited.saturating_sub(1);
                    self.watched += 1;
                }
                News::Refused(refusal) => {
                    self.awaited = self.awaited.saturating_sub(1);
                    if self.watched == 0 {
                        self.refusal = Some(refusal);
                        if self.awaited == 0 {
                            return Err(self.refusal.take().expect("just put there"));
                        }
                        continue;
                    }
                    // It is asked again, and likely to refuse again.
                    if self.refusal.as_ref() == Some(&refusal) {
                        continue;
                    }
                    self.refusal = Some(refusal.clone());
                    return Ok(Some(News::Refused(refusal)));
                }
                News::Lost(..) => self.awaited = self.awaited.saturating_sub(1),
                _ => {}
            }
            return Ok(Some(news));
        }
    }
}

/// The hosts to begin with: the one that is meant, or all that run it.
///
/// # Errors
/// A refused failure where none runs it.
pub(super) async fn hosts(
    lattice: &Lattice,
    id: &EntityId,
    meant: Option<&str>,
    watch: &impl Watch,
) -> Result<Vec<Host>, Failure> {
    if let Some(meant) = meant {
        return Ok(vec![placement::find(lattice, meant).await?]);
    }
    let found = placement::running(lattice, id.as_str(), |inventory| watch.runs(inventory)).await?;
    Ok(found.iter().map(Host::of).collect())
}

async fn look<W: Watch>(
    lattice: Lattice,
    watch: W,
    begin: Begin<W::Mark>,
    only_these: bool,
    news: mpsc::Sender<News<W::Record>>,
) {
    // They end with this task, because the set is dropped with it.
    let mut followers = JoinSet::new();
    let mut followed: HashMap<String, AbortHandle> = HashMap::new();
    for (host, last) in begin {
        let follower = follow(
            lattice.client().clone(),
            watch.clone(),
            host.clone(),
            last,
            news.clone(),
        );
        followed.insert(host.id, followers.spawn(follower));
    }
    let mut ticks = interval(LOOK_AROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = followers.join_next(), if !followers.is_empty() => {}
            () = news.closed() => return,
        }
        followed.retain(|_, follower| !follower.is_finished());
        if only_these {
            if followed.is_empty() {
                return;
            }
            continue;
        }
        // A lattice that does not answer now may do so the next time.
        let Ok(inventories) = placement::inventories(&lattice).await else {
            continue;
        };
        for inventory in inventories.iter().filter(|inventory| watch.runs(inventory)) {
            if !followed.contains_key(&inventory.host_id) {
                let host = Host::of(inventory);
                let follower = follow(
                    lattice.client().clone(),
                    watch.clone(),
                    host,
                    None,
                    news.clone(),
                );
                followed.insert(inventory.host_id.clone(), followers.spawn(follower));
            }
        }
        // Somebody who refuses is asked again no more often than this.
        ticks.reset();
        ticks.tick().await;
    }
}

/// Follows on one host until it is gone.
async fn follow<W: Watch>(
    client: ControlClient,
    watch: W,
    host: Host,
    mut last: Option<W::Mark>,
    news: mpsc::Sender<News<W::Record>>,
) {
    let mut is_first = true;
    loop {
        let mut series = match watch.ask(&client, &host.id, last.as_ref()).await {
            Ok(series) => series,
            Err(ClientError::Refused { message, .. }) if is_first => {
                let message = format!("{} on host {host}: {message}", watch.attempt());
                let _ = news.send(News::Refused(Failure::refused(message))).await;
                return;
            }
            Err(error) => {
                let why = crate::exit::chain(&error);
                let _ = news.send(News::Lost(host, why)).await;
                return;
            }
        };
        if std::mem::take(&mut is_first) && news.send(News::Found(host.clone())).await.is_err() {
            return;
        }
        loop {
            let told = match series.next().await {
                Some(Ok(Watched::Record(record))) => {
                    last = Some(W::mark(&record));
                    News::Record(record)
                }
                Some(Ok(Watched::End(end))) => {
                    if end.dropped > 0 {
                        let dropped = News::Dropped(end.dropped);
                        if news.send(dropped).await.is_err() {
                            return;
                        }
                    }
                    match end.end {
                        EndReason::Time => break,
                        _ => News::Lost(host.clone(), "it is stopping".to_owned()),
                    }
                }
                // A message that cannot be read is one that a newer host can.
                Some(Err(ClientError::Body(_))) => News::Dropped(1),
                Some(Err(error)) => News::Lost(host.clone(), crate::exit::chain(&error)),
                None => break,
            };
            let is_last = matches!(told, News::Lost(..));
            if news.send(told).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// Whether anybody still reads what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// Somebody does.
    There,
    /// The other end is closed, as by `head`.
    Gone,
}

/// Shows a record at once.
///
/// # Errors
/// The operating system's, as for a full disk.
pub(super) fn show(text: &str) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::local(format!("cannot write to stdout: {error}"))),
    }
}

/// Waits until a time; for ever where there is none.
pub(super) async fn at(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// A record of a host as one line of JSON, with the names of the control interface.
pub(super) fn json_line(record: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(record).unwrap_or_default();
    format!("{}\n", json_text(&value))
}

/// A host in few words, for lines that say where something happened.
pub(super) fn short(host: &Host) -> String {
    match &host.name {
        Some(name) => printable(name),
        None => printable(host.id.get(..8).unwrap_or(&host.id)),
    }
}

/// The time of day of an RFC 3339 time, to the millisecond.
pub(super) fn time_of_day(time: &str) -> String {
    let text = match time.split_once('T') {
        Some((_, clock)) => clock.trim_end_matches('Z'),
        None => time,
    };
    printable(text.get(..12).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_milliseconds_and_anything_else_is_shown_as_it_is() {
        assert_eq!(time_of_day("2026-11-22T14:00:00.123456Z"), "14:00:00.123");
        assert_eq!(time_of_day("2026-11-22T14:00:00Z"), "14:00:00");
        assert_eq!(time_of_day("noon"), "noon");
        assert_eq!(time_of_day("xT\u{1b}[2J"), "\\u{1b}[2J");
    }
}
