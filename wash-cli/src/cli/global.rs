//! Flags of every command: where the lattice is, as whom, how patient, and for whom the output is.

use std::path::PathBuf;

use clap::Args;
use trellis_protocol::LatticeName;

use crate::output::Format;

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Context that fills in what no flag says [env: TRELLIS_CONTEXT] [default: the one that `wash ctx default` chose]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// NATS servers of the lattice, with commas between [env: TRELLIS_NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Host of the NATS server, instead of its URL
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        conflicts_with = "nats_url",
        hide_short_help = true
    )]
    pub ctl_host: Option<String>,
    /// Port of the NATS server, instead of its URL
    #[arg(
        long,
        global = true,
        value_name = "PORT",
        conflicts_with = "nats_url",
        hide_short_help = true
    )]
    pub ctl_port: Option<u16>,
    /// Name of the lattice [env: TRELLIS_LATTICE] [default: default]
    #[arg(
        long,
        short = 'x',
        alias = "lattice-prefix",
        global = true,
        value_name = "NAME"
    )]
    pub lattice: Option<LatticeName>,
    /// Credentials file for NATS [env: TRELLIS_CREDS]
    #[arg(
        long,
        alias = "ctl-credsfile",
        global = true,
        value_name = "FILE",
        conflicts_with_all = ["nats_jwt", "nats_seed"]
    )]
    pub creds: Option<PathBuf>,
    /// User JWT for NATS, beside --nats-seed: a file, `env:VARIABLE`, or the token itself [env: TRELLIS_NATS_JWT]
    #[arg(
        long,
        alias = "ctl-jwt",
        global = true,
        value_name = "JWT",
        requires = "nats_seed",
        hide_short_help = true
    )]
    pub nats_jwt: Option<String>,
    /// Seed of the user's nkey for NATS: a file, or `env:VARIABLE` [env: TRELLIS_NATS_SEED]
    #[arg(
        long,
        alias = "ctl-seed",
        global = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub nats_seed: Option<String>,
    /// Root certificates to believe instead of the system's; makes TLS a condition [env: TRELLIS_NATS_CA]
    #[arg(
        long,
        alias = "ctl-tls-ca-file",
        global = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub nats_ca: Option<PathBuf>,
    /// Client certificate for NATS [env: TRELLIS_NATS_CERT]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "nats_key",
        hide_short_help = true
    )]
    pub nats_cert: Option<PathBuf>,
    /// Private key of the client certificate [env: TRELLIS_NATS_KEY]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "nats_cert",
        hide_short_help = true
    )]
    pub nats_key: Option<PathBuf>,
    /// Whether the TLS handshake comes before the server's greeting [env: TRELLIS_NATS_TLS_FIRST]
    #[arg(
        long,
        alias = "ctl-tls-first",
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true
    )]
    pub nats_tls_first: Option<bool>,
    /// JetStream domain of the lattice's state [env: TRELLIS_JS_DOMAIN]
    #[arg(
        long,
        aliases = ["domain", "wasmcloud-js-domain"],
        global = true,
        value_name = "DOMAIN",
        hide_short_help = true
    )]
    pub js_domain: Option<String>,
    /// What control subjects begin with [env: TRELLIS_CONTROL_PREFIX] [default: wasmbus.ctl]
    #[arg(
        long,
        alias = "ctl-topic-prefix",
        global = true,
        value_name = "PREFIX",
        hide_short_help = true
    )]
    pub control_prefix: Option<String>,
    /// Account key that signs commands: a file with its seed, `env:VARIABLE`, or `none` [env: TRELLIS_SIGNER] [default: your key `account`]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub signer: Option<String>,
    /// Milliseconds to wait for an outcome [env: TRELLIS_TIMEOUT_MS] [default: 60000, for plain questions 5000]
    #[arg(long, short = 't', alias = "wait-timeout-ms", global = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub timeout_ms: Option<u64>,
    /// For people or for programs
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Do it without asking
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}
