//! A load of requests that keeps count: how many were acknowledged, and how the others were told that they were not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::{Answer, Connection, Failure};
use crate::wait::eventually_within;

/// Pause of a client between two requests: a load is for finding what gets lost, not for keeping processors busy.
const PAUSE: Duration = Duration::from_millis(4);

/// How late an answer may be on a machine that does much else at the same time.
const GRACE: Duration = Duration::from_secs(2);

/// Longest wait until a load has come so far: a provider's process, or a server, may have to be started meanwhile.
const PROGRESS_WITHIN: Duration = Duration::from_secs(30);

/// Answers of one kind that a report shows.
const SHOWN: usize = 3;

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            body: Bytes::new(),
        }
    }

    /// `POST path`.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body: body.into(),
        }
    }
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub struct Load {
    end: CancellationToken,
    clients: JoinSet<Tally>,
    progress: Arc<Progress>,
}

/// How far a load has come.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: AtomicU64,
    others: AtomicU64,
}

/// What became of the requests of a load.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers with the status that acknowledges.
    pub acknowledged: Vec<Answer>,
    /// Answers that say by their type why not.
    pub refused: Vec<Answer>,
    /// What should not have happened: no answer, an answer without a type, an answer behind its deadline.
    pub wrong: Vec<String>,
}

impl Load {
    /// Lets so many clients, each with a connection of its own, ask one request after the other. `make` gives the requests
    /// by the number of the client and of its request, `acknowledged` is the status of success, and `deadline` the time
    /// within which each has to be answered.
    pub fn begin(
        url: &str,
        clients: u64,
        acknowledged: u16,
        deadline: Duration,
        make: impl Fn(u64, u64) -> Ask + Send + Sync + 'static,
    ) -> Self {
        let end = CancellationToken::new();
        let make = Arc::new(make);
        let progress = Arc::new(Progress::default());
        let mut running = JoinSet::new();
        for client in 0..clients {
            let (url, end, make) = (url.to_owned(), end.clone(), Arc::clone(&make));
            let progress = Arc::clone(&progress);
            running.spawn(async move {
                let mut tally = Tally::default();
                let mut connection = None;
                for number in 0.. {
                    if end.is_cancelled() {
                        break;
                    }
                    let ask = make(client, number);
                    let before = tally.count();
                    let asked = tokio::time::timeout(
                        deadline + GRACE,
                        exchange(&url, &mut connection, &ask),
                    );
                    match asked.await {
                        Ok(Ok(answer)) => tally.judge(answer, acknowledged),
                        Ok(Err(error)) => {
                            connection = None;
                            tally.wrong.push(format!("{ask:?}: {error:?}"));
                        }
                        Err(_) => {
                            connection = None;
                            tally
                                .wrong
                                .push(format!("{ask:?}: no answer within {deadline:?}"));
                        }
                    }
                    let counter = if tally.count() > before {
                        &progress.acknowledged
                    } else {
                        &progress.others
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                tally
            });
        }
        Self {
            end,
            clients: running,
            progress,
        }
    }

    /// Waits until so many more requests have been acknowledged.
    ///
    /// # Panics
    /// Where they are not in time.
    pub async fn acknowledges(&self, more: u64) {
        reaches(
            "requests are acknowledged",
            &self.progress.acknowledged,
            more,
        )
        .await;
    }

    /// Waits until so many more requests have been answered otherwise.
    ///
    /// # Panics
    /// Where they are not in time.
    pub async fn refuses(&self, more: u64) {
        reaches("requests are refused", &self.progress.others, more).await;
    }

    /// Lets what is under way finish, and sums up.
    ///
    /// # Panics
    /// Never: clients do not.
    pub async fn end(mut self) -> Tally {
        self.end.cancel();
        let mut sum = Tally::default();
        while let Some(tally) = self.clients.join_next().await {
            let tally = tally.expect("a client does not panic");
            sum.acknowledged.extend(tally.acknowledged);
            sum.refused.extend(tally.refused);
            sum.wrong.extend(tally.wrong);
        }
        sum
    }
}

impl Tally {
    /// How many were acknowledged.
    pub fn count(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// How many requests there were at all.
    pub fn asked(&self) -> u64 {
        (self.acknowledged.len() + self.refused.len() + self.wrong.len()) as u64
    }

    /// Demands that each request was answered in time, the refused ones with a type.
    ///
    /// # Panics
    /// Where one was not.
    pub fn assert_answered(&self) {
        let shown = &self.wrong[..self.wrong.len().min(SHOWN)];
        assert!(
            self.wrong.is_empty(),
            "{} of {} requests went wrong, such as {shown:#?}",
            self.wrong.len(),
            self.asked()
        );
    }

    /// The kinds of refusals, with how many of each and one as an example.
    pub fn kinds(&self) -> BTreeMap<String, (usize, String)> {
        let mut kinds = BTreeMap::new();
        for answer in &self.refused {
            let kind = format!("{} {}", answer.status, answer.member("type"));
            let (count, _) = kinds.entry(kind).or_insert((0, answer.member("detail")));
            *count += 1;
        }
        kinds
    }

    fn judge(&mut self, answer: Answer, acknowledged: u16) {
        let typed = answer.header("content-type") == "application/problem+json"
            && !answer.member("type").is_empty();
        if answer.status == acknowledged {
            self.acknowledged.push(answer);
        } else if answer.status >= 400 && typed {
            self.refused.push(answer);
        } else {
            let text = answer.text();
            self.wrong.push(format!("{}: {text:?}", answer.status));
        }
    }
}

async fn reaches(what: &str, counter: &AtomicU64, more: u64) {
    let aim = counter.load(Ordering::Relaxed) + more;
    eventually_within(PROGRESS_WITHIN, what, async || {
        (counter.load(Ordering::Relaxed) >= aim).then_some(())
    })
    .await;
}

async fn exchange(
    url: &str,
    connection: &mut Option<Connection>,
    ask: &Ask,
) -> Result<Answer, Failure> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(url).await?),
    };
    let answer = open.send(ask.method, &ask.path, ask.body.clone()).await?;
    // A server may end a connection with its answer, as it does with one that it cannot read to the end.
    if answer.header("connection") == "close" {
        *connection = None;
    }
    Ok(answer)
}
