//! Which signed commands have been carried out, for those that any host of the lattice may take.
//!
//! A command to one host is remembered by that host. One about a link or a configuration goes to whichever host of a
//! queue group the server chooses, so whoever recorded it could have it carried out a second time by another host. Its
//! id is therefore taken in a bucket of the lattice, `SIGNED_<lattice>`, where a key can be created once. Ids vanish by
//! themselves when the commands have long expired.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{self, CreateErrorKind, Store};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use trellis_claims::command::COMMAND_LIFETIME_MAX;
use trellis_claims::token::CLOCK_TOLERANCE;

use crate::connection::{Connection, JETSTREAM_TIMEOUT};

/// How long an id is kept: as long as its command can be valid for anybody's clock, and a minute.
pub const KEPT_FOR: Duration = COMMAND_LIFETIME_MAX
    .saturating_add(CLOCK_TOLERANCE)
    .saturating_add(CLOCK_TOLERANCE)
    .saturating_add(Duration::from_secs(60));

/// Largest size of the bucket, in bytes. Only commands that hold are written, of a hundred-odd bytes each.
const BUCKET_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Replicas in a cluster, as of the lattice's state.
const REPLICAS_IN_CLUSTER: usize = 3;

/// Nobody can tell whether a command has been carried out.
#[derive(Debug, thiserror::Error)]
#[error(
    "the lattice's list of commands that were carried out, `{bucket}`, cannot be written: {reason}"
)]
pub struct LedgerError {
    bucket: String,
    reason: String,
}

/// The ids of a lattice. The bucket is opened, or made, when the first command comes.
#[derive(Debug)]
pub struct CommandLedger {
    context: Context,
    bucket: String,
    store: OnceCell<Store>,
}

impl CommandLedger {
    /// The ledger of the connection's lattice.
    pub fn new(connection: &Connection) -> Self {
        Self {
            context: connection.jetstream.clone(),
            bucket: format!("SIGNED_{}", connection.lattice()),
            store: OnceCell::new(),
        }
    }

    /// Takes an id, which must be a key of a bucket. Says whether nobody had taken it before.
    ///
    /// # Errors
    /// [`LedgerError`] where JetStream refuses, or does not answer in time; then the id may be taken all the same.
    pub async fn take(&self, id: &str) -> Result<bool, LedgerError> {
        let taking = async {
            let store = self.store.get_or_try_init(|| self.open()).await?;
            match store.create(id, "1".into()).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.to_string()),
            }
        };
        match timeout(JETSTREAM_TIMEOUT, taking).await {
            Ok(Ok(is_first)) => Ok(is_first),
            Ok(Err(reason)) => Err(self.failed(reason)),
            Err(_) => Err(self.failed("JetStream did not answer in time".to_owned())),
        }
    }

    /// Several hosts may do so at once: who comes second opens what the first has made.
    async fn open(&self) -> Result<Store, String> {
        if let Ok(store) = self.context.get_key_value(&self.bucket).await {
            return Ok(store);
        }
        let clustered = self.context.client().server_info().cluster.is_some();
        let config = |num_replicas| kv::Config {
            bucket: self.bucket.clone(),
            description: "Signed commands of a Trellis lattice that were carried out".to_owned(),
            history: 1,
            max_age: KEPT_FOR,
            max_bytes: BUCKET_BYTES_MAX,
            num_replicas,
            ..kv::Config::default()
        };
        let replicas = if clustered { REPLICAS_IN_CLUSTER } else { 1 };
        if let Ok(store) = self.context.create_key_value(config(replicas)).await {
            return Ok(store);
        }
        match self.context.create_key_value(config(1)).await {
            Ok(store) => Ok(store),
            Err(error) => match self.context.get_key_value(&self.bucket).await {
                Ok(store) => Ok(store),
                Err(_) => Err(error.to_string()),
            },
        }
    }

    fn failed(&self, reason: String) -> LedgerError {
        LedgerError {
            bucket: self.bucket.clone(),
            reason,
        }
    }
}
