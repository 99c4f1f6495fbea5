//! What serves a link: its configuration, and its bucket once that was opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_provider_sdk::{Link, LinkError};

use crate::bucket::Bucket;
use crate::config::{Defaults, LinkConfig};

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: Arc<LinkConfig>,
    /// The bucket, once it was opened: opening it again then costs nothing.
    opened: Mutex<Option<Bucket>>,
}

impl Served {
    /// Reads what a link leads to.
    pub(crate) fn read(link: &Link, defaults: &Defaults) -> Result<Arc<Self>, LinkError> {
        Ok(Arc::new(Self {
            config: Arc::new(LinkConfig::read(&link.config, defaults)?),
            opened: Mutex::default(),
        }))
    }

    /// The bucket, where it was opened before.
    pub(crate) fn opened(&self) -> Option<Bucket> {
        self.lock().clone()
    }

    /// Keeps the bucket for the next time.
    pub(crate) fn keep(&self, bucket: &Bucket) {
        *self.lock() = Some(bucket.clone());
    }

    /// Forgets the bucket: it may have gone, or moved.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bucket>> {
        // Every change under this lock is a single assignment.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
