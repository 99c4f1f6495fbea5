//! Which hosts there are, what each runs, and for whom each may speak: the table that the router reads on every call.
//!
//! [`crate::presence`] writes it, from signed beats and rosters; nobody else can. A host is in it while its beats come
//! and its certificate is valid, and it routes only ids that the certificate allows (D2). The own host is never in it.
//!
//! Reading takes one short read lock and clones an [`Arc`]. A change builds a new view beside the old one; whether a
//! host is suspect or draining, and what state it has applied, changes in place.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{broadcast, mpsc, watch};
use trellis_claims::{HostCertificate, PublicKey};
use trellis_protocol::EntityId;
use trellis_protocol::presence::{Beat, Roster, State};

/// How many losses a slow listener may be behind before it is told that it missed some.
const LOST_BACKLOG: usize = 256;

/// Most knocks that wait for the presence task. Beyond them the next beat must do.
const KNOCKS_MAX: usize = 64;

/// One way to an id: a host that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Public key of the host.
    pub host: Arc<str>,
    /// The run of its process.
    pub incarnation: u64,
    /// Its last beats are missing; it may be gone.
    pub suspect: bool,
    /// It takes no new work.
    pub draining: bool,
}

/// What is known of a host of the lattice.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its public key, which verifies what it signs.
    pub key: PublicKey,
    /// The run of its process.
    pub incarnation: u64,
    /// The certificate by which it belongs to the lattice, checked.
    pub certificate: Arc<HostCertificate>,
    /// What it says about itself.
    pub roster: Arc<Roster>,
    /// The sequence of the lattice's state that it had applied at its last beat.
    pub state_sequence: u64,
    /// Its last beats are missing; it may be gone.
    pub suspect: bool,
    /// It takes no new work.
    pub draining: bool,
}

/// Why a host left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// Its beats stopped.
    Silent,
    /// It said goodbye.
    Left,
    /// It is back with a larger incarnation; the former one is lost.
    Restarted,
    /// Its certificate is no longer valid.
    Certificate,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "its beats stopped",
            Self::Left => "it left the lattice",
            Self::Restarted => "it was started again",
            Self::Certificate => "its certificate is no longer valid",
        })
    }
}

/// A host's incarnation that has left the table. Its calls in flight have an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostHost {
    /// Public key of the host.
    pub host: Arc<str>,
    /// The run of its process that is lost.
    pub incarnation: u64,
    /// Why.
    pub reason: LostReason,
    /// The labels that it had.
    pub labels: BTreeMap<String, String>,
}

/// The table of routes. Cloning it is a reference count; all clones see the same table.
#[derive(Clone)]
pub struct Routes {
    inner: Arc<Inner>,
}

struct Inner {
    view: RwLock<Arc<View>>,
    lost: broadcast::Sender<LostHost>,
    changed: watch::Sender<u64>,
    knocks: mpsc::Sender<Knock>,
}

/// A host that is not in the table in this run, and has sent what it signed for this run of this host.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) host: PublicKey,
    pub(crate) incarnation: u64,
}

#[derive(Default)]
struct View {
    hosts: HashMap<Arc<str>, Arc<Entry>>,
    ids: HashMap<EntityId, Vec<Arc<Entry>>>,
}

struct Entry {
    host: Arc<str>,
    key: PublicKey,
    incarnation: u64,
    certificate: Arc<HostCertificate>,
    roster: Arc<Roster>,
    state_sequence: AtomicU64,
    suspect: AtomicBool,
    draining: AtomicBool,
}

impl Routes {
    /// Every route to an id, in no order. Empty: no host of the lattice but perhaps this one runs it.
    pub fn routes_to(&self, id: &EntityId) -> Vec<Route> {
        let view = self.view();
        let entries = view.ids.get(id).map_or(&[][..], Vec::as_slice);
        entries.iter().map(|entry| entry.route()).collect()
    }

    /// What is known of a host.
    pub fn host(&self, host: &str) -> Option<PeerInfo> {
        self.view().hosts.get(host).map(|entry| entry.info())
    }

    /// Every host, in no order.
    pub fn hosts(&self) -> Vec<PeerInfo> {
        let view = self.view();
        view.hosts.values().map(|entry| entry.info()).collect()
    }

    /// How many hosts there are beside the own one.
    pub fn len(&self) -> usize {
        self.view().hosts.len()
    }

    /// Whether there is no other host.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a host's certificate lets it speak for an id. A host that is not in the table speaks for nobody.
    pub fn speaks_for(&self, host: &str, id: &EntityId) -> bool {
        let view = self.view();
        let entry = view.hosts.get(host);
        entry.is_some_and(|entry| entry.certificate.may_run(id.as_str()))
    }

    /// Tells of each host that leaves. A listener that is told it missed some should compare with [`Self::host`].
    pub fn lost(&self) -> broadcast::Receiver<LostHost> {
        self.inner.lost.subscribe()
    }

    /// Wakes whenever a host comes or goes, or its roster changes. The value only counts.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// The verifying key and incarnation of a host, without the rest.
    pub(crate) fn identity(&self, host: &str) -> Option<(PublicKey, u64)> {
        let view = self.view();
        let entry = view.hosts.get(host)?;
        Some((entry.key.clone(), entry.incarnation))
    }

    /// Tells the presence task of a host that it should ask for its roster. Forgotten where too many have knocked.
    pub(crate) fn knock(&self, knock: Knock) {
        // Full or closed: the host is heard by its beats, or nobody is any more.
        let _ = self.inner.knocks.try_send(knock);
    }

    /// The empty table, and what knocks at it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Knock>) {
        let (knocks, knocked) = mpsc::channel(KNOCKS_MAX);
        let inner = Inner {
            view: RwLock::default(),
            lost: broadcast::Sender::new(LOST_BACKLOG),
            changed: watch::Sender::new(0),
            knocks,
        };
        let routes = Self {
            inner: Arc::new(inner),
        };
        (routes, knocked)
    }

    /// Puts a host whose roster and certificate have been checked, in place of what was known of it.
    pub(crate) fn put(&self, roster: Roster, certificate: HostCertificate, seen: Seen) {
        let entry = Arc::new(Entry {
            host: Arc::from(roster.host.as_str()),
            key: roster.host.clone(),
            incarnation: roster.incarnation,
            certificate: Arc::new(certificate),
            roster: Arc::new(roster),
            state_sequence: AtomicU64::new(seen.state_sequence),
            suspect: AtomicBool::new(false),
            draining: AtomicBool::new(seen.draining),
        });
        self.change(|hosts| {
            hosts.insert(Arc::clone(&entry.host), entry);
        });
    }

    /// Notes what a beat said.
    pub(crate) fn note(&self, host: &str, seen: Seen) {
        if let Some(entry) = self.view().hosts.get(host) {
            entry
                .state_sequence
                .store(seen.state_sequence, Ordering::Relaxed);
            entry.suspect.store(false, Ordering::Relaxed);
            entry.draining.store(seen.draining, Ordering::Relaxed);
        }
    }

    /// Marks a host whose beats are missing.
    pub(crate) fn suspect(&self, host: &str) {
        if let Some(entry) = self.view().hosts.get(host) {
            entry.suspect.store(true, Ordering::Relaxed);
        }
    }

    /// Takes a host out and tells everybody.
    pub(crate) fn remove(&self, host: &str, reason: LostReason) {
        let mut removed = None;
        self.change(|hosts| removed = hosts.remove(host));
        if let Some(entry) = removed {
            // Nobody listens in a lattice of one; that is no fault.
            let _ = self.inner.lost.send(LostHost {
                host: Arc::clone(&entry.host),
                incarnation: entry.incarnation,
                reason,
                labels: entry.roster.labels.clone(),
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Arc<str>, Arc<Entry>>)) {
        // Only the presence task writes, so building outside the lock loses no other writer's change.
        let mut hosts = self.view().hosts.clone();
        change(&mut hosts);
        let mut ids: HashMap<EntityId, Vec<Arc<Entry>>> = HashMap::new();
        for entry in hosts.values() {
            let allowed = |id: &&EntityId| entry.certificate.may_run(id.as_str());
            for id in entry.roster.ids().filter(allowed) {
                let routes = ids.entry(id.clone()).or_default();
                // A roster that names an id twice has one route to it.
                if routes.last().is_none_or(|last| last.host != entry.host) {
                    routes.push(Arc::clone(entry));
                }
            }
        }
        let view = Arc::new(View { hosts, ids });
        *self
            .inner
            .view
            .write()
            .unwrap_or_else(PoisonError::into_inner) = view;
        self.inner.changed.send_modify(|count| *count += 1);
    }

    fn view(&self) -> Arc<View> {
        let view = self
            .inner
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&view)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_set().entries(view.hosts.keys()).finish()
    }
}

/// The part of a beat that routes carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state_sequence: u64,
    pub(crate) draining: bool,
}

impl Seen {
    pub(crate) fn of(beat: &Beat) -> Self {
        Self {
            state_sequence: beat.state_sequence,
            draining: beat.state == State::Draining,
        }
    }
}

impl Entry {
    fn route(&self) -> Route {
        Route {
            host: Arc::clone(&self.host),
            incarnation: self.incarnation,
            suspect: self.suspect.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }

    fn info(&self) -> PeerInfo {
        PeerInfo {
            key: self.key.clone(),
            incarnation: self.incarnation,
            certificate: Arc::clone(&self.certificate),
            roster: Arc::clone(&self.roster),
            state_sequence: self.state_sequence.load(Ordering::Relaxed),
            suspect: self.suspect.load(Ordering::Relaxed),
            draining: self.draining.load(Ordering::Relaxed),
        }
    }
}
