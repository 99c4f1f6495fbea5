//! Flags and environment of `trellis-host`, read and checked. All mistakes are found at once, so that nobody mends them
//! one start at a time.
//!
//! What `wash up` takes as well stands in groups: [`ArtifactArgs`], [`ControlArgs`], [`SignatureArgs`], [`TelemetryArgs`].
//! Each takes itself over into the host's options; telemetry is the process's own.

mod artifacts;
mod control;
pub mod older;
mod provider_user;
mod signatures;
mod telemetry;

pub use artifacts::ArtifactArgs;
pub use control::ControlArgs;
pub use provider_user::unfit_user;
pub use signatures::SignatureArgs;
pub use telemetry::TelemetryArgs;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use trellis_claims::{PublicKey, SigningKey, TrustRoots};
use trellis_host_core::HostOptions;
use trellis_lattice::connection::{LatticeOptions, ServerUrl, TlsOptions};
use trellis_protocol::LatticeName;

use crate::host_key::{load_host_key, load_or_create_host_key};
use crate::providers::built_in;

/// Largest file of trust roots or of a certificate that is read, in bytes.
const TEXT_FILE_BYTES_MAX: u64 = 256 * 1024;

/// Runs a host of a Trellis lattice: signed actors, and providers built in or as processes of their own.
#[derive(Debug, Clone, Parser)]
#[command(name = "trellis-host", version, after_help = EXIT_CODES)]
pub struct HostArgs {
    /// Lattice to join
    #[arg(
        long,
        short = 'x',
        env = "TRELLIS_LATTICE",
        value_name = "NAME",
        default_value = "default"
    )]
    pub lattice: String,
    /// NATS servers of the lattice, with commas between
    #[arg(
        long,
        env = "TRELLIS_NATS_URL",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true
    )]
    pub nats_url: String,
    /// Credentials file for NATS
    #[arg(long, env = "TRELLIS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// Root certificates to believe instead of the system's; makes TLS a condition
    #[arg(long, env = "TRELLIS_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// Client certificate for NATS
    #[arg(
        long,
        env = "TRELLIS_NATS_CERT",
        value_name = "FILE",
        requires = "nats_key"
    )]
    pub nats_cert: Option<PathBuf>,
    /// Private key of the client certificate
    #[arg(
        long,
        env = "TRELLIS_NATS_KEY",
        value_name = "FILE",
        requires = "nats_cert"
    )]
    pub nats_key: Option<PathBuf>,
    /// JetStream domain of the lattice's state
    #[arg(long, env = "TRELLIS_JS_DOMAIN", value_name = "DOMAIN")]
    pub js_domain: Option<String>,
    /// The host's own directory [default: $XDG_STATE_HOME/trellis/<lattice>, else ~/.local/state/trellis/<lattice>]
    #[arg(long, env = "TRELLIS_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Name of the host, for people
    #[arg(
        long,
        alias = "friendly-name",
        env = "TRELLIS_HOST_NAME",
        value_name = "NAME"
    )]
    pub name: Option<String>,
    /// Label of the host, by which placement chooses; may be repeated
    #[arg(
        long = "label",
        short = 'l',
        env = "TRELLIS_LABELS",
        value_name = "KEY=VALUE",
        value_delimiter = ','
    )]
    pub labels: Vec<String>,
    /// Public key of an account or operator to trust, or a file with such keys; may be repeated. Without one, nothing starts
    #[arg(
        long,
        env = "TRELLIS_TRUST",
        value_name = "KEY|FILE",
        value_delimiter = ','
    )]
    pub trust: Vec<String>,
    /// File with the host's seed [default: <state dir>/host.nk, made on first use]
    #[arg(long, env = "TRELLIS_HOST_SEED", value_name = "FILE")]
    pub host_seed: Option<PathBuf>,
    /// File with the host's certificate, by which other hosts believe it. Without one it runs alone
    #[arg(long, env = "TRELLIS_HOST_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Directory of programs that can be started as providers by name: `<name>` or `trellis-<name>`
    #[arg(long, env = "TRELLIS_PROVIDER_DIR", value_name = "DIR")]
    pub provider_dir: Option<PathBuf>,
    /// User as whom provider processes run, where the host is root: a name, a number, or UID:GID [default: nobody]
    #[arg(long, env = "TRELLIS_PROVIDER_USER", value_name = "USER")]
    pub provider_user: Option<String>,
    /// Forget what ran here before, instead of running it again
    #[arg(long, env = "TRELLIS_CLEAN")]
    pub clean: bool,
    /// Seconds for work in flight when the host stops
    #[arg(long, env = "TRELLIS_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub shutdown_timeout: u64,
    /// Where components and providers may come from.
    #[command(flatten)]
    pub artifacts: ArtifactArgs,
    /// How the host takes commands.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What has to be signed.
    #[command(flatten)]
    pub signatures: SignatureArgs,
    /// What the process tells of itself.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  stopped, and everything that had begun was finished
  1  the host did not start
  2  the command line or the environment could not be understood
  3  stopped, and something was cut off";

/// What is wrong with the arguments: all of it, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Variables of wasmCloud 1.x that make up the URL of its NATS server.
const OLDER_HOST: [&str; 2] = ["WASMCLOUD_NATS_HOST", "WASMCLOUD_CTL_HOST"];
const OLDER_PORT: [&str; 2] = ["WASMCLOUD_NATS_PORT", "WASMCLOUD_CTL_PORT"];

impl HostArgs {
    /// Reads the process's command line and environment, the older names of variables included, and what is to be told
    /// about those. A mistake, and a question for help, end the process, as [`Parser::parse`] does.
    pub fn of_process() -> (Self, Vec<String>) {
        let (command, turned) = older::reading_older_variables(Self::command());
        let matches = command.get_matches();
        let mut notes = turned.notes(&matches);
        let mut args = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if matches.value_source("nats_url") == Some(ValueSource::DefaultValue)
            && let Some((url, read)) = older_url(|name| std::env::var(name).ok())
        {
            args.nats_url = url;
            notes.extend(
                read.into_iter()
                    .map(|older| older::note(older, "TRELLIS_NATS_URL")),
            );
        }
        for (key, value) in older::older_labels(std::env::vars_os()) {
            notes.push(older::note(
                &format!("WASMCLOUD_LABEL_{key}"),
                "TRELLIS_LABELS",
            ));
            // Before the others, so that a label of ours wins.
            args.labels.insert(0, format!("{key}={value}"));
        }
        (args, notes)
    }

    /// Checks everything, and makes the host's key where there is none.
    ///
    /// # Errors
    /// [`Mistakes`], all at once. No key is made where there is any in the flags of the host itself.
    pub fn into_options(self) -> Result<HostOptions, Mistakes> {
        let mut mistakes = Vec::new();
        let mut noted = |mistake: String| mistakes.push(mistake);
        let lattice: Option<LatticeName> = self
            .lattice
            .parse()
            .map_err(|error| noted(format!("--lattice: {error}")))
            .ok();
        let urls = ServerUrl::parse_list(&self.nats_url)
            .map_err(|error| noted(format!("--nats-url: {error}")))
            .unwrap_or_default();
        let mut labels = Vec::new();
        for label in &self.labels {
            match label.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    labels.push((key.trim().to_owned(), value.to_owned()));
                }
                _ => noted(format!("--label: `{label}` is not KEY=VALUE")),
            }
        }
        let mut trust = TrustRoots::default();
        for text in self
            .trust
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
        {
            if let Err(reason) = read_trust(text, &mut trust) {
                noted(format!("--trust: {reason}"));
            }
        }
        let certificate = self.certificate.as_deref().and_then(|path| {
            read_text(path)
                .map(|text| text.trim().to_owned())
                .map_err(|reason| noted(format!("--certificate: {reason}")))
                .ok()
        });
        let state_dir = self
            .state_dir
            .clone()
            .or_else(|| default_state_dir(&self.lattice));
        if state_dir.is_none() {
            noted(
                "--state-dir: give a directory, since neither XDG_STATE_HOME nor HOME is set"
                    .to_owned(),
            );
        }
        if let Some(reason) = self.provider_dir.as_deref().and_then(unfit_directory) {
            noted(format!("--provider-dir: {reason}"));
        }
        if let Some(reason) = self.provider_user.as_deref().and_then(unfit_user) {
            noted(format!("--provider-user: {reason}"));
        }
        let given_key = self.host_seed.as_deref().and_then(|path| {
            load_host_key(path)
                .map_err(|error| noted(format!("--host-seed: {error}")))
                .ok()
        });
        let (Some(lattice), Some(state_dir), true) = (lattice, state_dir, mistakes.is_empty())
        else {
            return Err(Mistakes(mistakes));
        };
        let host_key = match given_key {
            Some(key) => key,
            None => load_or_create_host_key(&state_dir)
                .map_err(|error| Mistakes(vec![error.to_string()]))?,
        };
        let nats = LatticeOptions {
            urls,
            name: "trellis-host".to_owned(),
            lattice,
            creds_file: self.nats_creds,
            tls: TlsOptions {
                ca: self.nats_ca,
                cert: self.nats_cert,
                key: self.nats_key,
                first: false,
            },
            js_domain: self.js_domain,
            ..LatticeOptions::default()
        };
        let factories = built_in(&nats);
        let mut options = HostOptions::new(nats, state_dir, host_key);
        options.friendly_name = self.name;
        options.labels = labels.into_iter().collect();
        options.trust = trust;
        options.certificate = certificate;
        options.provider_dir = self.provider_dir;
        options.provider_user = self.provider_user;
        options.private_paths = self.host_seed.into_iter().collect();
        options.provider_factories = factories;
        options.restore = !self.clean;
        options.shutdown_timeout = Duration::from_secs(self.shutdown_timeout);
        let mut mistake = |mistake: String| mistakes.push(mistake);
        self.artifacts.apply(&mut options, &mut mistake);
        self.control.apply(&mut options, &mut mistake);
        self.signatures.apply(&mut options, &mut mistake);
        if mistakes.is_empty() {
            Ok(options)
        } else {
            Err(Mistakes(mistakes))
        }
    }
}

/// The URL that the two older variables make up, and which of them were there.
fn older_url(variable: impl Fn(&str) -> Option<String>) -> Option<(String, Vec<&'static str>)> {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        })
    };
    let (host, port) = (first(OLDER_HOST), first(OLDER_PORT));
    let read: Vec<_> = [&host, &port]
        .into_iter()
        .flatten()
        .map(|(name, _)| *name)
        .collect();
    let value = |found: Option<(&str, String)>, default: &str| {
        found.map_or_else(|| default.to_owned(), |(_, value)| value)
    };
    let url = format!(
        "nats://{}:{}",
        value(host, "127.0.0.1"),
        value(port, "4222")
    );
    (!read.is_empty()).then_some((url, read))
}

/// What stands against a directory of programs.
pub fn unfit_directory(path: &Path) -> Option<String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("cannot read {}: {error}", path.display())),
    };
    let mode = metadata.permissions().mode();
    if !metadata.is_dir() {
        Some(format!("{} is no directory", path.display()))
    } else if mode & 0o002 != 0 {
        Some(format!(
            "other users can write to {}; `chmod o-w` closes it",
            path.display()
        ))
    } else {
        None
    }
}

/// Takes a public key, or all keys of a file.
///
/// # Errors
/// What is wrong, as a sentence. A seed is refused and not repeated.
pub fn read_trust(text: &str, trust: &mut TrustRoots) -> Result<(), String> {
    if SigningKey::from_seed(text).is_ok() {
        return Err("a seed was given, which every process of this machine can read now; give the public key".to_owned());
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        return trust.insert(key).map_err(|error| error.to_string());
    }
    let roots: TrustRoots =
        read_text(Path::new(text))?
            .parse()
            .map_err(|error: trellis_claims::TrustRootsError| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                format!("{text}: {error}{}", cause.unwrap_or_default())
            })?;
    for root in roots.iter() {
        trust
            .insert(root.clone())
            .map_err(|error| format!("{text}: {error}"))?;
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, String> {
    let failed = |reason: &dyn fmt::Display| format!("cannot read {}: {reason}", path.display());
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() || metadata.len() > TEXT_FILE_BYTES_MAX {
        return Err(failed(&format_args!(
            "it is no file of at most {TEXT_FILE_BYTES_MAX} bytes"
        )));
    }
    fs::read_to_string(path).map_err(|error| failed(&error))
}

/// Relative values are passed over, as the XDG base directory specification asks.
fn default_state_dir(lattice: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("trellis").join(lattice))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use trellis_claims::KeyKind;

    fn args(list: &[&str]) -> HostArgs {
        HostArgs::try_parse_from([&["trellis-host"], list].concat()).unwrap()
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_key_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let seed = SigningKey::generate(KeyKind::Account).seed();
        let state_dir = dir.path().join("state");
        let mistakes = args(&[
            "--lattice",
            "a.b",
            "--nats-url",
            "http://x",
            "--label",
            "zone",
            "--trust",
            &seed,
            "--trust",
            "/nowhere/roots",
            "--certificate",
            "/nowhere/cert",
            "--host-seed",
            "/nowhere/seed",
            "--provider-dir",
            "/nowhere/providers",
            "--state-dir",
            state_dir.to_str().unwrap(),
        ])
        .into_options()
        .unwrap_err();
        for flag in [
            "--lattice",
            "--nats-url",
            "--label",
            "--trust",
            "--certificate",
            "--host-seed",
            "--provider-dir",
        ] {
            assert!(
                mistakes.0.iter().any(|m| m.starts_with(flag)),
                "{flag}: {mistakes}"
            );
        }
        assert_eq!(mistakes.0.len(), 8);
        assert!(!mistakes.to_string().contains(&*seed));
        assert!(!state_dir.exists());
    }

    #[test]
    fn keys_and_files_of_keys_are_trusted_together() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (0..3)
            .map(|_| SigningKey::generate(KeyKind::Account).public().clone())
            .collect();
        let file = dir.path().join("roots");
        fs::write(&file, format!("{}\n{} # b\n", keys[0], keys[1])).unwrap();
        let options = args(&[
            "--trust",
            file.to_str().unwrap(),
            "--trust",
            keys[2].as_str(),
            "--state-dir",
            dir.path().to_str().unwrap(),
            "--label",
            "zone=a",
            "-l",
            "rack=1=2",
            "--allow-file",
            "--provider-dir",
            dir.path().to_str().unwrap(),
            "--provider-user",
            "nobody",
            "--clean",
            "--shutdown-timeout",
            "5",
        ])
        .into_options()
        .unwrap();
        assert!(keys.iter().all(|key| options.trust.contains(key)));
        assert_eq!(options.labels["rack"], "1=2");
        assert!(options.artifacts.allow_file && !options.restore);
        assert_eq!(options.provider_dir.as_deref(), Some(dir.path()));
        assert_eq!(options.provider_user.as_deref(), Some("nobody"));
        assert_eq!(options.shutdown_timeout, Duration::from_secs(5));
        assert!(dir.path().join("host.nk").exists());
    }

    #[test]
    fn the_older_variables_for_host_and_port_make_a_url() {
        let port = |name: &str| (name == "WASMCLOUD_CTL_PORT").then(|| "4333".to_owned());
        assert_eq!(
            older_url(port),
            Some((
                "nats://127.0.0.1:4333".to_owned(),
                vec!["WASMCLOUD_CTL_PORT"]
            ))
        );
        assert_eq!(older_url(|_| None), None);
    }

    #[test]
    fn a_module_key_is_no_trust_root() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(KeyKind::Module).public().clone();
        let mistakes = args(&[
            "--trust",
            key.as_str(),
            "--state-dir",
            dir.path().to_str().unwrap(),
        ])
        .into_options()
        .unwrap_err();
        assert!(mistakes.to_string().contains("account"), "{mistakes}");
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory;
        HostArgs::command().debug_assert();
    }
}
