//! Decides which `nats-server` is used.
//!
//! The order is: one named explicitly, our own cache, the first on `PATH` that is new enough, a fetched one. An
//! explicit one is never second-guessed: too old or broken is an error, since silently taking another would hide the
//! user's mistake. One on `PATH` is nobody's choice (Debian 12 carries 2.9), so an old one there is skipped.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::fetch::{FetchError, cached_path, fetch};
use crate::probe::{ProbeError, version_of};
use crate::version::{VERSION_MIN, Version};

/// Environment variable that names the executable to use, for whoever has no flag to name it with.
pub const PATH_VARIABLE: &str = "TRELLIS_NATS_SERVER";

/// Most executables on `PATH` that are asked for their version.
const CANDIDATES_MAX: usize = 16;

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// The executable.
    pub path: PathBuf,
    /// What it says it is; at least [`VERSION_MIN`].
    pub version: Version,
    /// How it was found.
    pub origin: Origin,
}

/// How a server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Named by the caller.
    Explicit,
    /// In our cache, from an earlier fetch.
    Cache,
    /// On `PATH`.
    Path,
    /// Fetched just now.
    Fetched,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "named explicitly",
            Self::Cache => "from the cache",
            Self::Path => "from PATH",
            Self::Fetched => "fetched just now",
        })
    }
}

/// No usable server was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The one named explicitly does not work.
    #[error("the nats-server named explicitly does not work; {VERSION_MIN} or newer is needed")]
    Explicit(#[source] ProbeError),
    /// The one named explicitly is too old.
    #[error("{} is nats-server {found}, but {VERSION_MIN} or newer is needed", path.display())]
    ExplicitTooOld {
        /// The executable named.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
    /// None is there and none could be fetched.
    #[error(
        "no nats-server {VERSION_MIN} or newer was found{}, and none could be fetched: install nats-server \
         {VERSION_MIN} or newer and put it on PATH, or name it with {PATH_VARIABLE}",
        Skipped::list(skipped)
    )]
    NotFound {
        /// What was found on `PATH` and not taken.
        skipped: Vec<Skipped>,
        /// Why the fetch failed.
        #[source]
        source: FetchError,
    },
}

/// An executable on `PATH` that was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum Skipped {
    /// It is older than [`VERSION_MIN`].
    TooOld {
        /// The executable.
        path: PathBuf,
        /// Its version.
        found: Version,
    },
    /// It could not be asked.
    Broken(ProbeError),
}

impl Skipped {
    fn list(skipped: &[Self]) -> String {
        if skipped.is_empty() {
            return String::new();
        }
        let all: Vec<_> = skipped.iter().map(ToString::to_string).collect();
        format!(" (passed over: {})", all.join("; "))
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld { path, found } => write!(f, "{} is {found}", path.display()),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

/// The executable that [`PATH_VARIABLE`] names, to be handed to [`locate`]; empty counts as unset.
pub fn explicit_path() -> Option<PathBuf> {
    env::var_os(PATH_VARIABLE)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Finds a server, fetching one into `cache_dir` where the machine has none that is new enough.
///
/// Blocks: a few tens of milliseconds where one is there, up to minutes where it is downloaded. May be called by many
/// processes at once; one of them downloads and the others wait for it.
///
/// # Errors
///
/// [`LocateError::Explicit`] and [`LocateError::ExplicitTooOld`] about `explicit`; [`LocateError::NotFound`] where
/// nothing is there and nothing could be fetched.
pub fn locate(explicit: Option<&Path>, cache_dir: &Path) -> Result<NatsServer, LocateError> {
    let search_path = env::var_os("PATH").unwrap_or_default();
    locate_with(explicit, cache_dir, &search_path, fetch)
}

/// Finds a server as [`locate`] does, but downloads none: `None` where it would have to.
///
/// Blocks for a few tens of milliseconds.
///
/// # Errors
///
/// [`LocateError::Explicit`] and [`LocateError::ExplicitTooOld`] about `explicit`.
pub fn find(explicit: Option<&Path>, cache_dir: &Path) -> Result<Option<NatsServer>, LocateError> {
    let search_path = env::var_os("PATH").unwrap_or_default();
    let not_tried = |_: &Path| {
        Err(FetchError::Download {
            why: "not tried".to_owned(),
        })
    };
    match locate_with(explicit, cache_dir, &search_path, not_tried) {
        Ok(server) => Ok(Some(server)),
        Err(LocateError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn locate_with(
    explicit: Option<&Path>,
    cache_dir: &Path,
    search_path: &OsStr,
    fetch: impl Fn(&Path) -> Result<(PathBuf, Version), FetchError>,
) -> Result<NatsServer, LocateError> {
    if let Some(path) = explicit {
        return named(path);
    }
    let cached = cached_path(cache_dir);
    // A cached one that is missing or broken is no error: it is fetched again below.
    if let Ok(version) = version_of(&cached)
        && version >= VERSION_MIN
    {
        return Ok(NatsServer {
            path: cached,
            version,
            origin: Origin::Cache,
        });
    }
    let mut skipped = Vec::new();
    for path in candidates(search_path) {
        match version_of(&path) {
            Ok(version) if version >= VERSION_MIN => {
                return Ok(NatsServer {
                    path,
                    version,
                    origin: Origin::Path,
                });
            }
            Ok(found) => skipped.push(Skipped::TooOld { path, found }),
            Err(error) => skipped.push(Skipped::Broken(error)),
        }
    }
    match fetch(cache_dir) {
        Ok((path, version)) => Ok(NatsServer {
            path,
            version,
            origin: Origin::Fetched,
        }),
        Err(source) => Err(LocateError::NotFound { skipped, source }),
    }
}

fn named(path: &Path) -> Result<NatsServer, LocateError> {
    let version = version_of(path).map_err(LocateError::Explicit)?;
    if version < VERSION_MIN {
        return Err(LocateError::ExplicitTooOld {
            path: path.to_path_buf(),
            found: version,
        });
    }
    Ok(NatsServer {
        path: path.to_path_buf(),
        version,
        origin: Origin::Explicit,
    })
}

/// Files called `nats-server` in the directories of a search path; relative directories are not trusted.
fn candidates(search_path: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(search_path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("nats-server"))
        .filter(|path| path.is_file())
        .take(CANDIDATES_MAX)
}

#[cfg(test)]
mod tests;
