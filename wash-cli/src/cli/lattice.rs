//! Commands to a lattice: what runs where, who may call whom, with which configuration.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use trellis_protocol::{EntityId, LinkName};

use super::{header, interval, key_value};

/// Invocations that an actor may run at once on a host, if nobody says otherwise.
pub const MAX_INSTANCES_DEFAULT: u32 = 100;

/// What the commands that start something share.
#[derive(Debug, Clone, Args)]
pub struct Placement {
    /// Host, by its id or friendly name [default: the one with the fewest actors]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// Label that the host must have; may be repeated
    #[arg(long, short = 'c', value_name = "KEY=VALUE", value_parser = key_value, conflicts_with = "host_id")]
    pub constraint: Vec<(String, String)>,
    /// Milliseconds that hosts are asked, where none is named [default: as for plain questions]
    #[arg(long, value_name = "MS", hide_short_help = true, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub auction_timeout_ms: Option<u64>,
}

/// What one invocation of an actor may use.
#[derive(Debug, Clone, Args)]
pub struct Limits {
    /// Limit of each invocation, as `max_memory_limit=<bytes>` or `max_execution_time=<seconds>`; may be repeated
    #[arg(long = "limit", alias = "component-limit", value_name = "NAME=VALUE", value_parser = key_value)]
    pub limits: Vec<(String, String)>,
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
    /// Within what.
    #[command(flatten)]
    pub limits: Limits,
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
    /// Within what.
    #[command(flatten)]
    pub limits: Limits,
    /// With what.
    #[command(flatten)]
    pub given: Given,
}

/// `wash update …`.
#[derive(Debug, Subcommand)]
pub enum Update {
    /// Replace a running actor by another version: it serves until the other one does
    #[command(alias = "actor")]
    Component(UpdateComponent),
}

/// `wash update component`.
#[derive(Debug, Args)]
pub struct UpdateComponent {
    /// Its id in the lattice
    #[arg(value_name = "COMPONENT-ID")]
    pub id: EntityId,
    /// The other version: a file, or a reference
    #[arg(value_name = "NEW-COMPONENT-REF")]
    pub reference: String,
    /// Host, by its id or friendly name [default: the one that runs it]
    #[arg(long, value_name = "HOST", conflicts_with = "all_hosts")]
    pub host_id: Option<String>,
    /// On every host that runs it, one after the other
    #[arg(long)]
    pub all_hosts: bool,
    /// Remark in place of those of the running version; may be repeated
    #[arg(long, short = 'a', alias = "annotations", value_name = "KEY=VALUE", value_parser = key_value)]
    pub annotation: Vec<(String, String)>,
    /// Return once the host has the command, before its work is done
    #[arg(long)]
    pub skip_wait: bool,
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
    Query(Watch),
}

/// `wash link put`.
#[derive(Debug, Args)]
#[command(
    after_help = "A link from an http-server opens a port. Without --source-config that is the provider's default address, 0.0.0.0:8000: every network of the host's machine. To choose another:\n  wash config put <NAME> address=127.0.0.1:8080\n  wash link put <SOURCE-ID> <TARGET> wasi http --interface incoming-handler --source-config <NAME>"
)]
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
    #[arg(
        long = "interface",
        alias = "interfaces",
        required = true,
        value_name = "NAME"
    )]
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
    #[arg(value_name = "SOURCE-ID", required_unless_present = "all")]
    pub source: Option<EntityId>,
    /// Namespace of the WIT package
    #[arg(value_name = "WIT-NAMESPACE", required_unless_present = "all")]
    pub namespace: Option<String>,
    /// Name of the WIT package
    #[arg(value_name = "WIT-PACKAGE", required_unless_present = "all")]
    pub package: Option<String>,
    /// Name of the link
    #[arg(long, short = 'l', value_name = "NAME", default_value = LinkName::DEFAULT)]
    pub link_name: LinkName,
    /// Every link of the lattice
    #[arg(long, conflicts_with_all = ["source", "link_name"])]
    pub all: bool,
    /// As --yes.
    #[arg(long, hide = true)]
    pub force: bool,
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
    /// What it holds; wins over the file
    #[arg(value_name = "KEY=VALUE", required_unless_present = "from_file", value_parser = key_value)]
    pub pairs: Vec<(String, String)>,
    /// File with what it holds: JSON (`.json`) or TOML (`.toml`) with texts, numbers and booleans, else lines KEY=VALUE
    #[arg(long, short = 'f', alias = "file", value_name = "FILE")]
    pub from_file: Option<PathBuf>,
}

/// The name of a configuration.
#[derive(Debug, Args)]
pub struct ConfigName {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `wash label`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example:\n  wash label fern zone=a,disk=ssd\n  wash label fern --delete zone"
)]
pub struct Label {
    /// The host, by its id or friendly name
    #[arg(value_name = "HOST-ID")]
    pub host: String,
    /// Labels to put; with --delete, their names
    #[arg(value_name = "KEY=VALUE", value_delimiter = ',', required = true)]
    pub labels: Vec<String>,
    /// Take them off
    #[arg(long)]
    pub delete: bool,
}

/// `wash get …`.
#[derive(Debug, Subcommand)]
pub enum Get {
    /// Hosts that answer
    #[command(alias = "host")]
    Hosts(Watch),
    /// What hosts run
    #[command(alias = "inventories")]
    Inventory(GetInventory),
    /// Links, and which hosts have applied them
    #[command(alias = "link")]
    Links(Watch),
    /// Claims of what runs or ran
    Claims(Watch),
}

/// How often to look again.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Watch {
    /// Look again and again, this far apart, and show what has changed [default where none is given: 2s]
    #[arg(long, short = 'w', value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    pub watch: Option<Duration>,
}

/// `wash get inventory`.
#[derive(Debug, Args)]
pub struct GetInventory {
    /// Host, by its id or friendly name [default: all]
    #[arg(value_name = "HOST-ID")]
    pub host: Option<String>,
    /// How often.
    #[command(flatten)]
    pub watch: Watch,
}

/// `wash call`.
#[derive(Debug, Args)]
#[command(
    after_help = "A call is made in the name of `wash` and needs a link like any other:\n  wash link put wash <COMPONENT-ID> <WIT-NAMESPACE> <WIT-PACKAGE> --interface <NAME>\n\nIt goes by the link `default`, which leads to one actor for each WIT package. To call another one, take that link back first:\n  wash link del wash <WIT-NAMESPACE> <WIT-PACKAGE>"
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
