//! The numbers of every host at one moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use trellis_lattice::client::{ClientError, ControlClient};
use trellis_protocol::control::HostStats;

use crate::connection::Lattice;
use crate::exit::Failure;
use crate::placement;

/// How often it is asked which hosts there are.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// How long a host that was there is shown as silent, before it is forgotten.
const FORGET: Duration = Duration::from_secs(30);

/// Longest wait for one host's numbers. They come from memory.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What hosts said.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// By host id.
    pub(super) hosts: BTreeMap<String, Seen>,
}

/// What one host said, and when.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) stats: HostStats,
    /// Why it says nothing any more, if it does not.
    pub(super) silent: Option<String>,
}

/// Asks, again and again.
pub(super) struct Sampler {
    lattice: Lattice,
    client: ControlClient,
    /// Hosts by id, with their names.
    hosts: BTreeMap<String, String>,
    looked: Instant,
    last: Sample,
}

impl Sampler {
    pub(super) fn new(lattice: Lattice) -> Self {
        let answer_max = lattice.question_timeout().min(ANSWER_MAX);
        Self {
            client: lattice.client().clone().with_timeout(answer_max),
            lattice,
            hosts: BTreeMap::new(),
            looked: Instant::now(),
            last: Sample::default(),
        }
    }

    /// The first sample.
    ///
    /// # Errors
    /// [`Lattice::no_hosts`] where nobody is there, and where none of those that are there says its numbers.
    pub(super) async fn first(&mut self) -> Result<Sample, Failure> {
        let hosts = placement::hosts(&self.lattice).await?;
        self.hosts = hosts
            .into_iter()
            .map(|host| (host.id, host.friendly_name))
            .collect();
        self.looked = Instant::now();
        self.ask().await
    }

    /// A further sample. Hosts that come are found within seconds; those that leave are shown as silent for a while.
    ///
    /// # Errors
    /// Where no host answers at all.
    pub(super) async fn next(&mut self) -> Result<Sample, Failure> {
        if self.looked.elapsed() >= LOOK_AROUND {
            self.looked = Instant::now();
            // Where that fails those that are known are asked all the same, which says it better.
            if let Ok(hosts) = placement::hosts(&self.lattice).await {
                let found = hosts.into_iter().map(|host| (host.id, host.friendly_name));
                self.hosts.extend(found);
            }
        }
        self.ask().await
    }

    async fn ask(&mut self) -> Result<Sample, Failure> {
        let answers = join_all(self.hosts.keys().map(|id| async {
            let answer = self.client.stats(id).await;
            (id.clone(), Instant::now(), answer)
        }))
        .await;
        let mut sample = Sample::default();
        let mut failure = None;
        for (id, at, answer) in answers {
            match answer {
                Ok(stats) => {
                    let silent = None;
                    sample.hosts.insert(id, Seen { at, stats, silent });
                }
                Err(error) => {
                    if let Some(seen) = self.last.hosts.get(&id)
                        && seen.at.elapsed() < FORGET
                    {
                        let silent = Some(why_silent(&error));
                        sample.hosts.insert(
                            id,
                            Seen {
                                silent,
                                ..seen.clone()
                            },
                        );
                    } else {
                        self.hosts.remove(&id);
                    }
                    let attempt = "cannot ask hosts for their numbers";
                    failure.get_or_insert_with(|| self.lattice.failure(attempt, &error));
                }
            }
        }
        let somebody_answered = sample.hosts.values().any(|seen| seen.silent.is_none());
        self.last = sample.clone();
        match failure {
            Some(failure) if !somebody_answered => Err(failure),
            None if !somebody_answered => Err(self.lattice.no_hosts()),
            _ => Ok(sample),
        }
    }
}

/// In few words: it stands in a table.
fn why_silent(error: &ClientError) -> String {
    match error {
        ClientError::NoHost { .. } => "gone",
        ClientError::TimedOut { .. } => "no answer",
        ClientError::Connection { .. } => "no connection",
        _ => "no numbers",
    }
    .to_owned()
}
