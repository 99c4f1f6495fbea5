//! Flags about the control interface.

use clap::Args;
use trellis_host_core::HostOptions;
use trellis_protocol::subject::{CONTROL_PREFIX_DEFAULT, check_control_prefix};

/// How the host takes commands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Control interface")]
pub struct ControlArgs {
    /// What the subjects of control requests begin with; every host and client of a lattice uses the same [default: wasmbus.ctl]
    #[arg(
        long,
        alias = "ctl-topic-prefix",
        env = "TRELLIS_CONTROL_PREFIX",
        value_name = "PREFIX"
    )]
    pub control_prefix: Option<String>,
    /// Take no part in auctions of actors: run those alone that are started here by name
    #[arg(long, env = "TRELLIS_NO_COMPONENT_AUCTIONS")]
    pub no_component_auctions: bool,
    /// Take no part in auctions of providers
    #[arg(long, env = "TRELLIS_NO_PROVIDER_AUCTIONS")]
    pub no_provider_auctions: bool,
}

impl ControlArgs {
    /// Takes the flags over into the host's options, and tells each mistake.
    pub fn apply(&self, options: &mut HostOptions, mistake: &mut dyn FnMut(String)) {
        let prefix = self
            .control_prefix
            .as_deref()
            .unwrap_or(CONTROL_PREFIX_DEFAULT);
        match check_control_prefix(prefix) {
            Ok(()) => prefix.clone_into(&mut options.nats.control_prefix),
            Err(reason) => mistake(format!("--control-prefix: {reason}")),
        }
        options.component_auctions = !self.no_component_auctions;
        options.provider_auctions = !self.no_provider_auctions;
    }
}
