//! The command line: every command and flag, defined once, with its help.
//!
//! The grammar is the one that people know from wasmCloud 1.x's shell. Definitions only: what a command does is in
//! [`crate::command`], where a flag's value comes from if it is absent is in [`crate::settings`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use trellis_claims::{Capability, KeyKind};
use trellis_protocol::{EntityId, LatticeName, LinkName};

use crate::exit;
use crate::output::Format;

/// Invocations that an actor may run at once on a host, if nobody says otherwise.
pub const MAX_INSTANCES_DEFAULT: u32 = 100;

/// Port of the nats-server that `wash up` starts.
pub const NATS_PORT_DEFAULT: u16 = 4222;

/// Days until claims expire.
pub const EXPIRES_IN_DAYS_DEFAULT: u16 = 365;

/// Build, sign and run actors on a Trellis lattice.
#[derive(Debug, Parser)]
#[command(name = "wash", version, after_help = exit::HELP, arg_required_else_help = true)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// NATS server of the lattice [env: TRELLIS_NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Name of the lattice [env: TRELLIS_LATTICE] [default: default]
    #[arg(long, short = 'x', global = true, value_name = "NAME")]
    pub lattice: Option<LatticeName>,
    /// Credentials file for NATS [env: TRELLIS_CREDS]
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// Milliseconds to wait for an outcome [env: TRELLIS_TIMEOUT_MS] [default: 60000, for plain questions 5000]
    #[arg(long, short = 't', global = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
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
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a host here, with a NATS server if there is none
    Up(Up),
    /// Stop what `wash up --detached` started
    Down(Down),
    /// Build the actor in a directory and sign it
    Build(Build),
    /// Sign components, look at their claims
    #[command(subcommand)]
    Claims(Claims),
    /// Make and list keys
    #[command(subcommand)]
    Keys(Keys),
    /// Start an actor or a provider on a host
    #[command(subcommand)]
    Start(Start),
    /// Change how many invocations of an actor run at once
    #[command(subcommand)]
    Scale(Scale),
    /// Stop an actor, a provider or a host
    #[command(subcommand)]
    Stop(Stop),
    /// Say who may call whom
    #[command(subcommand)]
    Link(Link),
    /// Named configurations
    #[command(subcommand)]
    Config(Config),
    /// Ask what there is
    #[command(subcommand)]
    Get(Get),
    /// Call an actor
    Call(Call),
}

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
    Sign(ClaimsSign),
    /// Show the claims of a component file, and whether they hold
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
    /// Print the token as it is
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

/// What the commands that start something share.
#[derive(Debug, Clone, Args)]
pub struct Placement {
    /// Host, by its id or friendly name [default: the one with the fewest actors]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// Label that the host must have; may be repeated
    #[arg(long, short = 'c', value_name = "KEY=VALUE", value_parser = key_value, conflicts_with = "host_id")]
    pub constraint: Vec<(String, String)>,
}

/// What a started actor or provider is given.
#[derive(Debug, Clone, Args)]
pub struct Given {
    /// Named configuration; may be repeated, later ones win
    #[arg(long, value_name = "NAME")]
    pub config: Vec<String>,
    /// Remark that hosts repeat in events and inventories; may be repeated
    #[arg(long, short = 'a', alias = "annotations", value_name = "KEY=VALUE", value_parser = key_value)]
    pub annotation: Vec<(String, String)>,
    /// Return once the host has the command, before its work is done
    #[arg(long)]
    pub skip_wait: bool,
}

/// `wash start …`.
#[derive(Debug, Subcommand)]
pub enum Start {
    /// Start an actor
    #[command(alias = "actor")]
    Component(StartComponent),
    /// Start a provider
    Provider(StartProvider),
}

/// `wash start component`.
#[derive(Debug, Args)]
pub struct StartComponent {
    /// The signed component: a file, or a reference
    #[arg(value_name = "COMPONENT-REF")]
    pub reference: String,
    /// What to call it in the lattice
    #[arg(value_name = "COMPONENT-ID")]
    pub id: EntityId,
    /// Invocations that may run at once
    #[arg(long, visible_alias = "count", aliases = ["max", "max-concurrent"], value_name = "N", default_value_t = MAX_INSTANCES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_instances: u32,
    /// Where.
    #[command(flatten)]
    pub placement: Placement,
    /// With what.
    #[command(flatten)]
    pub given: Given,
}

/// `wash start provider`.
#[derive(Debug, Args)]
pub struct StartProvider {
    /// A built-in provider (`http-server`, `keyvalue-nats`), a file, or a reference
    #[arg(value_name = "PROVIDER-REF")]
    pub reference: String,
    /// What to call it in the lattice
    #[arg(value_name = "PROVIDER-ID")]
    pub id: EntityId,
    /// Where.
    #[command(flatten)]
    pub placement: Placement,
    /// With what.
    #[command(flatten)]
    pub given: Given,
}

/// `wash scale …`.
#[derive(Debug, Subcommand)]
pub enum Scale {
    /// Change how many invocations of an actor may run at once on a host
    #[command(
        alias = "actor",
        override_usage = "wash scale component [HOST-ID] <COMPONENT-REF> <COMPONENT-ID> --max-instances <N>"
    )]
    Component(ScaleComponent),
}

/// `wash scale component`.
#[derive(Debug, Args)]
pub struct ScaleComponent {
    /// The host if three are given, the component's reference, its id
    #[arg(value_name = "[HOST-ID] COMPONENT-REF COMPONENT-ID", num_args = 2..=3, required = true)]
    pub target: Vec<String>,
    /// Host, by its id or friendly name [default: the one that runs it]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// Invocations that may run at once; 0 stops the actor
    #[arg(long, short = 'c', visible_alias = "count", aliases = ["max", "max-concurrent"], value_name = "N")]
    pub max_instances: u32,
    /// Replace what runs under this id if its reference is another one
    #[arg(long)]
    pub allow_update: bool,
    /// With what.
    #[command(flatten)]
    pub given: Given,
}

/// `wash stop …`.
#[derive(Debug, Subcommand)]
pub enum Stop {
    /// Stop an actor
    #[command(alias = "actor")]
    Component(StopEntity),
    /// Stop a provider
    Provider(StopEntity),
    /// Let a host finish its work and end
    Host(StopHost),
}

/// `wash stop component` and `wash stop provider`.
#[derive(Debug, Args)]
pub struct StopEntity {
    /// Its id in the lattice
    #[arg(value_name = "ID")]
    pub id: EntityId,
    /// Host, by its id or friendly name [default: the one that runs it]
    #[arg(long, value_name = "HOST", conflicts_with = "all_hosts")]
    pub host_id: Option<String>,
    /// On every host that runs it
    #[arg(long)]
    pub all_hosts: bool,
    /// Return once the host has the command, before its work is done
    #[arg(long)]
    pub skip_wait: bool,
}

/// `wash stop host`.
#[derive(Debug, Args)]
pub struct StopHost {
    /// The host, by its id or friendly name
    #[arg(value_name = "HOST-ID")]
    pub host: String,
    /// Milliseconds that the host gives work in flight
    #[arg(long, value_name = "MS")]
    pub host_timeout: Option<u64>,
    /// Return once the host has the command
    #[arg(long)]
    pub skip_wait: bool,
}

/// `wash link …`.
#[derive(Debug, Subcommand)]
pub enum Link {
    /// Let a source call a target
    Put(LinkPut),
    /// Take a link back
    #[command(alias = "delete")]
    Del(LinkDel),
    /// List links, as `wash get links`
    #[command(alias = "get")]
    Query,
}

/// `wash link put`.
#[derive(Debug, Args)]
pub struct LinkPut {
    /// Who calls: an actor, or a provider that calls actors
    #[arg(value_name = "SOURCE-ID")]
    pub source: EntityId,
    /// Who is called
    #[arg(value_name = "TARGET")]
    pub target: EntityId,
    /// Namespace of the WIT package, `wasi` in wasi:keyvalue/store
    #[arg(value_name = "WIT-NAMESPACE")]
    pub namespace: String,
    /// Name of the WIT package, `keyvalue` in wasi:keyvalue/store
    #[arg(value_name = "WIT-PACKAGE")]
    pub package: String,
    /// Interface, `store` in wasi:keyvalue/store; may be repeated
    #[arg(long = "interface", required = true, value_name = "NAME")]
    pub interfaces: Vec<String>,
    /// Named configuration for the source's end; may be repeated
    #[arg(long, value_name = "NAME")]
    pub source_config: Vec<String>,
    /// Named configuration for the target's end; may be repeated
    #[arg(long, value_name = "NAME")]
    pub target_config: Vec<String>,
    /// Name of the link
    #[arg(long, short = 'l', value_name = "NAME", default_value = LinkName::DEFAULT)]
    pub link_name: LinkName,
}

/// `wash link del`.
#[derive(Debug, Args)]
pub struct LinkDel {
    /// Who calls
    #[arg(value_name = "SOURCE-ID")]
    pub source: EntityId,
    /// Namespace of the WIT package
    #[arg(value_name = "WIT-NAMESPACE")]
    pub namespace: String,
    /// Name of the WIT package
    #[arg(value_name = "WIT-PACKAGE")]
    pub package: String,
    /// Name of the link
    #[arg(long, short = 'l', value_name = "NAME", default_value = LinkName::DEFAULT)]
    pub link_name: LinkName,
}

/// `wash config …`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Put a configuration, in place of what was there
    Put(ConfigPut),
    /// Show a configuration
    Get(ConfigName),
    /// Delete a configuration
    #[command(aliases = ["delete", "remove", "rm"])]
    Del(ConfigName),
}

/// `wash config put`.
#[derive(Debug, Args)]
pub struct ConfigPut {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it holds
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = key_value)]
    pub pairs: Vec<(String, String)>,
}

/// The name of a configuration.
#[derive(Debug, Args)]
pub struct ConfigName {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `wash get …`.
#[derive(Debug, Subcommand)]
pub enum Get {
    /// Hosts that answer
    #[command(alias = "host")]
    Hosts,
    /// What hosts run
    #[command(alias = "inventories")]
    Inventory(GetInventory),
    /// Links
    #[command(alias = "link")]
    Links,
    /// Claims of what runs or ran
    Claims,
}

/// `wash get inventory`.
#[derive(Debug, Args)]
pub struct GetInventory {
    /// Host, by its id or friendly name [default: all]
    #[arg(value_name = "HOST-ID")]
    pub host: Option<String>,
}

/// `wash call`.
#[derive(Debug, Args)]
#[command(
    after_help = "A call is made in the name of `wash` and needs a link like any other:\n  wash link put wash <COMPONENT-ID> <WIT-NAMESPACE> <WIT-PACKAGE> --interface <NAME>"
)]
pub struct Call {
    /// The actor's id in the lattice
    #[arg(value_name = "COMPONENT-ID")]
    pub id: EntityId,
    /// `namespace:package/interface.function`; `wasi:http/incoming-handler.handle` makes an HTTP request
    #[arg(value_name = "FUNCTION")]
    pub function: String,
    /// Arguments of the function, each as JSON
    #[arg(value_name = "JSON")]
    pub arguments: Vec<String>,
    /// Host that runs the actor [default: any that does]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// The HTTP request, if it is one.
    #[command(flatten)]
    pub http: Http,
}

/// The HTTP request of `wash call`.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP request")]
pub struct Http {
    /// Method
    #[arg(long = "http-method", value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// Path with query
    #[arg(long = "http-path", value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Host that it is addressed to
    #[arg(long = "http-host", value_name = "AUTHORITY")]
    pub host: Option<String>,
    /// Field, may be repeated
    #[arg(long = "http-header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Field `content-type`
    #[arg(long = "http-content-type", value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Body
    #[arg(long = "http-body", value_name = "TEXT", conflicts_with = "body_path")]
    pub body: Option<String>,
    /// File with the body
    #[arg(long = "http-body-path", value_name = "FILE")]
    pub body_path: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it KEY=VALUE".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it `name: value`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_a_key_may_not_be_empty() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("ab").is_err());
    }
}
