//! `wash up`: a host on this machine, with a NATS server if there is none.
//!
//! In the foreground the host runs in this process until Ctrl-C or until it is told to stop. `--detached` starts the
//! server so that it stays, runs this program again as a *daemon* in a session of its own, waits until that host answers,
//! and returns. The daemon learns the server's URL by its environment, since it may hold a password.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setsid;
use trellis_claims::host::MAY_RUN_ANY;
use trellis_claims::{
    HostCertificate, NewHostCertificate, SigningKey, TrustRoots, UnixTime, Validity,
};
use trellis_host::args::unfit_directory;
use trellis_host::logging::{self, LogFormat};
use trellis_host::{Drained, HostError, HostOptions, Shutdown};
use trellis_lattice::connection::{CONNECT_TIMEOUT_DEFAULT, LatticeOptions, ServerUrl};
use trellis_protocol::control::HostInventory;

use crate::cli::{Global, Up};
use crate::connection::Lattice;
use crate::environment::{self, Environment};
use crate::exit::{Failure, FailureKind, chain};
use crate::keys::KeyStore;
use crate::local_nats::{self, Lifetime};
use crate::output::{self, Format, Report, printable};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::{Claim, Record, StateDir, start_ticks};

/// How long the certificate of a host is valid. It is made anew at each start.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a starting host is looked at.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long one question to a starting host may take.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// How long the process waits for threads that still compile or write.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

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
    if settings.urls_named && !args.daemon {
        // Said here, a wrong address costs a moment; the host would try for longer.
        super::ask(Lattice::connect(settings))?;
    }
    if let Some(reason) = args.provider_dir.as_deref().and_then(unfit_directory) {
        return Err(Failure::local(format!("--provider-dir: {reason}")));
    }
    let account = KeyStore::of(environment)?.account()?;
    let trust = trust(&account, &args.trust, environment)?;
    if args.detached {
        return detach(args, settings, &state_dir);
    }
    let claim = state_dir.claim()?;
    let (nats, settings) =
        local_nats::ensure(settings, &state_dir, args.nats_port, Lifetime::Ours)?;
    let served = host_options(args, &settings, &state_dir, trust, &account).and_then(|options| {
        // Nobody reads a daemon's stdout; its parent tells.
        let told = (!args.daemon).then_some(global.output);
        let record = record_of(&options, &settings, !nats.is_ours(&state_dir)?);
        serve(options, &claim, &record, &settings, &state_dir, told)
    });
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
        let read: TrustRoots = text
            .parse()
            .map_err(|error| Failure::local(format!("cannot trust {origin}: {}", chain(&error))))?;
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
    let key = trellis_host::load_or_create_host_key(state_dir.path())
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
    let nats = LatticeOptions {
        name: "trellis-host".to_owned(),
        // A host starts beside its server, and is more patient than a person.
        connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        ..settings.lattice_options()
    };
    let providers = trellis_host::built_in(&nats);
    let mut options = HostOptions::new(nats, state_dir.path(), key);
    options.friendly_name.clone_from(&args.friendly_name);
    options.labels = args.label.iter().cloned().collect();
    options.trust = trust;
    options.certificate = Some(certificate);
    options.allow_file = args.allow_file_load;
    options.provider_factories = providers;
    options.provider_dir.clone_from(&args.provider_dir);
    options.provider_user.clone_from(&args.provider_user);
    options.restore = !args.clean;
    Ok(options)
}

/// Who runs the host: this process.
fn record_of(options: &HostOptions, settings: &Settings, nats_joined: bool) -> Record {
    let pid = std::process::id();
    Record {
        pid,
        start_ticks: start_ticks(pid),
        host_id: options.host_key.public().to_string(),
        lattice: settings.lattice.to_string(),
        nats_url: settings.servers(),
        nats_joined,
    }
}

/// Runs the host until it is told to stop. Once it serves that is `told`, if anybody is there to be told.
fn serve(
    options: HostOptions,
    claim: &Claim,
    record: &Record,
    settings: &Settings,
    state_dir: &StateDir,
    told: Option<Format>,
) -> Result<(), Failure> {
    claim.record(record)?;
    logging::init(LogFormat::Human);
    let drain = options.shutdown_timeout;
    let runtime = trellis_host::runtime::build()
        .map_err(|error| Failure::local(format!("cannot start the host's runtime: {error}")))?;
    let served = runtime.block_on(async {
        trellis_host::serve(options, Shutdown::on_signals(), |host| {
            let Some(format) = told else { return };
            let report = ready(host.friendly_name(), record, settings, state_dir)
                .aside("note: Ctrl-C stops the host");
            if let Some(aside) = report.render_aside(format) {
                output::note(aside);
            }
            // A closed stdout is no reason to stop a host.
            let _ = output::write_stdout(&report.render(format));
        })
        .await
    });
    runtime.shutdown_timeout(THREADS_END_MAX);
    match served {
        Ok(Drained::InTime) => Ok(()),
        Ok(Drained::Late) => Err(Failure::new(
            FailureKind::TimedOut,
            format!(
                "the host has stopped, but work was still in flight after {} s and was cut off",
                drain.as_secs()
            ),
        )),
        Err(error @ HostError::Connect(_)) => {
            Err(Failure::new(FailureKind::Unreachable, chain(&error)))
        }
        Err(error) => Err(Failure::local_error(&error)),
    }
}

/// Asks the host for its inventory until it gives it. Whoever calls this has a deadline, or needs none.
async fn wait_until_it_answers(settings: &Settings, host_id: &str) -> HostInventory {
    loop {
        if let Ok(lattice) = Lattice::connect(settings).await {
            let client = lattice.client().clone().with_timeout(ASK_WITHIN);
            loop {
                if let Ok(inventory) = client.inventory(host_id).await {
                    return inventory;
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// What is said once the host answers.
fn ready(
    friendly_name: &str,
    record: &Record,
    settings: &Settings,
    state_dir: &StateDir,
) -> Report {
    let mut text = format!(
        "host {} ({}) runs in lattice {} at {}\n",
        record.host_id,
        printable(friendly_name),
        record.lattice,
        record.nats_url
    );
    if settings.urls != [ServerUrl::local()] {
        text.push_str(&format!(
            "for other commands: export {}={}\n",
            environment::NATS_URL.name,
            record.nats_url
        ));
    }
    Report::new(text)
        .with("host_id", &record.host_id)
        .with("lattice", &record.lattice)
        .with("nats_url", &record.nats_url)
        .with("pid", record.pid)
        .with("state_dir", state_dir.path())
}

/// Starts a server and a host that stay, and returns when the host answers. Nothing stays if it does not.
fn detach(args: &Up, settings: &Settings, state_dir: &StateDir) -> Result<Report, Failure> {
    state_dir.make()?;
    let (nats, settings) =
        local_nats::ensure(settings, state_dir, args.nats_port, Lifetime::Detached)?;
    match start_daemon(args, &settings, state_dir) {
        Ok(report) => Ok(report),
        Err(failure) => {
            if let Err(also) = nats.stop() {
                output::note(&format!("note: {also}"));
            }
            Err(failure)
        }
    }
}

fn start_daemon(args: &Up, settings: &Settings, state_dir: &StateDir) -> Result<Report, Failure> {
    let mut child = spawn_daemon(args, settings, state_dir)?;
    let progress = Progress::start("waiting for the host");
    let waited = wait_for_daemon(&mut child, args, settings, state_dir);
    drop(progress);
    waited.inspect_err(|_| {
        // It may have ended by itself, and then there is nothing left to do.
        let _ = child.kill();
        let _ = child.wait();
    })
}

fn spawn_daemon(args: &Up, settings: &Settings, state_dir: &StateDir) -> Result<Child, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::local(format!("cannot run wash again as a daemon: {error}"))
    };
    let log = state_dir.create_log()?;
    let mut command = Command::new(env::current_exe().map_err(cannot)?);
    command
        .args(["up", "--daemon", "--state-dir"])
        .arg(state_dir.path())
        .args(["--lattice", settings.lattice.as_str()])
        .args([
            "--allow-file-load",
            if args.allow_file_load {
                "true"
            } else {
                "false"
            },
        ]);
    if let Some(creds) = &settings.creds {
        command.arg("--creds").arg(creds);
    }
    if let Some(name) = &args.friendly_name {
        command.args(["--friendly-name", name]);
    }
    for (key, value) in &args.label {
        command.arg("--label").arg(format!("{key}={value}"));
    }
    if args.clean {
        command.arg("--clean");
    }
    if let Some(directory) = &args.provider_dir {
        command.arg("--provider-dir").arg(directory);
    }
    if let Some(user) = &args.provider_user {
        command.args(["--provider-user", user]);
    }
    for file in &args.trust {
        command.arg("--trust").arg(file);
    }
    command
        .env(environment::NATS_URL.name, settings.url_text())
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        .spawn()
        .map_err(cannot)
}

fn wait_for_daemon(
    child: &mut Child,
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
) -> Result<Report, Failure> {
    let deadline = Instant::now() + settings.outcome_timeout();
    let record = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| Failure::local(format!("cannot wait for the host: {error}")))?
        {
            return Err(Failure::local(format!(
                "the host ended with {status} before it answered; {}",
                state_dir.log_tail()
            )));
        }
        match state_dir.running()? {
            Some(record) if record.pid == child.id() => break record,
            _ if Instant::now() >= deadline => return Err(not_ready(settings, state_dir)),
            _ => thread::sleep(POLL_EVERY),
        }
    };
    let inventory = super::ask(async {
        let answering = wait_until_it_answers(settings, &record.host_id);
        tokio::pin!(answering);
        loop {
            tokio::select! {
                inventory = &mut answering => return Ok(inventory),
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure::local(format!(
                    "the host ended with {status} before it answered; {}",
                    state_dir.log_tail()
                )));
            }
            if Instant::now() >= deadline {
                return Err(not_ready(settings, state_dir));
            }
        }
    })?;
    let log = state_dir.log_path();
    Ok(
        ready(&inventory.friendly_name, &record, settings, state_dir)
            .aside(format!(
                "note: it logs to {}; `wash down{}` stops it",
                log.display(),
                args.state_dir
                    .as_ref()
                    .map_or_else(String::new, |dir| format!(" --state-dir {}", dir.display()))
            ))
            .with("log", &log),
    )
}

fn not_ready(settings: &Settings, state_dir: &StateDir) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!(
            "the host did not answer within {} ms and was stopped; {}",
            settings.outcome_timeout().as_millis(),
            state_dir.log_tail()
        ),
    )
}
