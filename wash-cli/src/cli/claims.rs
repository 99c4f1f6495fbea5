//! Commands about claims and keys: who says what of whom, and with what secret.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use trellis_claims::{Capability, KeyKind};

use super::{EXPIRES_IN_DAYS_DEFAULT, Signing};

/// `wash claims …`.
#[derive(Debug, Subcommand)]
pub enum Claims {
    /// Sign a component file
    Sign(Box<ClaimsSign>),
    /// Show the claims of a component file, and whether they hold: if not, or if it is unsigned, the exit code is 1
    Inspect(ClaimsInspect),
    /// Make a token by itself
    #[command(subcommand)]
    Token(ClaimsToken),
}

/// What the claims of a component say.
#[derive(Debug, Clone, Args)]
pub struct ActorSaying {
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
}

/// `wash claims sign`.
#[derive(Debug, Args)]
pub struct ClaimsSign {
    /// The component
    #[arg(value_name = "COMPONENT")]
    pub component: PathBuf,
    /// What its claims say.
    #[command(flatten)]
    pub saying: ActorSaying,
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

/// `wash claims token …`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "An operator needs no token of its own: hosts trust its public key. Make one with `wash keys gen operator` and name it with `wash up --trust`. A provider's token is made with its archive, by `wash par create`, since it names the digests of the executables; `provider` here shows the token of an archive."
)]
pub enum ClaimsToken {
    /// An account's claims for a component, apart from it
    #[command(alias = "actor")]
    Component(Box<TokenComponent>),
    /// An operator vouches for an account
    Account(TokenAccount),
    /// An account lets a host into a lattice, and says which actors it may run
    Host(TokenHost),
    /// The claims of a provider archive, as they stand in it
    Provider(TokenProvider),
}

/// For how long a token is valid.
#[derive(Debug, Clone, Args)]
pub struct TokenLife {
    /// Days until it expires
    #[arg(long, alias = "expires", value_name = "DAYS", default_value_t = EXPIRES_IN_DAYS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    pub expires_in_days: u16,
    /// Days until it begins to be valid
    #[arg(long = "nbf", short = 'b', value_name = "DAYS", default_value_t = 0)]
    pub not_before_in_days: u16,
}

/// `wash claims token component`.
#[derive(Debug, Args)]
pub struct TokenComponent {
    /// The component that it is for
    #[arg(value_name = "COMPONENT")]
    pub component: PathBuf,
    /// What its claims say.
    #[command(flatten)]
    pub saying: ActorSaying,
    /// Seed of the signing account: a file or `env:VARIABLE` [default: your account key]
    #[arg(long, short = 'i', value_name = "FILE")]
    pub issuer: Option<String>,
    /// The actor's identity: a file, `env:VARIABLE`, or a public key M… [default: a key by the actor's name]
    #[arg(long, short = 's', value_name = "FILE")]
    pub subject: Option<String>,
    /// Token by which an operator vouches for the account
    #[arg(long, value_name = "FILE")]
    pub account_token: Option<PathBuf>,
    /// For how long.
    #[command(flatten)]
    pub life: TokenLife,
}

/// `wash claims token account`.
#[derive(Debug, Args)]
pub struct TokenAccount {
    /// What people call the account
    #[arg(long, short = 'n')]
    pub name: String,
    /// Seed of the operator: a file or `env:VARIABLE`
    #[arg(long, short = 'i', value_name = "FILE")]
    pub issuer: String,
    /// The account: a file, `env:VARIABLE`, or a public key A… [default: your account key]
    #[arg(long, short = 's', value_name = "FILE")]
    pub subject: Option<String>,
    /// For how long.
    #[command(flatten)]
    pub life: TokenLife,
}

/// `wash claims token host`.
#[derive(Debug, Args)]
pub struct TokenHost {
    /// The host: a public key N…, or a file with its seed
    #[arg(long, short = 's', value_name = "KEY")]
    pub subject: String,
    /// Seed of the account or operator: a file or `env:VARIABLE` [default: your account key]
    #[arg(long, short = 'i', value_name = "FILE")]
    pub issuer: Option<String>,
    /// Id of an actor that it may run; may be repeated [default: every actor]
    #[arg(long, value_name = "COMPONENT-ID")]
    pub may_run: Vec<String>,
    /// For how long.
    #[command(flatten)]
    pub life: TokenLife,
}

/// `wash claims token provider`.
#[derive(Debug, Args)]
pub struct TokenProvider {
    /// The provider archive
    #[arg(value_name = "ARCHIVE")]
    pub archive: PathBuf,
}

/// `wash keys …`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key
    Gen(KeysGen),
    /// Print one of your keys, with its seed
    Get(KeysGet),
    /// List your keys, without their secrets
    List(KeysList),
}

/// `wash keys gen`.
#[derive(Debug, Args)]
pub struct KeysGen {
    /// account, module (or component), host (or server), provider (or service), operator or user
    #[arg(value_name = "KIND", value_parser = key_kind)]
    pub kind: KeyKind,
    /// Name to keep it under [default: the kind]
    #[arg(long, short = 'n', conflicts_with = "print")]
    pub name: Option<String>,
    /// Print the seed instead of keeping it
    #[arg(long)]
    pub print: bool,
    /// Directory of your keys [env: TRELLIS_KEYS_DIR]
    #[arg(long, value_name = "DIR", conflicts_with = "print")]
    pub directory: Option<PathBuf>,
}

/// `wash keys get`.
#[derive(Debug, Args)]
pub struct KeysGet {
    /// Its name, as `wash keys list` shows it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Print the public key alone
    #[arg(long)]
    pub public: bool,
    /// Directory of your keys [env: TRELLIS_KEYS_DIR]
    #[arg(long, short = 'd', value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `wash keys list`.
#[derive(Debug, Args)]
pub struct KeysList {
    /// Directory of your keys [env: TRELLIS_KEYS_DIR]
    #[arg(long, short = 'd', value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// A kind of key by our name or by one that others use.
fn key_kind(text: &str) -> Result<KeyKind, String> {
    let text = text.to_ascii_lowercase();
    let name = match text.as_str() {
        "component" | "actor" => "module",
        "server" => "host",
        "service" => "provider",
        other => other,
    };
    name.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_key_is_read_by_its_older_names_too() {
        assert_eq!(key_kind("Component"), Ok(KeyKind::Module));
        assert_eq!(key_kind("service"), Ok(KeyKind::Provider));
        assert_eq!(key_kind("server"), Ok(KeyKind::Host));
        assert_eq!(key_kind("account"), Ok(KeyKind::Account));
        assert!(key_kind("curve").is_err());
    }
}
