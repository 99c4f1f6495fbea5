//! `wash up`: a host on this machine, with a NATS server if there is none.
//!
//! In the foreground the host runs in this process until Ctrl-C or until it is told to stop. `--detached` starts the
//! server so that it stays, and has this program run again as a *daemon* ([`daemon`]). `--multi-local` starts one more host
//! beside those that run: each has a directory of its own, all share one server, and who ends last ends that too.

pub(crate) mod daemon;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::setsid;
use trellis_claims::host::MAY_RUN_ANY;
use trellis_claims::{
    HostCertificate, KeyKind, NewHostCertificate, SigningKey, TrustRoots, UnixTime, Validity,
};
use trellis_host::args::{read_trust, unfit_directory, unfit_user};
use trellis_host::logging::{self, LogFormat};
use trellis_host::serve::ServeError;
use trellis_host::{Drained, HostError, HostOptions, Shutdown};
use trellis_lattice::connection::{
    self, CONNECT_TIMEOUT_DEFAULT, ConnectError, LatticeOptions, ServerUrl,
};
use trellis_protocol::LatticeName;

use crate::cli::{Global, Up};
use crate::connection::Lattice;
use crate::environment::{self, Environment};
use crate::exit::{Failure, FailureKind, chain};
use crate::keys::KeyStore;
use crate::local_nats::{self, Lifetime, LocalNats};
use crate::output::{self, Format, Report, printable};
use crate::progress::Progress;
use crate::seed;
use crate::settings::Settings;
use crate::state_dir::{Claim, Record, StateDir, start_ticks};

/// How long the certificate of a host is valid. It is made anew at each start.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a server that joins others is asked whether it has.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// How long the process waits for threads that still compile or write.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

/// What the seed of a cluster key of wasmCloud 1.x begins with. There it signs invocations; here it has no use.
const CLUSTER_SEED_PREFIX: &str = "SC";
/// What such a key begins with.
const CLUSTER_KEY_PREFIX: char = 'C';

/// Length of a public key, in characters.
const PUBLIC_KEY_CHARS: usize = 56;

pub(super) fn run(
    args: &Up,
    global: &Global,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let order = environment.order().cloned();
    if order.is_some() {
        // We are no leader of a process group, as our parent left us in its own, so this cannot fail; and if it did, the
        // host would only hear the terminal's signals.
        let _ = setsid();
    }
    let root = StateDir::resolve(args.state_dir.as_deref(), environment)?;
    let state_dir = match &order {
        Some(order) => StateDir::with_nats_dir(order.state_dir.clone(), order.nats_dir.clone()),
        None if args.multi_local => root.beside(args.friendly_name.as_deref())?,
        None => root.clone(),
    };
    state_dir.check_free()?;
    if settings.urls_named && !settings.urls_yield_to(&args.nats) && order.is_none() {
        // Said here, a wrong address costs a moment; the host would try for longer.
        super::ask(async { Lattice::connect(settings).await.map(drop) })?;
    }
    if let Some(reason) = args.provider_dir.as_deref().and_then(unfit_directory) {
        return Err(Failure::local(format!("--provider-dir: {reason}")));
    }
    if let Some(reason) = args.provider_user.as_deref().and_then(unfit_user) {
        return Err(Failure::local(format!("--provider-user: {reason}")));
    }
    let account = account(args, environment)?;
    let trust = trust(&account, &args.trust, environment)?;
    let host_key = seed::flag_or_variable(
        args.host_seed.as_deref(),
        "--host-seed",
        environment::HOST_SEED,
        KeyKind::Host,
        environment,
    )?;
    let labels = labels(args, environment);
    check_groups(args, settings, &state_dir)?;
    if args.detached && order.is_none() {
        return daemon::detach(args, settings, &state_dir, environment);
    }
    let claim = state_dir.claim()?;
    let (nats, settings) = match &order {
        Some(order) => (LocalNats::Joined, settings.at(&order.nats_url)?),
        None => {
            let lifetime = if args.multi_local {
                Lifetime::Detached
            } else {
                Lifetime::Ours
            };
            local_nats::ensure(settings, &state_dir, &args.nats, lifetime)?
        }
    };
    let given = Given {
        host_key,
        labels,
        trust,
        account,
    };
    for note in environment.take_notes() {
        output::note(&note);
    }
    // The daemon's parent has checked it.
    let checked = match &order {
        Some(_) => Ok(()),
        None => check_server(args, &nats, &settings),
    };
    let served = checked
        .and_then(|()| host_options(args, &settings, &state_dir, given))
        .and_then(|options| {
            // Nobody reads a daemon's stdout; its parent tells.
            let told = order.is_none().then_some(global.output);
            let record = record_of(&options, &settings, !nats.is_ours(&state_dir)?);
            serve(args, options, &claim, &record, &settings, &state_dir, told)
        });
    drop(claim);
    let stopped = if args.multi_local && order.is_none() {
        stop_as_the_last(&root)
    } else {
        nats.stop()
    };
    served.and(stopped)?;
    Ok(Report::silent())
}

/// Stops the server that several hosts share, where none of them is left.
fn stop_as_the_last(root: &StateDir) -> Result<(), Failure> {
    for state_dir in root.all()? {
        if state_dir.in_use()? {
            return Ok(());
        }
    }
    match local_nats::find_left(root)? {
        Some(server) => LocalNats::Detached(server).stop(),
        None => Ok(()),
    }
}

/// The account that certifies the host: the one that is named, else the developer's own.
fn account(args: &Up, environment: &mut Environment) -> Result<SigningKey, Failure> {
    let named = args.cluster_seed.as_deref();
    let of_variable = environment.text(environment::CLUSTER_SEED);
    if named.is_none()
        && of_variable.is_some_and(|seed| seed.trim().starts_with(CLUSTER_SEED_PREFIX))
    {
        environment.tell(format!(
            "note: {} holds a cluster key of wasmCloud 1.x, for which there is no use here: your account key certifies the host",
            environment::CLUSTER_SEED.name
        ));
        return Ok(KeyStore::of(environment)?.account()?);
    }
    match seed::flag_or_variable(
        named,
        "--cluster-seed",
        environment::CLUSTER_SEED,
        KeyKind::Account,
        environment,
    )? {
        Some(account) => Ok(account),
        None => Ok(KeyStore::of(environment)?.account()?),
    }
}

/// Whom the host believes: the account that certifies it, and whoever is named.
fn trust(
    account: &SigningKey,
    named: &[String],
    environment: &mut Environment,
) -> Result<TrustRoots, Failure> {
    let mut roots = TrustRoots::default();
    roots
        .insert(account.public().clone())
        .map_err(|error| Failure::local_error(&error))?;
    for text in named {
        read_trust(text.trim(), &mut roots)
            .map_err(|reason| Failure::local(format!("cannot trust {text}: {reason}")))?;
    }
    let Some(text) = environment.text(environment::TRUST) else {
        return Ok(roots);
    };
    let name = environment::TRUST.name;
    for part in text.split([',', '\n']) {
        // A comment follows a key, as in a file.
        let part = part.split('#').next().unwrap_or_default().trim();
        if part.is_empty() {
            continue;
        }
        if part.starts_with(CLUSTER_KEY_PREFIX) && part.len() == PUBLIC_KEY_CHARS {
            environment.tell(format!(
                "note: {name} names a cluster key of wasmCloud 1.x, for which there is no use here: hosts trust accounts and operators"
            ));
            continue;
        }
        read_trust(part, &mut roots)
            .map_err(|reason| Failure::local(format!("cannot trust {name}: {reason}")))?;
    }
    Ok(roots)
}

/// What was read before anything was started, so that a mistake in it starts nothing.
struct Given {
    host_key: Option<SigningKey>,
    labels: BTreeMap<String, String>,
    trust: TrustRoots,
    account: SigningKey,
}

/// Labels by flag or variable. Ours win over those of older variables.
fn labels(args: &Up, environment: &mut Environment) -> BTreeMap<String, String> {
    environment
        .older_labels()
        .into_iter()
        .chain(args.label.iter().cloned())
        .collect()
}

/// Tells every mistake in the groups of flags, on options that nothing is made of.
fn check_groups(args: &Up, settings: &Settings, state_dir: &StateDir) -> Result<(), Failure> {
    let key = Arc::new(SigningKey::generate(KeyKind::Host));
    let mut scratch = HostOptions::new(settings.lattice_options(), state_dir.path(), key);
    apply_groups(args, &mut scratch)?;
    let mut mistakes = Vec::new();
    // Telemetry is the process's own; it is read again once there is something to tell.
    drop(
        args.telemetry
            .options(&mut |mistake| mistakes.push(mistake)),
    );
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Failure::usage(mistakes.join("\n"))),
    }
}

fn apply_groups(args: &Up, options: &mut HostOptions) -> Result<(), Failure> {
    let mut mistakes = Vec::new();
    let mut mistake = |mistake| mistakes.push(mistake);
    args.artifacts.apply(options, &mut mistake);
    args.control.apply(options, &mut mistake);
    args.signatures.apply(options, &mut mistake);
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(Failure::usage(mistakes.join("\n")))
    }
}

/// Asks a server whether it will do, before a host tries for longer: one that was there already, and one that was started
/// to join others, which takes it a while.
fn check_server(args: &Up, nats: &LocalNats, settings: &Settings) -> Result<(), Failure> {
    if matches!(nats, LocalNats::Joined) {
        return super::ask(async { Lattice::connect(settings).await.map(drop) });
    }
    if args.nats.nats_remote_url.is_none() && args.nats.nats_cluster.is_none() {
        return Ok(());
    }
    let progress = Progress::start("waiting until nats-server has joined the others");
    let joined = super::ask_on(wait_for_jetstream(settings));
    drop(progress);
    joined
}

/// Waits until JetStream answers, wherever it is.
async fn wait_for_jetstream(settings: &Settings) -> Result<(), Failure> {
    let deadline = Instant::now() + settings.outcome_timeout();
    loop {
        match connection::connect(&settings.lattice_options()).await {
            Ok(connection) => {
                connection.close().await;
                return Ok(());
            }
            Err(ConnectError::NoJetStream { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(POLL_EVERY).await;
            }
            Err(error) => {
                return Err(Failure::new(
                    FailureKind::Unreachable,
                    format!(
                        "the nats-server that was started has not joined the others: {}; see nats-server.log beside its data, and check --nats-remote-url, --nats-route and --js-domain",
                        chain(&error)
                    ),
                ));
            }
        }
    }
}

fn host_options(
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
    given: Given,
) -> Result<HostOptions, Failure> {
    let key = match given.host_key {
        Some(key) => Arc::new(key),
        None => trellis_host::load_or_create_host_key(state_dir.path())
            .map_err(|error| Failure::local_error(&error))?,
    };
    let now = UnixTime::now();
    let certificate = NewHostCertificate {
        subject: key.public().clone(),
        lattice: settings.lattice.to_string(),
        may_run: vec![MAY_RUN_ANY.to_owned()],
        validity: Validity::starting(now, CERTIFICATE_LIFETIME),
    };
    let certificate = HostCertificate::issue(&certificate, &given.account, now)
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
    options.labels = given.labels;
    options.trust = given.trust;
    options.certificate = Some(certificate);
    options.provider_factories = providers;
    options.provider_dir.clone_from(&args.provider_dir);
    options.provider_user.clone_from(&args.provider_user);
    options.restore = !args.clean;
    options.shutdown_timeout = Duration::from_secs(args.shutdown_timeout);
    options
        .private_paths
        .extend(args.host_seed.iter().map(Into::into));
    apply_groups(args, &mut options)?;
    options.artifacts.allow_file |= args.allow_file_load;
    if let Some(prefix) = &settings.control_prefix {
        options.nats.control_prefix.clone_from(prefix);
    }
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
        friendly_name: options.friendly_name.clone(),
    }
}

/// Runs the host until it is told to stop. Once it serves that is `told`, if anybody is there to be told.
fn serve(
    args: &Up,
    options: HostOptions,
    claim: &Claim,
    record: &Record,
    settings: &Settings,
    state_dir: &StateDir,
    told: Option<Format>,
) -> Result<(), Failure> {
    claim.record(record)?;
    let format = if args.enable_structured_logging {
        LogFormat::Json
    } else {
        args.telemetry.log_format.unwrap_or(LogFormat::Human)
    };
    logging::init_at(format, args.log_level);
    let telemetry = args.telemetry.options(&mut |_| ());
    let drain = options.shutdown_timeout;
    let runtime = trellis_host::runtime::build()
        .map_err(|error| Failure::local(format!("cannot start the host's runtime: {error}")))?;
    let served = runtime.block_on(async {
        trellis_host::serve(options, &telemetry, Shutdown::on_signals(), |host| {
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
        Err(error @ ServeError::Host(HostError::Connect(_))) => {
            Err(Failure::new(FailureKind::Unreachable, chain(&error)))
        }
        Err(error) => Err(Failure::local_error(&error)),
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
    let mut exports = String::new();
    if settings.urls != [ServerUrl::local()] {
        exports.push_str(&format!(
            " {}={}",
            environment::NATS_URL.name,
            record.nats_url
        ));
    }
    if settings.lattice != LatticeName::default() {
        exports.push_str(&format!(
            " {}={}",
            environment::LATTICE.name,
            record.lattice
        ));
    }
    if let Some(domain) = &settings.js_domain {
        exports.push_str(&format!(" {}={domain}", environment::JS_DOMAIN.name));
    }
    if !exports.is_empty() {
        text.push_str(&format!("for other commands: export{exports}\n"));
    }
    Report::new(text)
        .with("host_id", &record.host_id)
        .with("lattice", &record.lattice)
        .with("nats_url", &record.nats_url)
        .with("pid", record.pid)
        .with("state_dir", state_dir.path())
}
