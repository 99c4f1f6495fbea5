//! Which of several hosts gets a call: power of two choices by this host's own calls in flight (D10).
//!
//! Loads that hosts report are seconds old, and everybody would send to whoever was idlest then. What this host itself
//! has on the way is known now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use trellis_lattice::routes::Route;

/// Hosts that are remembered. Counters of hosts without a call are dropped beyond it.
const HOSTS_MAX: usize = 2_000;

/// Calls in flight to each host.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    hosts: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
}

/// One call in flight.
#[derive(Debug)]
pub(super) struct Flight(Arc<AtomicUsize>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlight {
    fn counter(&self, host: &Arc<str>) -> Arc<AtomicUsize> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        }
        Arc::clone(hosts.entry(Arc::clone(host)).or_default())
    }

    pub(super) fn begin(&self, host: &Arc<str>) -> Flight {
        let counter = self.counter(host);
        counter.fetch_add(1, Ordering::Relaxed);
        Flight(counter)
    }

    /// Takes one route out of the list: of two at random the one with fewer calls on the way. Hosts that missed a beat
    /// are only taken when no other is left, those that drain never.
    pub(super) fn choose(&self, routes: &mut Vec<Route>) -> Option<Route> {
        routes.retain(|route| !route.draining);
        let healthy = routes.iter().any(|route| !route.suspect);
        let candidates: Vec<usize> = (0..routes.len())
            .filter(|index| !healthy || !routes[*index].suspect)
            .collect();
        let pick = |from: &[usize]| from.get(rand::random_range(0..from.len().max(1))).copied();
        let first = pick(&candidates)?;
        let second = pick(&candidates)?;
        let load = |index: usize| self.counter(&routes[index].host).load(Ordering::Relaxed);
        let chosen = if load(second) < load(first) {
            second
        } else {
            first
        };
        Some(routes.swap_remove(chosen))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn route(host: &str, suspect: bool, draining: bool) -> Route {
        Route {
            host: Arc::from(host),
            incarnation: 1,
            suspect,
            draining,
        }
    }

    #[test]
    fn a_suspect_host_is_the_last_resort_and_a_draining_one_none() {
        let balance = InFlight::default();
        let mut routes = vec![
            route("suspect", true, false),
            route("draining", false, true),
            route("well", false, false),
        ];
        assert_eq!(&*balance.choose(&mut routes).unwrap().host, "well");
        assert_eq!(&*balance.choose(&mut routes).unwrap().host, "suspect");
        assert!(balance.choose(&mut routes).is_none());
    }

    #[test]
    fn calls_spread_over_hosts_by_what_is_on_the_way() {
        let balance = InFlight::default();
        let mut flights = Vec::new();
        for _ in 0..300 {
            let mut routes = vec![
                route("a", false, false),
                route("b", false, false),
                route("c", false, false),
            ];
            flights.push(balance.begin(&balance.choose(&mut routes).unwrap().host));
        }
        for host in ["a", "b", "c"] {
            let count = balance.counter(&Arc::from(host)).load(Ordering::Relaxed);
            assert!((80..=120).contains(&count), "{host}: {count}");
        }
        drop(flights);
        assert_eq!(balance.counter(&Arc::from("a")).load(Ordering::Relaxed), 0);
    }
}
