//! Flags about signed commands.

use clap::Args;
use trellis_host_core::HostOptions;

/// What has to be signed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Signatures")]
pub struct SignatureArgs {
    /// Refuse commands, and pass over links, that no trusted account has signed. Clients that cannot sign can then only ask
    #[arg(long, env = "TRELLIS_REQUIRE_SIGNED")]
    pub require_signed: bool,
}

impl SignatureArgs {
    /// Takes the flags over into the host's options, and tells each mistake.
    pub fn apply(&self, options: &mut HostOptions, _mistake: &mut dyn FnMut(String)) {
        options.require_signed = self.require_signed;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use clap::Parser as _;

    use crate::args::HostArgs;

    #[test]
    fn signatures_are_required_where_that_is_asked_for_alone() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().to_str().unwrap();
        let options = |flags: &[&str]| {
            let given = [&["trellis-host", "--state-dir", directory], flags].concat();
            HostArgs::try_parse_from(given)
                .unwrap()
                .into_options()
                .unwrap()
        };
        assert!(!options(&[]).require_signed);
        assert!(options(&["--require-signed"]).require_signed);
    }
}
