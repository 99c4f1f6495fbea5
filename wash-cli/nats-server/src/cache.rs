//! Where a fetched server is kept.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variable that names the cache directory outright.
pub const CACHE_DIR_VARIABLE: &str = "TRELLIS_CACHE_DIR";

/// Neither a cache directory nor a home directory is known from the environment.
#[derive(Debug, thiserror::Error)]
#[error("no cache directory: set {CACHE_DIR_VARIABLE}, XDG_CACHE_HOME or HOME to an absolute path")]
pub struct NoCacheDir;

/// The default cache directory of this user.
///
/// `$TRELLIS_CACHE_DIR`, else `$XDG_CACHE_HOME/trellis`, else `~/.cache/trellis`. It need not exist yet.
///
/// # Errors
///
/// [`NoCacheDir`] where none of the three variables is set. Relative paths are passed over, as the XDG base directory
/// specification asks.
pub fn cache_dir() -> Result<PathBuf, NoCacheDir> {
    cache_dir_from(|name| env::var_os(name))
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, NoCacheDir> {
    let path = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    path(CACHE_DIR_VARIABLE)
        .or_else(|| path("XDG_CACHE_HOME").map(|base| base.join("trellis")))
        .or_else(|| path("HOME").map(|home| home.join(".cache").join("trellis")))
        .ok_or(NoCacheDir)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_dir_from(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
        .ok()
    }

    #[test]
    fn our_own_variable_wins_then_xdg_then_home() {
        let all = [
            (CACHE_DIR_VARIABLE, "/ours"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HOME", "/home/ada"),
        ];
        assert_eq!(with(&all).as_deref(), Some(Path::new("/ours")));
        assert_eq!(with(&all[1..]).as_deref(), Some(Path::new("/xdg/trellis")));
        assert_eq!(
            with(&all[2..]).as_deref(),
            Some(Path::new("/home/ada/.cache/trellis"))
        );
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn a_relative_or_empty_path_is_passed_over() {
        assert_eq!(
            with(&[(CACHE_DIR_VARIABLE, ""), ("HOME", "/home/ada")]).as_deref(),
            Some(Path::new("/home/ada/.cache/trellis"))
        );
    }
}
