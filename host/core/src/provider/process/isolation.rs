//! As whom and with what a provider process runs (D19).
//!
//! It has descriptor 3 and what the system gives to everybody. It has no capabilities, whoever it runs as. It gets an
//! environment of a few harmless names, a temporary directory of its own, the root directory to stand in, a process group
//! of its own, and no way to new privileges. Where memory runs out, the kernel is to end it before its host. From the
//! host's files (its key, its state, its credentials) it is kept in one of two ways:
//!
//! - A host that is root runs it as another user, where that user can reach the program.
//! - Else Landlock, where the kernel has it: everything may be read but the host's own paths, nothing written but the
//!   temporary directory, nobody outside signalled.
//!
//! Where neither is possible that is said in the log at each start. The host's own memory is closed in any case: from the
//! first provider process on the host is not dumpable, so that nobody but root can trace it or read its environment.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use rustix::process::DumpableBehavior;

use super::program::Program;
use super::temporary::{Temporary, sweep_once};

/// The only names of the host's environment that a provider sees. None of the host's own settings is among them, and none
/// that usually holds a secret.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The user where nobody chose one.
const USER_DEFAULT: &str = "nobody";

/// Where the system keeps its users.
const USERS: &str = "/etc/passwd";

/// Directories that are opened for reading one by one, at most. What is beyond stays closed.
const RULES_MAX: usize = 16 * 1024;

/// Devices that programs may write to, and lose nothing by it.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];

/// What a host's operator decides about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct IsolationOptions {
    /// The user as whom providers run: a name, a number, or two with a colon between.
    pub(crate) user: Option<String>,
    /// What they must not read.
    pub(crate) private_paths: Vec<PathBuf>,
}

/// A user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What one process is started with.
#[derive(Debug)]
pub(super) struct Confinement {
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) user: Option<User>,
    pub(super) landlock: Option<RulesetCreated>,
}

/// A confinement, and what has to outlive the process.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) confinement: Confinement,
    pub(super) temporary: Option<Temporary>,
    /// For the log: how it is kept from the host's files.
    pub(super) means: Means,
}

/// How a process is kept from the host's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Means {
    User(User),
    Landlock,
    /// It is not.
    None(String),
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {}:{}", user.uid, user.gid),
            Self::Landlock => f.write_str("landlock"),
            Self::None(reason) => write!(f, "none: {reason}"),
        }
    }
}

/// Decides how a program is confined. Blocks: it walks directories.
pub(super) fn prepare(program: &Program, options: &IsolationOptions) -> Prepared {
    hide_host();
    let user = other_user(program, options);
    let temporary = temporary_directory(user.as_ref().ok().copied());
    let mut environment: Vec<_> = ENVIRONMENT
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    if let Some(temporary) = &temporary {
        environment.push(("TMPDIR".into(), temporary.path().into()));
    }
    let (landlock, means) = match &user {
        Ok(user) => (None, Means::User(*user)),
        Err(why_not) => {
            let writable = temporary.as_ref().map(Temporary::path);
            match rules(program.path(), &options.private_paths, writable) {
                Ok(rules) => (Some(rules), Means::Landlock),
                Err(error) => (
                    None,
                    Means::None(format!("{why_not}, and Landlock cannot be used: {error}")),
                ),
            }
        }
    };
    Prepared {
        confinement: Confinement {
            environment,
            user: user.ok(),
            landlock,
        },
        temporary,
        means,
    }
}

/// Closes this process's memory and environment to others, once.
fn hide_host() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "provider processes of the same user could trace this host");
        }
    });
}

/// The user to change to, or why that is not possible.
fn other_user(program: &Program, options: &IsolationOptions) -> Result<User, String> {
    let name = options.user.as_deref().unwrap_or(USER_DEFAULT);
    if !rustix::process::geteuid().is_root() {
        return Err("the host is not root, so it cannot change the user".to_owned());
    }
    let user = find_user(name)
        .map_err(|error| format!("the users of this system cannot be read: {error}"))?
        .ok_or_else(|| format!("this system has no user `{name}`"))?;
    if user.uid == 0 {
        return Err(format!("the user `{name}` is root"));
    }
    if !can_reach(program.path(), user) {
        return Err(format!(
            "the user `{name}` cannot reach {}",
            program.path().display()
        ));
    }
    Ok(user)
}

fn find_user(name: &str) -> io::Result<Option<User>> {
    let (first, second) = name.split_once(':').unwrap_or((name, name));
    if let (Ok(uid), Ok(gid)) = (first.parse(), second.parse()) {
        return Ok(Some(User { uid, gid }));
    }
    let users = std::fs::read_to_string(USERS)?;
    Ok(users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    }))
}

/// Whether a user can read and execute a file, and pass every directory above it, by their modes.
fn can_reach(path: &Path, user: User) -> bool {
    const READ: u32 = 4;
    const EXECUTE: u32 = 1;
    let may = |path: &Path, wanted: u32| {
        path.metadata()
            .is_ok_and(|metadata| permissions(&metadata, user) & wanted == wanted)
    };
    may(path, READ | EXECUTE) && path.ancestors().skip(1).all(|above| may(above, EXECUTE))
}

fn permissions(metadata: &Metadata, user: User) -> u32 {
    let shift = if metadata.uid() == user.uid {
        6
    } else if metadata.gid() == user.gid {
        3
    } else {
        0
    };
    metadata.mode() >> shift & 0o7
}

/// A directory of the process's own.
fn temporary_directory(user: Option<User>) -> Option<Temporary> {
    sweep_once(user);
    match Temporary::make(user) {
        Ok(directory) => Some(directory),
        Err(error) => {
            tracing::warn!(%error, "a provider process gets no temporary directory of its own");
            None
        }
    }
}

/// The rules for a process of the host's own user.
fn rules(
    program: &Path,
    private_paths: &[PathBuf],
    writable: Option<&Path>,
) -> Result<RulesetCreated, RulesetError> {
    // With the first version of Landlock the host's files are safe already; what later ones know is taken where it is.
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::Signal)?
        .create()?
        .set_compatibility(CompatLevel::BestEffort);
    let read = AccessFs::from_read(ABI::V1);
    let private: Vec<_> = private_paths
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let mut readable = Vec::new();
    open_around(Path::new("/"), &private, &mut readable);
    readable.push(program.to_owned());
    rules
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(ABI::V5)))?
        .add_rules(path_beneath_rules(
            DEVICES,
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))
}

/// Everything beneath a directory but what is private, in as few paths as possible: Landlock knows what is allowed and
/// nothing that is not.
fn open_around(directory: &Path, private: &[PathBuf], readable: &mut Vec<PathBuf>) {
    let Ok(entries) = directory.read_dir() else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        // A rule for a link would open what it leads to. That has a rule of its own, if it may have one.
        let is_link = entry.file_type().map_or(true, |kind| kind.is_symlink());
        if is_link || private.contains(&path) || readable.len() >= RULES_MAX {
            continue;
        }
        if private.iter().any(|private| private.starts_with(&path)) {
            open_around(&path, private, readable);
        } else {
            readable.push(path);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn everything_but_what_is_private_is_opened_and_no_link_leads_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["a", "b/state/aot", "b/other", "c"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("b/key"), "secret").unwrap();
        std::os::unix::fs::symlink(root.join("b/state"), root.join("link")).unwrap();
        let private = [root.join("b/state"), root.join("b/key")];
        let mut readable = Vec::new();
        open_around(&root, &private, &mut readable);
        readable.sort();
        assert_eq!(
            readable,
            [root.join("a"), root.join("b/other"), root.join("c")]
        );
    }

    #[test]
    fn a_user_is_a_name_a_number_or_two() {
        assert_eq!(find_user("root").unwrap(), Some(User { uid: 0, gid: 0 }));
        assert_eq!(find_user("7").unwrap(), Some(User { uid: 7, gid: 7 }));
        assert_eq!(find_user("7:9").unwrap(), Some(User { uid: 7, gid: 9 }));
        assert_eq!(find_user("no such user").unwrap(), None);
    }

    #[test]
    fn a_program_below_a_closed_directory_is_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = User {
            uid: 12_345,
            gid: 12_345,
        };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(can_reach(&path, stranger));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!can_reach(&path, stranger));
    }
}
