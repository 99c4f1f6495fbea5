//! Links in the store: made, followed, counted.
//!
//! For each code the bucket has up to three keys: `link.<code>` is the URL, `claim.<code>` a counter that decides who
//! may write it, `clicks.<code>` a counter of clicks. Counters are touched by `increment` alone, even to be read (by
//! adding zero), because how a provider stores a number is its own affair.
//!
//! **Two URLs that want one code at the same time.** `wasi:keyvalue` has no compare-and-swap: whoever looks, sees
//! nothing and writes, may overwrite another who did the same a moment before, and the first client's link would lead
//! to the second one's page. So a writer claims first. The one whose `increment` of `claim.<code>` returns 1 is alone
//! in that, for good, and writes the link; it is never written again. Everybody else waits a moment for the link to
//! appear: if it is their URL, it is their code too; if not, or if nothing appears, they go on to the next attempt.
//!
//! What can go wrong is harmless. A writer that dies between claim and link leaves a code that nobody can use, and
//! later ones pass over it. A writer so slow that others stop waiting leaves one URL with two codes that both work.

use std::time::Duration;

use crate::code::{Code, CodeError};
use crate::url::HttpUrl;
use crate::world::{Bucket, CodeRefusal, StoreError, World};

/// Codes tried for one URL before giving up. Each costs up to four calls, so this also bounds the request's time.
pub(crate) const ATTEMPTS_MAX: u32 = 16;

/// How often to look whether another writer has finished.
const LOOKS_MAX: u32 = 5;

/// Time between two looks. Five of these are many times what a store in reach needs for one `set`.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Why an operation on links failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// The key-value store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The code maker refused.
    #[error("the code maker refused: {0}")]
    Refused(CodeRefusal),
    /// The code maker made something that can't be a code.
    #[error("the code maker made something that is no code")]
    NoCode,
    /// Every attempt met a code in use.
    #[error("{ATTEMPTS_MAX} codes were tried and all are taken")]
    NoFreeCode,
    /// The store holds something else than a URL.
    #[error("what is stored for the code `{0}` is no url")]
    Damaged(Code),
}

/// A code that stands for the wanted URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shortened {
    /// The code.
    pub(crate) code: Code,
    /// What the log calls the URL.
    pub(crate) fingerprint: Vec<u8>,
}

/// A link with its clicks so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Where the link leads.
    pub(crate) url: HttpUrl,
    /// How often it was followed.
    pub(crate) clicks: u64,
}

/// Finds the code of `url`, or makes one.
///
/// # Errors
///
/// Any [`LinkError`]; after one, nothing of the request is visible to clients.
pub(crate) fn shorten<W: World>(
    world: &W,
    url: &HttpUrl,
    length: Option<u8>,
) -> Result<Shortened, LinkError> {
    let bucket = world.open()?;
    for attempt in 0..ATTEMPTS_MAX {
        let made = world
            .make_code(url.as_str(), length, attempt)
            .map_err(LinkError::Refused)?;
        let code = match Code::parse(&made.text) {
            Ok(code) => code,
            Err(CodeError::Reserved) => continue,
            Err(CodeError::Shape) => return Err(LinkError::NoCode),
        };
        if take(world, &bucket, &code, url)? {
            return Ok(Shortened {
                code,
                fingerprint: made.fingerprint,
            });
        }
    }
    Err(LinkError::NoFreeCode)
}

/// Makes `code` stand for `url`. False: it stands for another one, or is about to.
fn take<W: World>(
    world: &W,
    bucket: &W::Bucket,
    code: &Code,
    url: &HttpUrl,
) -> Result<bool, StoreError> {
    let key = code.link_key();
    let ours = |value: Vec<u8>| value == url.as_str().as_bytes();
    if let Some(value) = bucket.get(&key)? {
        return Ok(ours(value));
    }
    if bucket.increment(&code.claim_key(), 1)? == 1 {
        bucket.set(&key, url.as_str().as_bytes())?;
        return Ok(true);
    }
    for _ in 0..LOOKS_MAX {
        if let Some(value) = bucket.get(&key)? {
            return Ok(ours(value));
        }
        world.pause(LOOK_INTERVAL);
    }
    Ok(false)
}

/// Where `code` leads, if anywhere.
///
/// # Errors
///
/// [`LinkError::Store`] and [`LinkError::Damaged`].
pub(crate) fn peek<W: World>(world: &W, code: &Code) -> Result<Option<HttpUrl>, LinkError> {
    look_up(&world.open()?, code)
}

/// Where `code` leads, if anywhere, and one more click. A click that can't be counted is an error: what the store
/// says and what visitors did stay the same.
///
/// # Errors
///
/// [`LinkError::Store`] and [`LinkError::Damaged`].
pub(crate) fn follow<W: World>(world: &W, code: &Code) -> Result<Option<HttpUrl>, LinkError> {
    let bucket = world.open()?;
    let Some(url) = look_up(&bucket, code)? else {
        return Ok(None);
    };
    bucket.increment(&code.clicks_key(), 1)?;
    Ok(Some(url))
}

/// Where `code` leads, if anywhere, and how often it was followed.
///
/// # Errors
///
/// [`LinkError::Store`] and [`LinkError::Damaged`].
pub(crate) fn stats<W: World>(world: &W, code: &Code) -> Result<Option<Stats>, LinkError> {
    let bucket = world.open()?;
    let Some(url) = look_up(&bucket, code)? else {
        return Ok(None);
    };
    let clicks = bucket.increment(&code.clicks_key(), 0)?;
    Ok(Some(Stats { url, clicks }))
}

/// Others may write to the same bucket, so what comes out is checked like what goes in.
fn look_up(bucket: &impl Bucket, code: &Code) -> Result<Option<HttpUrl>, LinkError> {
    let Some(value) = bucket.get(&code.link_key())? else {
        return Ok(None);
    };
    String::from_utf8(value)
        .ok()
        .and_then(|text| HttpUrl::parse(&text).ok())
        .map(Some)
        .ok_or_else(|| LinkError::Damaged(code.clone()))
}

#[cfg(test)]
mod tests;
