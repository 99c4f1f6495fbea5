//! Which links are believed: those that a trusted account has signed, and said nothing later about.
//!
//! Links stand in a bucket that many can write, so each host judges each link by itself: the token must hold now, for
//! this lattice, and for every field of the link. Whoever kept a link that was deleted, or replaced by a narrower one,
//! could write it back, correctly signed. Against that a host remembers, for each link, when it was last put, and for
//! each source, name and package, when such links were last deleted, by *signed* statements alone; whatever was signed
//! before that is not believed any more. What it remembers only grows. It is kept in the state directory
//! (`links.seen`, mode 0600), written a moment later, so that it outlives the host.
//!
//! What a host has never seen it cannot know: one that was not there when a link was deleted learns of the deletion from
//! the state, where the signed statement stands in the link's place, unless somebody has removed that too.

mod seen;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trellis_claims::token::CLOCK_TOLERANCE;
use trellis_claims::{LinkClaims, LinkStatement, LinkToken, TokenError, TrustRoots, UnixTime};
use trellis_lattice::state::{Believed, LinkBelief, StoredLink};
use trellis_protocol::control::{SignedDeletion, SignedLink};
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Link};

use super::{Refusal, is_of_a_stranger};
use crate::atomic_file::write_atomically;
use seen::Seen;

/// Tokens whose verdict is kept, so that neither an unchanged link nor a forged one is verified again and again.
const VERDICTS_MAX: usize = 64 * 1024;

/// Links that are remembered as told of, so that each is told of once.
const TOLD_MAX: usize = 4 * 1024;

/// The file's name in the state directory.
const FILE_NAME: &str = "links.seen";

/// Time in which changes are gathered before the file is written.
const WRITE_AFTER: Duration = Duration::from_millis(200);

/// Who is believed about links, and what was said last.
#[derive(Debug)]
pub(crate) struct LinkTrust {
    lattice: String,
    trust: Arc<TrustRoots>,
    required: bool,
    path: PathBuf,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// By the hash of the token.
    verdicts: HashMap<[u8; 32], Result<Arc<LinkClaims>, TokenError>>,
    told: HashSet<[u8; 32]>,
    seen: Seen,
}

impl LinkTrust {
    pub(super) fn open(
        state_dir: &Path,
        lattice: &str,
        trust: Arc<TrustRoots>,
        required: bool,
    ) -> Self {
        let path = state_dir.join(FILE_NAME);
        let seen = Seen::read(&path).unwrap_or_else(|reason| {
            tracing::error!(
                path = %path.display(), reason,
                "cannot read what was signed about links before: one that was deleted could be put back"
            );
            Seen::default()
        });
        Self {
            lattice: lattice.to_owned(),
            trust,
            required,
            path,
            known: Mutex::new(Known {
                seen,
                ..Known::default()
            }),
            changed: Notify::new(),
        }
    }

    /// Writes what has been seen, whenever that has changed, and once more at the end.
    pub(crate) async fn keep(self: Arc<Self>, cancel: CancellationToken) {
        // What was learned before this began is written too.
        let mut written = Seen::default();
        self.write(&mut written).await;
        while cancel
            .run_until_cancelled(self.changed.notified())
            .await
            .is_some()
        {
            cancel
                .run_until_cancelled(tokio::time::sleep(WRITE_AFTER))
                .await;
            self.write(&mut written).await;
        }
        self.write(&mut written).await;
    }

    async fn write(&self, written: &mut Seen) {
        let seen = self.lock().seen.clone();
        if seen == *written {
            return;
        }
        let path = self.path.clone();
        let bytes = seen.to_bytes();
        let writing = tokio::task::spawn_blocking(move || write_atomically(&path, &bytes));
        match writing.await {
            Ok(Ok(())) => *written = seen,
            Ok(Err(error)) => tracing::warn!(
                path = %self.path.display(), %error,
                "cannot note what was signed about links; until this host is started again it remembers all the same"
            ),
            Err(error) => tracing::error!(%error, "noting what was signed about links failed"),
        }
    }

    /// Judges a link that is to be put.
    pub(crate) fn check_put(&self, signed: &SignedLink) -> Result<(), Refusal> {
        let Some(token) = signed.signature() else {
            return self.check_unsigned("link");
        };
        let mut known = self.lock();
        let Some(claims) = self.of_somebody_known(&mut known, token)? else {
            return Ok(());
        };
        if claims.statement != signed.link.statement() {
            return Err(Refusal::mismatch(
                "the link's own signature is for another link, or for its deletion",
            ));
        }
        if known.seen.supersedes(&signed.link, claims.at_ms) {
            return Err(Refusal::superseded());
        }
        Ok(())
    }

    /// Judges a deletion.
    pub(crate) fn check_deletion(&self, signed: &SignedDeletion) -> Result<(), Refusal> {
        let Some(token) = signed.signature() else {
            return self.check_unsigned("deletion");
        };
        let mut known = self.lock();
        let Some(claims) = self.of_somebody_known(&mut known, token)? else {
            return Ok(());
        };
        if claims.statement != signed.key.deletion() {
            return Err(Refusal::mismatch(
                "the deletion's own signature is for other links, or for putting one",
            ));
        }
        if known.seen.was_put_after(&signed.key, claims.at_ms) {
            return Err(Refusal::superseded());
        }
        Ok(())
    }

    /// What a token says; `None` for that of a stranger, which is as good as none where none is required.
    fn of_somebody_known(
        &self,
        known: &mut Known,
        token: &str,
    ) -> Result<Option<Arc<LinkClaims>>, TokenError> {
        match self.verified(known, token, UnixTime::now()) {
            Err(error) if !self.required && is_of_a_stranger(&error) => Ok(None),
            verified => verified.map(Some),
        }
    }

    fn check_unsigned(&self, what: &str) -> Result<(), Refusal> {
        if self.required {
            Err(Refusal::unsigned(what))
        } else {
            Ok(())
        }
    }

    /// Whether a stored link is signed, and nothing later is known about it.
    pub(crate) fn is_signed(&self, stored: &StoredLink) -> bool {
        self.stands(&stored.link, stored.signature.as_deref())
            .is_some()
    }

    /// What a token says, if it holds now. Verifying costs a signature the first time.
    fn verified(
        &self,
        known: &mut Known,
        token: &str,
        now: UnixTime,
    ) -> Result<Arc<LinkClaims>, TokenError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(verdict) = known.verdicts.get(&hash) {
            let claims = verdict.clone()?;
            claims.check_time(now)?;
            return Ok(claims);
        }
        let verdict = LinkToken::verify(token, &self.lattice, &self.trust, now).map(Arc::new);
        let depends_on_time = matches!(
            verdict,
            Err(TokenError::Expired { .. }
                | TokenError::NotYetValid { .. }
                | TokenError::BrokenChain { .. })
        );
        if !depends_on_time {
            if known.verdicts.len() >= VERDICTS_MAX {
                known.verdicts.clear();
            }
            known.verdicts.insert(hash, verdict.clone());
        }
        verdict
    }

    /// When a stored link was signed, whatever is known to be later.
    fn signed_at(
        &self,
        known: &mut Known,
        link: &Link,
        signature: Option<&str>,
        now: UnixTime,
    ) -> Result<Arc<LinkClaims>, Doubt> {
        let token = signature.ok_or(Doubt::Unsigned)?;
        let claims = self.verified(known, token, now)?;
        if claims.statement == link.statement() {
            Ok(claims)
        } else {
            Err(Doubt::Other)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once why a link takes no effect.
    fn tell(known: &mut Known, stored: &StoredLink, doubt: &Doubt) {
        let mut hash = Sha256::new();
        if let LinkStatement::Put { fields } = stored.link.statement() {
            hash.update(fields);
        }
        hash.update(stored.signature.as_deref().unwrap_or_default());
        if known.told.len() >= TOLD_MAX {
            known.told.clear();
        }
        if known.told.insert(hash.finalize().into()) {
            tracing::warn!(
                source_id = %stored.source_id,
                target = %stored.target,
                link = %stored.name,
                package = format_args!("{}:{}", stored.wit_namespace, stored.wit_package),
                reason = %doubt,
                "a link in the lattice's state takes no effect on this host; `wash link put` signs it"
            );
        }
    }
}

/// Why a link takes no effect.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature is for another link, or for its deletion")]
    Other,
    #[error("something was signed about it later")]
    Superseded,
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl LinkBelief for LinkTrust {
    fn judge(&self, source: &EntityId, links: &[StoredLink], deletions: &[Arc<str>]) -> Believed {
        let now = UnixTime::now();
        let mut known = self.lock();
        let known = &mut *known;
        let mut is_news = false;
        for token in deletions {
            if let Ok(claims) = self.verified(known, token, now)
                && let Some(key) = deleted_key(&claims.statement)
                && key.source_id == *source
            {
                is_news |= known.seen.see_deleted(key, claims.at_ms);
            }
        }
        let mut signed = Vec::with_capacity(links.len());
        for stored in links {
            let claims = self.signed_at(known, stored, stored.signature.as_deref(), now);
            if let Ok(claims) = &claims
                && !known.seen.supersedes(stored, claims.at_ms)
            {
                is_news |= known.seen.see_put(stored, claims.at_ms);
            }
            signed.push(claims);
        }
        // Only now is it known which of several for one link is the latest.
        let mut again_at = None;
        let mut again = |at: UnixTime| {
            again_at = Some(again_at.map_or(at, |known: UnixTime| known.min(at)));
        };
        let mut believed = Vec::with_capacity(links.len());
        for (stored, claims) in links.iter().zip(signed) {
            let claims = claims.and_then(|claims| {
                if known.seen.supersedes(stored, claims.at_ms) {
                    Err(Doubt::Superseded)
                } else {
                    Ok(claims)
                }
            });
            match &claims {
                Ok(claims) => {
                    let ends = claims.valid_until().saturating_add(CLOCK_TOLERANCE);
                    again(ends.saturating_add(Duration::from_secs(1)));
                }
                Err(doubt) => {
                    if let Doubt::Token(TokenError::NotYetValid { from }) = doubt {
                        again(from.saturating_sub(CLOCK_TOLERANCE));
                    }
                    Self::tell(known, stored, doubt);
                }
            }
            believed.push(claims.is_ok());
        }
        if is_news {
            known.seen.bound();
            self.changed.notify_one();
        }
        Believed {
            links: believed,
            again_at,
        }
    }

    fn stands(&self, link: &Link, signature: Option<&str>) -> Option<u64> {
        let mut known = self.lock();
        let claims = self
            .signed_at(&mut known, link, signature, UnixTime::now())
            .ok()?;
        (!known.seen.supersedes(link, claims.at_ms)).then_some(claims.at_ms)
    }
}

/// The links that a deletion is about.
fn deleted_key(statement: &LinkStatement) -> Option<LinkKey> {
    let LinkStatement::Delete {
        source,
        name,
        package,
    } = statement
    else {
        return None;
    };
    let (namespace, package) = package.split_once(':')?;
    Some(LinkKey {
        source_id: source.parse().ok()?,
        name: name.parse().ok()?,
        wit_namespace: namespace.to_owned(),
        wit_package: package.to_owned(),
    })
}

#[cfg(test)]
mod tests;
