//! `wash up`: a host on this machine, with a NATS server if there is none.
//!
//! In the foreground the host runs in this process until Ctrl-C or until it is told to stop. `--detached` starts the
//! server so that it stays, runs this program again as a *daemon* in a session of its own, waits until that host answers,
//! and returns. The daemon learns the server's URL by its environment, since it may hold a password.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::setsid;
use trellis_claims::host::MAY_RUN_ANY;
use trellis_claims::{HostCertificate, NewHostCertificate, SigningKey, TrustRoots, UnixTime, Validity};
use trellis_host::HostOptions;
use trellis_lattice::connection::LatticeOptions;
use trellis_protocol::control::HostInventory;

use crate::cli::{Global, Up};
use crate::connection::Lattice;
use crate::environment::{self, Environment};
use crate::exit::{Failure, FailureKind, chain};
use crate::keys::KeyStore;
use crate::local_nats::{self, Lifetime, LocalNats};
use crate::output::{self, Report};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::{Claim, Record, StateDir, start_ticks};

/// How long the certificate of a host is valid. It is made anew at each start.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a starting host is looked at.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long one question to a starting host may take.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// Largest file of trust roots that is read, in bytes.
const TRUST_FILE_BYTES_MAX: u64 = 256 * 1024;

pub(super) fn run(
    args: &Up,
    global: &Global,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    if args.daemon {
        // We are no leader of a process group, as our parent left us in its own, so this cannot fail; and if it did, the
        // host would only hear the terminal's signals.
        let _ = setsid();
    }
    let state_dir = StateDir::resolve(args.state_dir.as_deref(), environment)?;
    state_dir.check_free()?;
    let account = KeyStore::of(environment)?.account()?;
    let trust = trust(&account, &args.trust, environment)?;
    if args.detached {
        return detach(args, settings, &state_dir);
    }
    let claim = state_dir.claim()?;
    let (nats, settings) = local_nats::ensure(settings, &state_dir, args.nats_port, Lifetime::Ours)?;
    let options = host_options(args, &settings, &state_dir, trust, &account)?;
    let announcement = Announcement::of(global, args, &settings, &state_dir);
    let served = serve(options, claim, &settings, announcement);
    let stopped = nats.stop();
    served.and(stopped)?;
    Ok(Report::silent())
}

/// Whom the host believes: the developer's own account, and whoever they name.
fn trust(
    account: &SigningKey,
    files: &[std::path::PathBuf],
    environment: &mut Environment,
) -> Result<TrustRoots, Failure> {
    let mut texts = vec![("your account key".to_owned(), account.public().to_string())];
    if let Some(text) = environment.text(environment::TRUST) {
        texts.push((environment::TRUST.name.to_owned(), text));
    }
    for path in files {
        texts.push((path.display().to_string(), read_trust_file(path)?));
    }
    let mut roots = TrustRoots::default();
    for (origin, text) in texts {
        let read: TrustRoots = text.parse().map_err(|error| {
            Failure::local(format!("cannot trust {origin}: {}", chain(&error)))
        })?;
        for root in read.iter() {
            roots
                .insert(root.clone())
                .map_err(|error| Failure::local(format!("cannot trust {origin}: {error}")))?;
        }
    }
    Ok(roots)
}

fn read_trust_file(path: &Path) -> Result<String, Failure> {
    let failed = |fault: String| {
        Failure::local(format!(
            "cannot read the trust roots in {}: {fault}",
            path.display()
        ))
    };
    let bytes = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > TRUST_FILE_BYTES_MAX {
        return Err(failed(format!(
            "it has {bytes} bytes, at most {TRUST_FILE_BYTES_MAX} are accepted"
        )));
    }
    fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

fn host_options(
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
    trust: TrustRoots,
    account: &SigningKey,
) -> Result<HostOptions, Failure> {
    let mut options = HostOptions {
        lattice: settings.lattice.clone(),
        nats: LatticeOptions {
            name: "trellis-host".to_owned(),
            connect_timeout: LatticeOptions::default().connect_timeout,
            ..settings.lattice_options()
        },
        state_dir: state_dir.path().to_path_buf(),
        friendly_name: args.friendly_name.clone(),
        labels: args.label.iter().cloned().collect(),
        trust,
        host_key: None,
        certificate: None,
        allow_file: args.allow_file_load,
    };
    let key = options
        .host_key()
        .map_err(|error| Failure::local_error(&error))?;
    let now = UnixTime::now();
    let certificate = NewHostCertificate {
        subject: key.public().clone(),
        lattice: settings.lattice.to_string(),
        may_run: vec![MAY_RUN_ANY.to_owned()],
        validity: Validity::starting(now, CERTIFICATE_LIFETIME),
    };
    let certificate = HostCertificate::issue(&certificate, account, now)
        .map_err(|error| Failure::local_error(&error))?;
    options.host_key = Some(key);
    options.certificate = Some(certificate);
    Ok(options)
}
