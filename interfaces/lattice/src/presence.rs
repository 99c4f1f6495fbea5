//! Who is in the lattice: this host's beats and roster, and the table of everybody else's.
//!
//! Four tasks, all owned by [`Presence`]:
//! - the *speaker* publishes a signed beat at each interval, and at once when roster or state change;
//! - the *answerer* sends the signed roster to whoever asks for it;
//! - the *listener* takes everybody's beats, keeps the table of who was heard, pulls rosters that a beat announces as
//!   new, and puts hosts into [`Routes`] once their roster's signature and certificate hold; the roster of a host that
//!   calls before it was heard is pulled at once;
//! - pulls run beside the listener, a few at a time, after a random pause, so that a change is not asked for by every
//!   host in the same millisecond.
//!
//! What does not hold is counted and dropped. A host without a valid certificate never enters the table: it is named in
//! the log once. Time comes from tokio, the validity of certificates from the system's clock.

mod listener;
mod speaker;
mod table;
pub(crate) mod tally;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_claims::{SigningKey, TrustRoots};
use trellis_protocol::presence::{PresenceError, RosterActor, RosterProvider, State};
use trellis_protocol::subject::Subjects;

use crate::routes::Routes;
use speaker::Own;
use tally::Tally;

/// Most hosts of a lattice that a host keeps in its table.
pub const HOSTS_MAX: usize = 1000;

/// Most hosts that have been heard and not yet shown a valid certificate. Where there are more, the one that was heard
/// longest ago is forgotten first.
pub const CANDIDATES_MAX: usize = 256;

/// What presence is started with.
pub struct PresenceOptions {
    /// The connection for control, presence and state.
    pub client: async_nats::Client,
    /// The lattice's subjects.
    pub subjects: Subjects,
    /// The host's key.
    pub key: Arc<SigningKey>,
    /// The host's certificate. Without one the host hears others and is believed by none.
    pub certificate: Option<String>,
    /// Whose certificates are believed.
    pub trust: Arc<TrustRoots>,
    /// This run of the process. It must be larger than that of every former run with the same key.
    pub incarnation: u64,
    /// The name that people know the host by.
    pub name: String,
    /// The host's labels.
    pub labels: BTreeMap<String, String>,
}

/// Why presence did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceStartError {
    /// The host's own roster cannot be made: its name or labels exceed a limit, or the key is no host's.
    #[error("this host cannot present itself: {0}")]
    Roster(#[from] PresenceError),
    /// NATS did not take a subscription.
    #[error("cannot subscribe to `{subject}`: {reason}")]
    Subscribe {
        /// The subject.
        subject: String,
        /// What the client said.
        reason: String,
    },
}

/// The running presence of this host.
pub struct Presence {
    own: Arc<Own>,
    routes: Routes,
    rejected: Arc<Tally<Rejection>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

tally::reasons! {
    /// Why a beat or a roster was not believed.
    pub enum Rejection {
        /// The bytes are no beat.
        Malformed = "malformed",
        /// The beat has a version that this host does not know.
        UnknownVersion = "unknown-version",
        /// The beat is of another lattice.
        WrongLattice = "wrong-lattice",
        /// The beat is not signed by its host.
        Signature = "signature",
        /// The beat was heard before, or belongs to a former incarnation.
        Replayed = "replayed",
        /// The table is full.
        TooManyHosts = "too-many-hosts",
        /// The host did not send the roster that its beat announces.
        NoRoster = "no-roster",
        /// The roster is malformed, not signed by its host, or an old one.
        Roster = "roster",
        /// The certificate is missing, expired, of another lattice, or of an authority that is not trusted.
        Certificate = "certificate",
    }
}

impl Presence {
    /// Subscribes, and beats for the first time.
    ///
    /// # Errors
    /// [`PresenceStartError`].
    pub async fn start(options: PresenceOptions) -> Result<Self, PresenceStartError> {
        let (routes, knocks) = Routes::new();
        let rejected = Arc::new(Tally::default());
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let own = Arc::new(Own::new(&options)?);
        let host = options.key.public().to_string();

        let asked = subscribe(&options.client, options.subjects.roster(&host)).await?;
        let beats = subscribe(&options.client, options.subjects.presence_all()).await?;
        let known = routes.clone();
        let listener = listener::Listener::new(&options, known, knocks, Arc::clone(&rejected));
        let speaker = speaker::Speaker {
            client: options.client.clone(),
            subject: options.subjects.presence(&host),
            own: Arc::clone(&own),
            routes: routes.clone(),
        };
        tracker.spawn(listener.run(beats, cancel.clone()));
        let (client, subjects) = (options.client, options.subjects);
        let answer = speaker::answer(client, subjects, Arc::clone(&own), asked, cancel.clone());
        tracker.spawn(answer);
        tracker.spawn(speaker.run(cancel.clone()));
        tracker.close();
        Ok(Self {
            own,
            routes,
            rejected,
            tracker,
            cancel,
        })
    }

    /// The table of the other hosts.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Says what this host runs; everybody hears of it at once. Gives back the roster's new version.
    ///
    /// # Errors
    /// [`PresenceError`] where the roster would exceed a limit; the former one stays.
    pub fn set_roster(
        &self,
        actors: Vec<RosterActor>,
        providers: Vec<RosterProvider>,
    ) -> Result<u64, PresenceError> {
        self.own.change(|roster| {
            roster.actors = actors;
            roster.providers = providers;
        })
    }

    /// Changes this host's labels.
    ///
    /// # Errors
    /// As [`Self::set_roster`].
    pub fn set_labels(&self, labels: BTreeMap<String, String>) -> Result<u64, PresenceError> {
        self.own.change(|roster| roster.labels = labels)
    }

    /// Puts a renewed certificate in place of the former one.
    ///
    /// # Errors
    /// As [`Self::set_roster`]. The certificate is not checked here: the others will do so.
    pub fn set_certificate(&self, certificate: String) -> Result<u64, PresenceError> {
        self.own
            .change(|roster| roster.certificate = Some(certificate))
    }

    /// Says whether this host takes work; everybody hears of a change at once.
    pub fn set_state(&self, state: State) {
        self.own.set_state(state);
    }

    /// Notes the sequence of the lattice's state that this host has applied. It travels with the next beat.
    pub fn set_state_sequence(&self, sequence: u64) {
        self.own.set_state_sequence(sequence);
    }

    /// How many beats and rosters were not believed, by reason.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        self.rejected.counts()
    }

    /// Says goodbye and ends. Whether the goodbye was sent within the time is not known to anybody else either: a host
    /// that goes without one is missed after five beats.
    pub async fn stop(self, within: Duration) {
        self.own.set_state(State::Leaving);
        self.cancel.cancel();
        if tokio::time::timeout(within, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("presence did not end within {within:?}");
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Drop for Presence {
    /// Ends the tasks of a presence that was not stopped; the speaker's goodbye is then as good as the runtime's luck.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub(crate) async fn subscribe(
    client: &async_nats::Client,
    subject: String,
) -> Result<async_nats::Subscriber, PresenceStartError> {
    client
        .subscribe(subject.clone())
        .await
        .map_err(|error| PresenceStartError::Subscribe {
            subject,
            reason: error.to_string(),
        })
}
