//! One scenario over both doors of a provider, with the actor on its host and on another one.

/// Makes a test of each scenario for each setting.
macro_rules! over_all_settings {
    ($($scenario:ident)*) => {
        $(mod $scenario {
            use trellis_lattice_tests::{Door, Place, Setting};

            #[tokio::test(flavor = "multi_thread")]
            async fn built_in_with_the_actor_on_the_same_host() {
                super::$scenario(Setting::new(Door::BuiltIn, Place::SameHost)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn built_in_with_the_actor_on_another_host() {
                super::$scenario(Setting::new(Door::BuiltIn, Place::PeerHost)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn as_a_process_with_the_actor_on_the_same_host() {
                super::$scenario(Setting::new(Door::Process, Place::SameHost)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn as_a_process_with_the_actor_on_another_host() {
                super::$scenario(Setting::new(Door::Process, Place::PeerHost)).await;
            }
        })*
    };
}
pub(crate) use over_all_settings;
