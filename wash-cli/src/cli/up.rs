//! A host on this machine, and its NATS server: `wash up`, `wash down`, `wash drain`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use trellis_host::args::{ArtifactArgs, ControlArgs, SignatureArgs, TelemetryArgs};
use trellis_host::logging::LogLevel;

use super::key_value;

/// Port of the nats-server that `wash up` starts.
pub const NATS_PORT_DEFAULT: u16 = 4222;

/// `wash up`.
#[derive(Debug, Clone, Args)]
// Here files are allowed unless `--allow-file-load` says otherwise, and that name is no alias of a flag that allows them.
#[command(mut_arg("allow_file", |flag| flag.alias(None).env(None).hide(true)))]
pub struct Up {
    /// Return as soon as the host answers, and leave it running
    #[arg(long, short = 'd', alias = "detach")]
    pub detached: bool,
    /// Start one more host beside those that run here, with the same NATS server
    #[arg(long, env = "TRELLIS_MULTI_LOCAL")]
    pub multi_local: bool,
    /// Where this host keeps its key, its log and its NATS server's data [env: TRELLIS_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Name of the host, for people
    #[arg(
        long,
        alias = "name",
        env = "TRELLIS_HOST_NAME",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub friendly_name: Option<String>,
    /// Label of the host, by which placement chooses; may be repeated
    #[arg(long, short = 'l', alias = "labels", env = "TRELLIS_LABELS", hide_env_values = true, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = key_value)]
    pub label: Vec<(String, String)>,
    /// The host's own key: a file with its seed, or `env:VARIABLE` [env: TRELLIS_HOST_SEED] [default: host.nk in the state directory]
    #[arg(long, value_name = "FILE")]
    pub host_seed: Option<String>,
    /// The account that certifies the host: a file with its seed, or `env:VARIABLE` [env: TRELLIS_CLUSTER_SEED] [default: your account key]
    #[arg(long, alias = "account", value_name = "FILE")]
    pub cluster_seed: Option<String>,
    /// Account or operator to trust beside that account: a public key, or a file with such keys; may be repeated [env: TRELLIS_TRUST]
    #[arg(
        long,
        alias = "cluster-issuers",
        value_name = "KEY|FILE",
        value_delimiter = ','
    )]
    pub trust: Vec<String>,
    /// Whether the host may load components from its own files
    #[arg(
        long,
        env = "TRELLIS_ALLOW_FILE_LOAD",
        hide_env_values = true,
        value_name = "BOOL",
        num_args = 0..=1,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub allow_file_load: bool,
    /// Directory of programs that can be started as providers by name: `<name>` or `trellis-<name>`
    #[arg(
        long,
        env = "TRELLIS_PROVIDER_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub provider_dir: Option<PathBuf>,
    /// User as whom provider processes run, where the host is root: a name, a number, or UID:GID [default: nobody]
    #[arg(
        long,
        env = "TRELLIS_PROVIDER_USER",
        hide_env_values = true,
        value_name = "USER"
    )]
    pub provider_user: Option<String>,
    /// Forget what the host ran before, instead of running it again
    #[arg(long, env = "TRELLIS_CLEAN")]
    pub clean: bool,
    /// Seconds for work in flight when the host stops
    #[arg(long, env = "TRELLIS_SHUTDOWN_TIMEOUT", hide_env_values = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub shutdown_timeout: u64,
    /// How much the host logs [default: what TRELLIS_LOG says, else info]
    #[arg(
        long,
        alias = "structured-log-level",
        env = "TRELLIS_LOG_LEVEL",
        hide_env_values = true,
        value_enum,
        value_name = "LEVEL"
    )]
    pub log_level: Option<LogLevel>,
    /// As `--log-format json`
    #[arg(
        long,
        env = "TRELLIS_STRUCTURED_LOGGING",
        conflicts_with = "log_format",
        hide_short_help = true
    )]
    pub enable_structured_logging: bool,
    /// The NATS server.
    #[command(flatten)]
    pub nats: NatsFlags,
    /// Where components and providers may come from.
    #[command(flatten)]
    pub artifacts: ArtifactArgs,
    /// How the host takes commands.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What has to be signed.
    #[command(flatten)]
    pub signatures: SignatureArgs,
    /// What the host's process tells of itself.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Set by `--detached` when it runs itself again.
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// The NATS server that `wash up` joins or starts.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "NATS server")]
pub struct NatsFlags {
    /// Address of the NATS server: one that runs there is joined, else one is started that listens there [default: 127.0.0.1]
    #[arg(
        long,
        env = "TRELLIS_NATS_HOST",
        hide_env_values = true,
        value_name = "HOST"
    )]
    pub nats_host: Option<String>,
    /// Port of the NATS server, joined or started; 0 starts one on any [default: 4222]
    #[arg(
        long,
        env = "TRELLIS_NATS_PORT",
        hide_env_values = true,
        value_name = "PORT"
    )]
    pub nats_port: Option<u16>,
    /// Start no NATS server: fail where none answers
    #[arg(
        long,
        env = "TRELLIS_NATS_CONNECT_ONLY",
        conflicts_with_all = ["nats_remote_url", "nats_route"]
    )]
    pub nats_connect_only: bool,
    /// The nats-server to start [env: TRELLIS_NATS_SERVER] [default: one on PATH, else one that is downloaded]
    #[arg(long, value_name = "FILE")]
    pub nats_server: Option<PathBuf>,
    /// Lines for the started server's configuration, which win over those that are made here
    #[arg(
        long,
        env = "TRELLIS_NATS_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub nats_config_file: Option<PathBuf>,
    /// Make the started server a leaf of the one at this URL
    #[arg(
        long,
        env = "TRELLIS_NATS_REMOTE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub nats_remote_url: Option<String>,
    /// Credentials file by which the started leaf joins its remote
    #[arg(
        long,
        env = "TRELLIS_NATS_CREDSFILE",
        hide_env_values = true,
        value_name = "FILE",
        requires = "nats_remote_url"
    )]
    pub nats_credsfile: Option<PathBuf>,
    /// JetStream domain of the started server [default: `hub` with --nats-leaf-port, else none]. A leaf without one has no JetStream, and uses that of --js-domain
    #[arg(
        long,
        env = "TRELLIS_NATS_JS_DOMAIN",
        hide_env_values = true,
        value_name = "DOMAIN"
    )]
    pub nats_js_domain: Option<String>,
    /// Port on which the started server takes leaves, at the address of --nats-host
    #[arg(
        long,
        env = "TRELLIS_NATS_LEAF_PORT",
        hide_env_values = true,
        value_name = "PORT"
    )]
    pub nats_leaf_port: Option<u16>,
    /// Port on which the started server takes WebSocket connections, at the address of --nats-host, without TLS
    #[arg(
        long,
        env = "TRELLIS_NATS_WEBSOCKET_PORT",
        hide_env_values = true,
        value_name = "PORT"
    )]
    pub nats_websocket_port: Option<u16>,
    /// Name of the cluster that the started server is a member of
    #[arg(
        long,
        env = "TRELLIS_NATS_CLUSTER",
        hide_env_values = true,
        value_name = "NAME",
        requires = "nats_cluster_port",
        requires = "nats_server_name"
    )]
    pub nats_cluster: Option<String>,
    /// Port on which it takes the cluster's other members, at the address of --nats-host
    #[arg(
        long,
        env = "TRELLIS_NATS_CLUSTER_PORT",
        hide_env_values = true,
        value_name = "PORT",
        requires = "nats_cluster"
    )]
    pub nats_cluster_port: Option<u16>,
    /// Another member of the cluster, as `nats://HOST:PORT` of its cluster port; may be repeated
    #[arg(
        long,
        env = "TRELLIS_NATS_ROUTES",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ',',
        requires = "nats_cluster"
    )]
    pub nats_route: Vec<String>,
    /// Name of the started server. Members of one cluster need different ones, and keep them [default: trellis, of a leaf one by chance]
    #[arg(
        long,
        env = "TRELLIS_NATS_SERVER_NAME",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub nats_server_name: Option<String>,
}

impl NatsFlags {
    /// The address to listen on: that of the flag where it is one, else this machine alone.
    #[must_use]
    pub fn listen_address(&self) -> Option<IpAddr> {
        match self.nats_host.as_deref() {
            None | Some("localhost") => Some(std::net::Ipv4Addr::LOCALHOST.into()),
            Some(host) => host.trim_matches(['[', ']']).parse().ok(),
        }
    }

    /// The port to join or to start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.nats_port.unwrap_or(NATS_PORT_DEFAULT)
    }
}

/// What `wash down --purge-jetstream` deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PurgeJetstream {
    /// Nothing
    #[default]
    None,
    /// The state of the lattice, and what application managers keep
    All,
    /// The state of the lattice: links, configurations, claims, artifacts
    #[value(alias = "wasmcloud")]
    Lattice,
    /// What application managers keep: all manifests, of every lattice
    Wadm,
}

/// `wash down`.
#[derive(Debug, Clone, Args)]
pub struct Down {
    /// The state directory that `wash up` was given [env: TRELLIS_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The host to stop, by its id or friendly name, where several run here
    #[arg(long, value_name = "HOST", conflicts_with = "all")]
    pub host_id: Option<String>,
    /// Stop every host that `wash up --multi-local` started here
    #[arg(long)]
    pub all: bool,
    /// Delete what JetStream keeps, once the hosts have stopped
    #[arg(
        long,
        alias = "flush-jetstream",
        value_enum,
        value_name = "WHAT",
        default_value = "none",
        num_args = 0..=1,
        default_missing_value = "lattice"
    )]
    pub purge_jetstream: PurgeJetstream,
}

/// `wash drain`.
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// What to empty
    #[command(subcommand)]
    pub what: Drained,
    /// The state directory that `wash up` was given [env: TRELLIS_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What `wash drain` empties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Drained {
    /// Every cache below
    All,
    /// Artifacts from registries and from lattices
    Oci,
    /// Compiled components, and executables taken from provider archives
    Lib,
    /// Downloaded nats-servers
    Downloads,
}
