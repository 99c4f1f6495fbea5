//! Contexts: `wash ctx …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `wash ctx …`.
#[derive(Debug, Subcommand)]
pub enum Ctx {
    /// List contexts
    List(CtxList),
    /// Make a context of the global flags given here
    #[command(
        after_help = "For example:\n  wash ctx new site --nats-url tls://nats.example.org --lattice prod --creds prod.creds\n  wash ctx default site"
    )]
    New(CtxNew),
    /// Choose the context of commands that name none
    Default(CtxName),
    /// Open a context in an editor
    Edit(CtxEdit),
    /// Delete a context
    #[command(aliases = ["delete", "remove", "rm"])]
    Del(CtxName),
}

/// Where contexts are.
#[derive(Debug, Clone, Args)]
pub struct CtxDirectory {
    /// Directory of contexts [env: TRELLIS_CONTEXTS] [default: ~/.config/trellis/contexts]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `wash ctx list`.
#[derive(Debug, Args)]
pub struct CtxList {
    /// Where.
    #[command(flatten)]
    pub place: CtxDirectory,
}

/// `wash ctx new`.
#[derive(Debug, Args)]
pub struct CtxNew {
    /// Its name
    #[arg(value_name = "NAME", required_unless_present = "interactive")]
    pub name: Option<String>,
    /// Ask for what no flag says
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// Replace a context of this name
    #[arg(long)]
    pub replace: bool,
    /// Where.
    #[command(flatten)]
    pub place: CtxDirectory,
}

/// `wash ctx default` and `wash ctx del`.
#[derive(Debug, Args)]
pub struct CtxName {
    /// Its name [default: chosen on the terminal]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Where.
    #[command(flatten)]
    pub place: CtxDirectory,
}

/// `wash ctx edit`.
#[derive(Debug, Args)]
pub struct CtxEdit {
    /// Its name [default: chosen on the terminal]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The editor [env: EDITOR] [default: vi]
    #[arg(long, short = 'e', value_name = "PROGRAM")]
    pub editor: Option<String>,
    /// Where.
    #[command(flatten)]
    pub place: CtxDirectory,
}
