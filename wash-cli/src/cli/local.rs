//! Commands about this machine: what is built and signed here.

use std::path::PathBuf;

use clap::Args;

/// Days until claims expire.
pub const EXPIRES_IN_DAYS_DEFAULT: u16 = 365;

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
