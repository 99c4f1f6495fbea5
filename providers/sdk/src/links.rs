//! The links of actors that call a provider, by caller and name.
//!
//! What stands behind a link is the provider's own: its configuration, a connection, a pool.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, LinkName, Refusal, RefusalCode};

use crate::call::Call;
use crate::link::{Link, LinkError};

/// All links whose target a provider is, each with what serves it.
pub struct Links<T> {
    /// What messages call the provider.
    provider: &'static str,
    links: Mutex<HashMap<Id, Known<T>>>,
}

/// What a call says of its link.
type Id = (EntityId, LinkName);

#[derive(Debug)]
struct Known<T> {
    generation: u64,
    /// What is wrong with the link, if it cannot be served.
    served: Result<Arc<T>, LinkError>,
}

impl<T> Known<T> {
    /// Whether a generation that is put takes this one's place.
    fn gives_way_to(&self, generation: u64) -> bool {
        // A link that its backend refused may be put again: the backend may think otherwise by now.
        let refused = matches!(self.served, Err(LinkError::Backend { .. }));
        self.generation < generation || (refused && self.generation == generation)
    }
}

impl<T: fmt::Debug> fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lock().iter()).finish()
    }
}

impl<T> Links<T> {
    /// No links, of a provider that messages call so: `the key-value provider`.
    pub fn new(provider: &'static str) -> Self {
        Self {
            provider,
            links: Mutex::default(),
        }
    }

    /// Takes a link, or a later generation of one, and returns what serves it from now on; `None` where this generation
    /// or a later one is served already.
    ///
    /// `serve` makes it, at once and without a look at these links. It gets what has served a former generation, and may
    /// return it where the change is none for callers.
    ///
    /// # Errors
    /// What is wrong with the link: that of `serve`, or what was wrong when this generation was put before. Calls are
    /// refused with it.
    pub fn put(
        &self,
        link: &Link,
        serve: impl FnOnce(Option<&Arc<T>>) -> Result<Arc<T>, LinkError>,
    ) -> Result<Option<Arc<T>>, LinkError> {
        let id = id(&link.key);
        let mut links = self.lock();
        let former = links.get(&id);
        if let Some(known) = former
            && !known.gives_way_to(link.generation)
        {
            return known.served.as_ref().map(|_| None).map_err(Clone::clone);
        }
        let served = serve(former.and_then(|known| known.served.as_ref().ok()));
        let known = Known {
            generation: link.generation,
            served: served.clone(),
        };
        links.insert(id, known);
        served.map(Some)
    }

    /// Serves a link no longer, for a reason that was found after it was put. One that has changed since stays.
    pub fn refuse(&self, key: &LinkKey, served: &Arc<T>, error: &LinkError) {
        if let Some(known) = self.lock().get_mut(&id(key))
            && let Ok(now) = &known.served
            && Arc::ptr_eq(now, served)
        {
            known.served = Err(error.clone());
        }
    }

    /// Forgets a link.
    pub fn delete(&self, key: &LinkKey) {
        self.lock().remove(&id(key));
    }

    /// Forgets every link.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Shows what serves each link that is served.
    pub fn each(&self, mut look: impl FnMut(&T)) {
        for known in self.lock().values() {
            if let Ok(served) = &known.served {
                look(served);
            }
        }
    }

    /// What serves the link by which a call came.
    ///
    /// # Errors
    /// `no-link` where there is none; `provider-failed` where there is one that cannot be served.
    pub fn of(&self, call: &Call) -> Result<Arc<T>, Refusal> {
        let id = (call.source.clone(), call.link.clone());
        match self.lock().get(&id).map(|known| &known.served) {
            Some(Ok(served)) => Ok(Arc::clone(served)),
            Some(Err(error)) => Err(Refusal::new(
                RefusalCode::ProviderFailed,
                format!(
                    "the link `{}` of `{}` cannot be served: {error}",
                    call.link, call.source
                ),
            )
            .with_remedy("correct the link's configuration")),
            None => Err(Refusal::new(
                RefusalCode::NoLink,
                format!(
                    "{} has no link `{}` of `{}`",
                    self.provider, call.link, call.source
                ),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Known<T>>> {
        // Every change under this lock is a single assignment or call.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id(key: &LinkKey) -> Id {
    (key.source_id.clone(), key.name.clone())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::harness::Harness;

    fn link(generation: u64) -> Link {
        Link {
            generation,
            ..Harness::new("provider").link_from("app", "test:calls", &["one"], [])
        }
    }

    fn call(actor: &str) -> Call {
        Call::for_tests(actor, Duration::from_secs(1))
    }

    fn wrong() -> LinkError {
        LinkError::Config {
            key: "url".to_owned(),
            reason: "no URL".to_owned(),
        }
    }

    fn denied() -> LinkError {
        LinkError::Backend {
            reason: "denied".to_owned(),
        }
    }

    #[test]
    fn a_later_generation_takes_the_place_of_a_former_and_no_other_does() {
        let links = Links::<(u64, Option<u64>)>::new("the provider");
        let put = |generation| {
            links.put(&link(generation), |former| {
                Ok(Arc::new((generation, former.map(|former| former.0))))
            })
        };
        assert_eq!(put(2), Ok(Some(Arc::new((2, None)))));
        assert_eq!(put(2), Ok(None));
        assert_eq!(put(1), Ok(None));
        assert_eq!(*links.of(&call("app")).unwrap(), (2, None));
        assert_eq!(put(3), Ok(Some(Arc::new((3, Some(2))))));
        assert_eq!(*links.of(&call("app")).unwrap(), (3, Some(2)));
    }

    #[test]
    fn what_is_wrong_with_a_link_is_told_again_and_to_its_callers() {
        let links = Links::<u8>::new("the provider");
        assert_eq!(
            links.put(&link(1), |_| Ok(Arc::new(1))),
            Ok(Some(Arc::new(1)))
        );
        assert_eq!(links.put(&link(2), |_| Err(wrong())), Err(wrong()));
        assert_eq!(links.put(&link(2), |_| Ok(Arc::new(2))), Err(wrong()));
        let refusal = links.of(&call("app")).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        assert!(refusal.message.contains("`url`: no URL"), "{refusal}");
        // What was wrong before has no part in what comes after.
        let put = links.put(&link(3), |former| {
            assert_eq!(former, None);
            Ok(Arc::new(3))
        });
        assert_eq!(put, Ok(Some(Arc::new(3))));
    }

    #[test]
    fn a_link_that_its_backend_refused_may_be_put_again() {
        let links = Links::new("the provider");
        let served = links.put(&link(1), |_| Ok(Arc::new(1))).unwrap().unwrap();
        links.refuse(&link(1).key, &served, &denied());
        let refusal = links.of(&call("app")).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        assert_eq!(links.put(&link(1), |_| Err(denied())), Err(denied()));
        assert_eq!(
            links.put(&link(1), |_| Ok(Arc::new(2))),
            Ok(Some(Arc::new(2)))
        );
        // Too late: it is served by something else by now.
        links.refuse(&link(1).key, &served, &denied());
        assert_eq!(*links.of(&call("app")).unwrap(), 2);
    }

    #[test]
    fn a_link_serves_its_own_actor_until_it_is_deleted() {
        let links = Links::new("the provider");
        links.put(&link(1), |_| Ok(Arc::new(1))).unwrap();
        let refusal = links.of(&call("other")).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NoLink);
        let said = "the provider has no link `default` of `other`";
        assert!(refusal.message.contains(said), "{refusal}");
        let mut seen = Vec::new();
        links.each(|served| seen.push(*served));
        assert_eq!(seen, [1]);
        links.delete(&link(1).key);
        let refusal = links.of(&call("app")).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NoLink);
        // It may come again as it was.
        assert!(links.put(&link(1), |_| Ok(Arc::new(1))).unwrap().is_some());
        links.clear();
        assert!(links.of(&call("app")).is_err());
    }
}
