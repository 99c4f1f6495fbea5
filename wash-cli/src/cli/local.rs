//! Commands about this machine: what runs here, what is built and signed here, whose keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use trellis_claims::{Capability, KeyKind};

use super::key_value;

/// Port of the nats-server that `wash up` starts.
pub const NATS_PORT_DEFAULT: u16 = 4222;

/// Days until claims expire.
pub const EXPIRES_IN_DAYS_DEFAULT: u16 = 365;

/// `wash up`.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// Return as soon as the host answers, and leave it running
    #[arg(long, short = 'd')]
    pub detached: bool,
    /// Where this host keeps its key, its log and its NATS server's data [env: TRELLIS_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Port of the NATS server, if one has to be started; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = NATS_PORT_DEFAULT)]
    pub nats_port: u16,
    /// Name of the host, for people
    #[arg(long, alias = "name", value_name = "NAME")]
    pub friendly_name: Option<String>,
    /// Label of the host, by which placement chooses; may be repeated
    #[arg(long, short = 'l', value_name = "KEY=VALUE", value_parser = key_value)]
    pub label: Vec<(String, String)>,
    /// File with public keys of accounts or operators to trust, beside your own account; may be repeated
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Whether the host may load components from its own files
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub allow_file_load: bool,
    /// Directory of programs that can be started as providers by name: `<name>` or `trellis-<name>`
    #[arg(long, value_name = "DIR")]
    pub provider_dir: Option<PathBuf>,
    /// User as whom provider processes run, where the host is root: a name, a number, or UID:GID [default: nobody]
    #[arg(long, value_name = "USER")]
    pub provider_user: Option<String>,
    /// Forget what the host ran before, instead of running it again
    #[arg(long)]
    pub clean: bool,
    /// Set by `--detached` when it runs itself again.
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// `wash down`.
#[derive(Debug, Clone, Args)]
pub struct Down {
    /// The state directory that `wash up` was given [env: TRELLIS_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// How claims are signed.
#[derive(Debug, Clone, Args)]
pub struct Signing {
    /// Seed of the signing account: a file or `env:VARIABLE` [default: your account key]
    #[arg(long, short = 'i', value_name = "FILE")]
    pub issuer: Option<String>,
    /// The actor's identity: a file, `env:VARIABLE`, or a public key M… [default: a key by the actor's name]
    #[arg(long, short = 's', value_name = "FILE")]
    pub subject: Option<String>,
    /// Days until the claims expire
    #[arg(long, alias = "expires", value_name = "DAYS", default_value_t = EXPIRES_IN_DAYS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    pub expires_in_days: u16,
    /// Token by which an operator vouches for the account
    #[arg(long, value_name = "FILE")]
    pub account_token: Option<PathBuf>,
    /// Where the signed component goes
    #[arg(long, short = 'd', value_name = "FILE")]
    pub destination: Option<PathBuf>,
}

/// `wash build`.
#[derive(Debug, Clone, Args)]
pub struct Build {
    /// Directory of the actor, with its trellis.toml
    #[arg(
        long,
        short = 'p',
        alias = "config-path",
        value_name = "DIR",
        default_value = "."
    )]
    pub path: PathBuf,
    /// Sign only: the component is built already
    #[arg(long, alias = "sign-only")]
    pub no_build: bool,
    /// The component, if it is not where the build usually leaves it
    #[arg(long, value_name = "FILE")]
    pub artifact: Option<PathBuf>,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
}

/// `wash claims …`.
#[derive(Debug, Subcommand)]
pub enum Claims {
    /// Sign a component file
    Sign(Box<ClaimsSign>),
    /// Show the claims of a component file, and whether they hold: if not, or if it is unsigned, the exit code is 1
    Inspect(ClaimsInspect),
}

/// `wash claims sign`.
#[derive(Debug, Args)]
pub struct ClaimsSign {
    /// The component
    #[arg(value_name = "COMPONENT")]
    pub component: PathBuf,
    /// What people call the actor
    #[arg(long, short = 'n')]
    pub name: String,
    /// Its version
    #[arg(long = "ver", short = 'v', value_name = "VERSION")]
    pub version: String,
    /// Its revision, a number that grows with each release
    #[arg(long = "rev", short = 'r', value_name = "NUMBER", default_value_t = 0)]
    pub revision: u32,
    /// Word for people and policies; may be repeated
    #[arg(long, short = 'g', value_name = "WORD")]
    pub tag: Vec<String>,
    /// Another name to call it by
    #[arg(long, short = 'a', value_name = "NAME")]
    pub call_alias: Option<String>,
    /// Grant: a package (`wasi:keyvalue`) or an interface (`wasi:keyvalue/store`); may be repeated
    #[arg(long, short = 'c', value_name = "CAPABILITY")]
    pub cap: Vec<Capability>,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
}

/// `wash claims inspect`.
#[derive(Debug, Args)]
pub struct ClaimsInspect {
    /// The component
    #[arg(value_name = "COMPONENT")]
    pub component: PathBuf,
    /// Print the token as it is, without asking whether it holds
    #[arg(long)]
    pub jwt_only: bool,
}

/// `wash keys …`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key
    Gen(KeysGen),
    /// List your keys, without their secrets
    List,
}

/// `wash keys gen`.
#[derive(Debug, Args)]
pub struct KeysGen {
    /// account, module, host, provider, operator or user
    #[arg(value_name = "KIND")]
    pub kind: KeyKind,
    /// Name to keep it under [default: the kind]
    #[arg(long, short = 'n', conflicts_with = "print")]
    pub name: Option<String>,
    /// Print the seed instead of keeping it
    #[arg(long)]
    pub print: bool,
}
