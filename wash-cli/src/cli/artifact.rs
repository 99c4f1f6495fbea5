//! Commands about artifacts, the papers that come with `wash`, and the two that look before others act: `doctor` and
//! `import`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::Shell;
use trellis_claims::Capability;
use trellis_protocol::LatticeName;

use super::{EXPIRES_IN_DAYS_DEFAULT, key_value};

/// How a registry is reached, and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistryAccess {
    /// User of the registry [env: TRELLIS_OCI_USER]
    #[arg(long, short = 'u', value_name = "NAME")]
    pub user: Option<String>,
    /// Password of the registry; the variable keeps it from other users of this machine [env: TRELLIS_OCI_PASSWORD]
    #[arg(long, short = 'p', value_name = "TEXT")]
    pub password: Option<String>,
    /// Speak plain HTTP to the registry
    #[arg(long)]
    pub insecure: bool,
    /// File with certificates (PEM) of authorities to believe, beside the system's; may be repeated
    #[arg(long = "ca", alias = "oci-ca", value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Not offered: kept to say what to do instead.
    #[arg(long, hide = true)]
    pub insecure_skip_tls_verify: bool,
    /// Accept the tag `latest`, which names another artifact tomorrow
    #[arg(long)]
    pub allow_latest: bool,
}

/// What is asked about a reference before it is used.
#[derive(Debug, Clone, Default, Args)]
pub struct Fetching {
    /// Digest that the artifact must have, `sha256:…`
    #[arg(long, short = 'd', value_name = "DIGEST")]
    pub digest: Option<String>,
    /// Fetch it again, although it is in the cache
    #[arg(long)]
    pub no_cache: bool,
    /// How the registry is reached.
    #[command(flatten)]
    pub access: RegistryAccess,
}

/// `wash inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A component or a provider archive: a file, `oci://…`, a bare reference, or `lattice://name:tag`
    #[arg(value_name = "ARTIFACT")]
    pub artifact: String,
    /// Print the token as it is, without asking whether it holds
    #[arg(long, conflicts_with = "wit")]
    pub jwt_only: bool,
    /// Print the WIT of the component's world instead
    #[arg(long, alias = "world")]
    pub wit: bool,
    /// Where it comes from.
    #[command(flatten)]
    pub fetching: Fetching,
}

/// `wash wit …`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "Packages are not fetched and not published: no registry of WIT packages is spoken to. What a world needs stands in its directory's deps/."
)]
pub struct Wit {
    /// Or make something of WIT.
    #[command(subcommand)]
    pub command: Option<WitCommand>,
    /// Print the WIT of this: a component, an encoded WIT package, or a directory of WIT; a file or a reference
    #[arg(value_name = "ARTIFACT")]
    pub artifact: Option<String>,
    /// Where it comes from.
    #[command(flatten)]
    pub fetching: Fetching,
}

/// What `wash wit` does besides printing.
#[derive(Debug, Subcommand)]
pub enum WitCommand {
    /// Encode a directory of WIT as one file
    Build(WitBuild),
}

/// `wash wit build`.
#[derive(Debug, Args)]
pub struct WitBuild {
    /// The directory, with what its packages need in deps/
    #[arg(long, short = 'd', value_name = "DIR", default_value = "wit")]
    pub wit_dir: PathBuf,
    /// Where the package goes [default: <package>.wasm here]
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `wash push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Where it goes: `oci://registry/repository:tag`, a bare reference, or `lattice://name:tag`
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// The component or provider archive, a file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Remark in the artifact's manifest; may be repeated
    #[arg(long, short = 'a', value_name = "KEY=VALUE", value_parser = key_value)]
    pub annotation: Vec<(String, String)>,
    /// How the registry is reached.
    #[command(flatten)]
    pub access: RegistryAccess,
}

/// `wash pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// What to pull: `oci://registry/repository:tag`, a bare reference, or `lattice://name:tag`
    #[arg(value_name = "REFERENCE")]
    pub reference: String,
    /// Where it goes [default: its name, with .wasm or .par, here]
    #[arg(long, value_name = "FILE")]
    pub destination: Option<PathBuf>,
    /// What it must be, and where it comes from.
    #[command(flatten)]
    pub fetching: Fetching,
}

/// `wash par …`.
#[derive(Debug, Subcommand)]
pub enum Par {
    /// Make a signed archive of a provider's executable
    Create(Box<ParCreate>),
    /// Show what is in an archive, as `wash inspect`
    Inspect(Inspect),
    /// Put the executable for another platform into an archive, and sign it again
    Insert(ParInsert),
}

/// The executable that goes into an archive.
#[derive(Debug, Clone, Args)]
pub struct ParBinary {
    /// Platform of the executable, as ARCH-OS [default: this machine's]
    #[arg(long, short = 'a', value_name = "ARCH-OS")]
    pub arch: Option<String>,
    /// The executable
    #[arg(long, short = 'b', value_name = "FILE")]
    pub binary: PathBuf,
}

/// How an archive is signed.
#[derive(Debug, Clone, Args)]
pub struct ParSigning {
    /// Seed of the signing account: a file or `env:VARIABLE` [default: your account key]
    #[arg(long, short = 'i', value_name = "FILE")]
    pub issuer: Option<String>,
    /// The provider's identity: a file, `env:VARIABLE`, or a public key V… [default: a key by the provider's name]
    #[arg(long, short = 's', value_name = "FILE")]
    pub subject: Option<String>,
    /// Days until the archive's claims expire
    #[arg(long, alias = "expires", value_name = "DAYS", default_value_t = EXPIRES_IN_DAYS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    pub expires_in_days: u16,
    /// Token by which an operator vouches for the account
    #[arg(long, value_name = "FILE")]
    pub account_token: Option<PathBuf>,
}

/// `wash par create`.
#[derive(Debug, Args)]
pub struct ParCreate {
    /// What people call the provider
    #[arg(long, short = 'n')]
    pub name: String,
    /// Who makes it
    #[arg(long, short = 'v')]
    pub vendor: String,
    /// Its version
    #[arg(long = "version", value_name = "VERSION", default_value = "0.0.0")]
    pub version: String,
    /// Its revision, a number that grows with each release
    #[arg(long, short = 'r', value_name = "NUMBER", default_value_t = 0)]
    pub revision: u32,
    /// File with the JSON schema of its configuration
    #[arg(long, short = 'j', value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// What it serves to actors: a package or an interface; may be repeated
    #[arg(long, short = 'c', value_name = "CAPABILITY")]
    pub cap: Vec<Capability>,
    /// What it calls on actors: a package or an interface; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub calls: Vec<Capability>,
    /// Where the archive goes [default: <executable>.par here]
    #[arg(long, value_name = "FILE")]
    pub destination: Option<PathBuf>,
    /// The executable.
    #[command(flatten)]
    pub binary: ParBinary,
    /// How it is signed.
    #[command(flatten)]
    pub signing: ParSigning,
}

/// `wash par insert`.
#[derive(Debug, Args)]
pub struct ParInsert {
    /// The archive, which is replaced
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
    /// The executable.
    #[command(flatten)]
    pub binary: ParBinary,
    /// How it is signed.
    #[command(flatten)]
    pub signing: ParSigning,
}

/// `wash completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wash completions bash > ~/.local/share/bash-completion/completions/wash\n  wash completions zsh --dir ~/.zfunc\n  wash completions fish --dir ~/.config/fish/completions"
)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
    /// Directory for the file, under the name that the shell looks for [default: print it]
    #[arg(long, short = 'd', value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `wash man`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").args(["dir", "command"])))]
pub struct Man {
    /// Directory for the pages of all commands
    #[arg(long, short = 'd', value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The command whose page is printed, such as `link put` [default: wash itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `wash doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is changed and nothing is downloaded. The exit code is 1 if something is broken; what is merely not as good as it could be is a warning."
)]
pub struct Doctor {
    /// The state directory that `wash up` is given [env: TRELLIS_STATE_DIR]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Look at this machine alone
    #[arg(long)]
    pub offline: bool,
}

/// `wash import`.
#[derive(Debug, Args)]
#[command(
    after_help = "The other lattice is only read. What carries over is printed as a script of commands. With --yes, configurations, links and providers are put at once into the lattice that --nats-url and --lattice name. Components start once their component is signed: the commands say how."
)]
pub struct Import {
    /// NATS server of the wasmCloud 1.x lattice [default: that of --nats-url]
    #[arg(long, value_name = "URL")]
    pub from_nats_url: Option<String>,
    /// Name of that lattice
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub from_lattice: LatticeName,
    /// Credentials file for its NATS server [default: that of --creds]
    #[arg(long, value_name = "FILE")]
    pub from_creds: Option<PathBuf>,
    /// What its control subjects begin with
    #[arg(long, value_name = "PREFIX", default_value = trellis_protocol::subject::CONTROL_PREFIX_DEFAULT)]
    pub from_control_prefix: String,
    /// JetStream domain of its state
    #[arg(long, value_name = "DOMAIN")]
    pub from_js_domain: Option<String>,
}
