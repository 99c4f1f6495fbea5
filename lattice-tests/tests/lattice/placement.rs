//! Where the parts of an application run: the same scenario is played over each placement, so over each endpoint.

use trellis_lattice_tests::{HostFixture, Lattice};

/// Who runs on which host. `web` is the host of the HTTP server, host 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    hosts: usize,
    /// The host of the actor that HTTP reaches.
    pub(crate) app: usize,
    /// The host of the actor that the first one calls.
    pub(crate) codes: usize,
    /// The host of the key-value provider.
    pub(crate) store: usize,
}

/// Everything on one host.
pub(crate) const TOGETHER: Placement = Placement {
    hosts: 1,
    app: 0,
    codes: 0,
    store: 0,
};

/// What the actor calls runs on the other host.
pub(crate) const CALLEES_AWAY: Placement = Placement {
    hosts: 2,
    app: 0,
    codes: 1,
    store: 1,
};

/// HTTP crosses to the other host, and so do the actor's calls, back.
pub(crate) const APP_AWAY: Placement = Placement {
    hosts: 2,
    app: 1,
    codes: 0,
    store: 0,
};

impl Placement {
    /// Starts its hosts.
    pub(crate) async fn start(self, lattice: &Lattice) -> Vec<HostFixture> {
        let mut hosts = Vec::new();
        for name in ["a", "b"].iter().take(self.hosts) {
            hosts.push(lattice.host(name).start().await);
        }
        hosts
    }
}

/// Makes a test of each scenario for each placement.
macro_rules! over_all_placements {
    ($($scenario:ident)*) => {
        $(mod $scenario {
            use crate::placement::{APP_AWAY, CALLEES_AWAY, TOGETHER};

            #[tokio::test(flavor = "multi_thread")]
            async fn with_everything_on_one_host() {
                super::$scenario(TOGETHER).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn with_the_callees_on_another_host() {
                super::$scenario(CALLEES_AWAY).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn with_the_actor_on_another_host_than_http() {
                super::$scenario(APP_AWAY).await;
            }
        })*
    };
}
pub(crate) use over_all_placements;
