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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use trellis_claims::{KeyKind, SigningKey};
    use trellis_lattice::connection::LatticeOptions;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        control: ControlArgs,
    }

    fn applied(flags: &[&str]) -> (HostOptions, Vec<String>) {
        let program = Program::try_parse_from([&["x"], flags].concat()).unwrap();
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        let mut options = HostOptions::new(LatticeOptions::default(), "/tmp/x", key);
        let mut mistakes = Vec::new();
        program
            .control
            .apply(&mut options, &mut |mistake| mistakes.push(mistake));
        (options, mistakes)
    }

    #[test]
    fn without_flags_a_host_takes_part_in_auctions_under_the_usual_prefix() {
        let (options, mistakes) = applied(&[]);
        assert!(mistakes.is_empty());
        assert_eq!(options.nats.control_prefix, CONTROL_PREFIX_DEFAULT);
        assert!(options.component_auctions && options.provider_auctions);
    }

    #[test]
    fn flags_are_taken_over_and_a_prefix_that_is_none_is_a_mistake() {
        let flags = ["--ctl-topic-prefix", "a.b", "--no-provider-auctions"];
        let (options, mistakes) = applied(&flags);
        assert!(mistakes.is_empty());
        assert_eq!(options.nats.control_prefix, "a.b");
        assert!(options.component_auctions && !options.provider_auctions);
        for wrong in ["", "a..b", "a.*", ">"] {
            let (_, mistakes) = applied(&["--control-prefix", wrong]);
            assert!(mistakes[0].starts_with("--control-prefix"), "{wrong}");
        }
    }
}
