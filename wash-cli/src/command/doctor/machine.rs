//! This machine: keys, directories, the server's program, ports.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use trellis_nats_server::{PATH_VARIABLE, VERSION_MIN, cache_dir, explicit_path, find};

use super::finding::{Findings, State};
use crate::command::transfer;
use crate::environment::{self, Environment};
use crate::exit::chain;
use crate::keys::{KeyStore, KeyStoreError};
use crate::local_nats::greets;
use crate::settings::Settings;
use crate::state_dir::{StateDir, StateDirError};

/// Less room than this on a disk is said: JetStream stops writing, and downloads fail.
const DISK_BYTES_MIN: u64 = 512 * 1024 * 1024;

/// Port of an http-server that nobody gave an address.
const HTTP_PORT: u16 = 8000;

/// Port of a NATS server that nobody gave one.
const NATS_PORT: u16 = crate::cli::NATS_PORT_DEFAULT;

pub(super) fn keys(environment: &mut Environment, findings: &mut Findings) {
    const DIRECTORY: &str = "keys.directory";
    const ACCOUNT: &str = "keys.account";
    let store = match KeyStore::of(environment) {
        Ok(store) => store,
        Err(error) => {
            return findings.broken(
                DIRECTORY,
                chain(&error),
                format!("export {}=/an/absolute/path", environment::KEYS_DIR.name),
            );
        }
    };
    let directory = store.directory().display();
    match store.list() {
        Ok(keys) => findings.ok(
            DIRECTORY,
            match keys.len() {
                0 => format!("{directory}: no key yet; the first use makes what it needs"),
                1 => format!("{directory}: 1 key, readable for you alone"),
                count => format!("{directory}: {count} keys, readable for you alone"),
            },
        ),
        Err(error) => findings.broken(DIRECTORY, chain(&error), key_fix(&error)),
    }
    match store.existing_account() {
        Ok(Some(account)) => {
            findings.ok(
                ACCOUNT,
                format!("{account} signs, and is trusted by `wash up`"),
            );
        }
        Ok(None) => findings.ok(
            ACCOUNT,
            "none yet; the first `wash build` or `wash up` makes it",
        ),
        Err(error) => findings.broken(ACCOUNT, chain(&error), key_fix(&error)),
    }
}

fn key_fix(error: &KeyStoreError) -> String {
    match error {
        KeyStoreError::Exposed { path, .. } => format!(
            "chmod 600 {}, if nobody has read it; else move it away and make another with `wash keys gen`",
            path.display()
        ),
        KeyStoreError::DirectoryExposed { path, .. } => format!("chmod 700 {}", path.display()),
        _ => "move the file away, or put the right seed into it".to_owned(),
    }
}

/// Looks at the directory of `wash up`. Says whether a host runs from it.
pub(super) fn state_directory(
    resolved: Result<StateDir, StateDirError>,
    findings: &mut Findings,
) -> bool {
    const CHECK: &str = "state.directory";
    let state_dir = match resolved {
        Ok(state_dir) => state_dir,
        Err(error) => {
            let fix = format!("export {}=/an/absolute/path", environment::STATE_DIR.name);
            findings.broken(CHECK, chain(&error), fix);
            return false;
        }
    };
    match state_dir.running() {
        Ok(running) => {
            let remark = running.as_ref().map_or_else(
                || "no host runs from it".to_owned(),
                |record| {
                    format!(
                        "host {} runs from it, process {}, lattice {}",
                        record.host_id, record.pid, record.lattice
                    )
                },
            );
            directory(CHECK, state_dir.path(), &remark, "--state-dir", findings);
            running.is_some()
        }
        Err(error) if state_dir.path().is_dir() => {
            let fix = "name another one with --state-dir, or make it yours with `chown`";
            findings.broken(CHECK, chain(&error), fix);
            false
        }
        Err(_) => {
            directory(CHECK, state_dir.path(), "", "--state-dir", findings);
            false
        }
    }
}

pub(super) fn artifact_cache(environment: &mut Environment, findings: &mut Findings) {
    const CHECK: &str = "artifacts.cache";
    match transfer::cache_dir(environment) {
        Some(path) => {
            let flag = environment::ARTIFACT_CACHE.name;
            directory(CHECK, &path, "pulled artifacts are kept there", flag, findings);
        }
        None => findings.broken(
            CHECK,
            "cannot tell where to keep artifacts: neither XDG_CACHE_HOME nor HOME is an absolute path",
            format!("export {}=/an/absolute/path", environment::ARTIFACT_CACHE.name),
        ),
    }
}

/// Whether a directory, or the nearest one above it that is there, can be written and has room.
fn directory(
    check: &'static str,
    path: &Path,
    remark: &str,
    named_by: &str,
    findings: &mut Findings,
) {
    let shown = path.display();
    let Some(there) = nearest(path) else {
        return findings.broken(
            check,
            format!("{shown}: nothing above it is there"),
            format!("name another one with {named_by}"),
        );
    };
    if !there.is_dir() {
        return findings.broken(
            check,
            format!("{shown}: {} is no directory", there.display()),
            format!("move the file away, or name another directory with {named_by}"),
        );
    }
    if let Err(error) = access(&there, Access::WRITE_OK | Access::EXEC_OK) {
        return findings.broken(
            check,
            format!("{shown}: you may not write to {}: {error}", there.display()),
            format!("make it yours with `chown`, or name another one with {named_by}"),
        );
    }
    let free = statvfs(&there).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match free {
        Ok(bytes) if bytes < DISK_BYTES_MIN => findings.push(
            if bytes == 0 {
                State::Broken
            } else {
                State::Warning
            },
            check,
            format!("{shown}: {} MiB are left on its disk", bytes >> 20),
            format!("make room, or name a directory on another disk with {named_by}"),
        ),
        _ => findings.ok(check, format!("{shown}: {remark}")),
    }
}

/// The path itself or the nearest one above it that is there.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|path| fs::symlink_metadata(path).is_ok())
        .map(Path::to_path_buf)
}

pub(super) fn nats_server(findings: &mut Findings) {
    const CHECK: &str = "nats-server.program";
    let cache = match cache_dir() {
        Ok(cache) => cache,
        Err(error) => {
            let fix = "set HOME or XDG_CACHE_HOME to an absolute path";
            return findings.warning(CHECK, chain(&error), fix);
        }
    };
    match find(explicit_path().as_deref(), &cache) {
        Ok(Some(server)) => findings.ok(
            CHECK,
            format!(
                "nats-server {} at {}, {}",
                server.version,
                server.path.display(),
                server.origin
            ),
        ),
        Ok(None) => findings.warning(
            CHECK,
            format!("no nats-server {VERSION_MIN} or newer is here; `wash up` would download one with pip"),
            format!("install nats-server {VERSION_MIN} or newer and put it on PATH, or name it with {PATH_VARIABLE}"),
        ),
        Err(error) => findings.broken(
            CHECK,
            chain(&error),
            format!("let {PATH_VARIABLE} name a nats-server {VERSION_MIN} or newer, or unset it"),
        ),
    }
}

pub(super) fn ports(settings: &Settings, host_runs_here: bool, findings: &mut Findings) {
    // Who named a server needs no port for one here.
    if !settings.urls_named {
        match taken(NATS_PORT) {
            false => findings.ok(
                "port.nats",
                format!("{NATS_PORT} is free for a NATS server"),
            ),
            true if greets(NATS_PORT) => {
                findings.ok("port.nats", format!("a NATS server listens on {NATS_PORT}"));
            }
            true => findings.broken(
                "port.nats",
                format!("something else than a NATS server listens on {NATS_PORT}"),
                "choose another port with `wash up --nats-port`, or name a server with --nats-url",
            ),
        }
    }
    match (taken(HTTP_PORT), host_runs_here) {
        (false, _) => findings.ok(
            "port.http",
            format!("{HTTP_PORT} is free for the http-server"),
        ),
        (true, true) => findings.ok(
            "port.http",
            format!("{HTTP_PORT} is in use, perhaps by the host that runs here"),
        ),
        (true, false) => findings.warning(
            "port.http",
            format!("{HTTP_PORT} is in use, where an http-server listens unless its link says otherwise"),
            "give the link another address: `wash config put <NAME> address=127.0.0.1:8080`, and `--source-config <NAME>`",
        ),
    }
}

fn taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}
