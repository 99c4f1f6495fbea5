//! What the global flags come to, once the environment and the defaults have filled in what was left out.

mod sources;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;
use trellis_lattice::connection::{LatticeOptions, ServerUrl, TlsOptions};
use trellis_protocol::LatticeName;
use trellis_protocol::subject::{CONTROL_PREFIX_DEFAULT, check_control_prefix};
use zeroize::Zeroizing;

use crate::cli::{Global, NatsFlags};
use crate::environment::{self, Environment};
use crate::exit::Failure;
use crate::proof::Proof;
use sources::Sources;

/// How long a plain question to the lattice may take.
pub const QUESTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How long a command may take until its outcome is known: fetching and compiling a large component, on a small device.
pub const OUTCOME_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Longest that a connection to NATS is tried. The person in front of the terminal is waiting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the lattice is, as whom to go there, and how patient to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Servers of one NATS system.
    pub urls: Vec<ServerUrl>,
    /// Whether somebody named them, by flag, context or environment.
    pub urls_named: bool,
    /// Where they were named, for people, if it was not on the command line.
    pub urls_origin: Option<Origin>,
    /// The lattice.
    pub lattice: LatticeName,
    /// Credentials file for NATS.
    pub creds: Option<PathBuf>,
    /// TLS for NATS.
    pub tls: TlsOptions,
    /// JetStream domain of the lattice's state.
    pub js_domain: Option<String>,
    /// What control subjects begin with.
    pub control_prefix: Option<String>,
    /// Whether to do without asking what is asked otherwise.
    pub yes: bool,
    /// In whose name commands are given.
    pub proof: Proof,
    nkey_seed: Option<Zeroizing<String>>,
    /// The file that holds JWT and seed together, gone with the last copy of these settings.
    _login: Option<Arc<NamedTempFile>>,
    url_text: UrlText,
    timeout: Option<Duration>,
}

/// Where a setting came from that is not on the command line: easily forgotten, and then a riddle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// These variables.
    Variable(String),
    /// This context.
    Context(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "the context {name}"),
        }
    }
}

/// URLs as they were written, perhaps with a password.
#[derive(Clone)]
struct UrlText(Zeroizing<String>);

impl fmt::Debug for UrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Settings {
    /// Puts flags, context, environment and defaults together. A flag wins over a context that is named, which wins over
    /// the environment, which wins over the default context.
    ///
    /// # Errors
    /// A usage failure that names what cannot be read, and where it came from; a local one about a context or a key.
    pub fn resolve(global: &Global, environment: &mut Environment) -> Result<Self, Failure> {
        let sources = Sources::of(global, environment)?;
        let (text, urls_origin) = sources.nats_url(global, environment);
        let urls_named = text.is_some();
        let text = Zeroizing::new(text.unwrap_or_else(|| ServerUrl::local().to_string()));
        let origin = urls_origin
            .as_ref()
            .map_or_else(|| "--nats-url".to_owned(), ToString::to_string);
        let urls = ServerUrl::parse_list(&text)
            .map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
        if urls.is_empty() {
            return Err(Failure::usage(format!("{origin} names no server")));
        }
        let lattice = sources
            .value(
                (
                    "--lattice",
                    global.lattice.as_ref().map(ToString::to_string),
                ),
                |context| context.lattice.clone(),
                environment::LATTICE,
                environment,
            )
            .map_or_else(
                || Ok(LatticeName::default()),
                |(text, origin)| text.parse().map_err(|error| mistaken(&origin, &error)),
            )?;
        let timeout = sources
            .value(
                ("--timeout-ms", global.timeout_ms.map(|ms| ms.to_string())),
                |context| context.timeout_ms.map(|ms| ms.to_string()),
                environment::TIMEOUT_MS,
                environment,
            )
            .map(|(text, origin)| {
                text.parse::<u64>()
                    .map_err(|error| mistaken(&origin, &error))
            })
            .transpose()?
            .map(Duration::from_millis);
        let control_prefix = sources.value(
            ("--control-prefix", global.control_prefix.clone()),
            |context| context.control_prefix.clone(),
            environment::CONTROL_PREFIX,
            environment,
        );
        if let Some((prefix, origin)) = &control_prefix {
            check_control_prefix(prefix)
                .map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
        }
        let js_domain = sources.value(
            ("--js-domain", global.js_domain.clone()),
            |context| context.js_domain.clone(),
            environment::JS_DOMAIN,
            environment,
        );
        let signer = sources.value(
            ("--signer", global.signer.clone()),
            |context| context.signer.clone(),
            environment::SIGNER,
            environment,
        );
        let proof = Proof::find(signer.as_ref().map(|(named, _)| &**named), environment)?;
        let tls = sources.tls(global, environment)?;
        let login = sources.login(global, environment)?;
        Ok(Self {
            urls,
            urls_named,
            urls_origin,
            lattice,
            creds: login.creds,
            tls,
            js_domain: js_domain.map(|(domain, _)| domain),
            control_prefix: control_prefix.map(|(prefix, _)| prefix),
            yes: global.yes,
            proof,
            nkey_seed: login.nkey_seed,
            _login: login.file,
            url_text: UrlText(text),
            timeout,
        })
    }

    /// The URLs as they were written. They may hold a password: for another process's environment, never for people.
    #[must_use]
    pub fn url_text(&self) -> &str {
        &self.url_text.0
    }

    /// Where the servers were named, for people: a flag, a variable, a context.
    #[must_use]
    pub fn urls_origin_text(&self) -> String {
        self.urls_origin
            .as_ref()
            .map_or_else(|| "--nats-url".to_owned(), ToString::to_string)
    }

    /// The servers, for people.
    #[must_use]
    pub fn servers(&self) -> String {
        let urls: Vec<_> = self.urls.iter().map(ToString::to_string).collect();
        urls.join(",")
    }

    /// Whether a server that flags name by host or port counts instead: they stand on the command line, and the URL does
    /// not.
    #[must_use]
    pub fn urls_yield_to(&self, flags: &NatsFlags) -> bool {
        self.urls_origin.is_some() && (flags.nats_host.is_some() || flags.nats_port.is_some())
    }

    /// The same, but with this one server.
    ///
    /// # Errors
    /// A local failure if the text is no URL.
    pub fn at(&self, url: &str) -> Result<Self, Failure> {
        let urls = ServerUrl::parse_list(url).map_err(|error| Failure::local_error(&error))?;
        Ok(Self {
            urls,
            urls_origin: None,
            url_text: UrlText(Zeroizing::new(url.to_owned())),
            ..self.clone()
        })
    }

    /// The same, but with another lattice.
    #[must_use]
    pub fn in_lattice(&self, lattice: LatticeName) -> Self {
        Self {
            lattice,
            ..self.clone()
        }
    }

    /// How to reach the lattice.
    #[must_use]
    pub fn lattice_options(&self) -> LatticeOptions {
        LatticeOptions {
            urls: self.urls.clone(),
            name: "wash".to_owned(),
            lattice: self.lattice.clone(),
            creds_file: self.creds.clone(),
            nkey_seed: self.nkey_seed.clone(),
            tls: self.tls.clone(),
            js_domain: self.js_domain.clone(),
            control_prefix: self
                .control_prefix
                .clone()
                .unwrap_or_else(|| CONTROL_PREFIX_DEFAULT.to_owned()),
            connect_timeout: CONNECT_TIMEOUT.min(self.question_timeout()),
        }
    }

    /// How long a plain question may take.
    #[must_use]
    pub fn question_timeout(&self) -> Duration {
        self.timeout.unwrap_or(QUESTION_TIMEOUT_DEFAULT)
    }

    /// How long a command may take until its outcome is known.
    #[must_use]
    pub fn outcome_timeout(&self) -> Duration {
        self.timeout.unwrap_or(OUTCOME_TIMEOUT_DEFAULT)
    }
}

/// The URL of a host and a port; one that is an IPv6 address stands in brackets.
#[must_use]
pub fn server_url(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("nats://[{host}]:{port}")
    } else {
        format!("nats://{host}:{port}")
    }
}

fn mistaken(origin: &str, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("{origin}: {error}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::context::{Context, Contexts};
    use crate::exit::FailureKind;

    fn global() -> Global {
        Global::default()
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn defaults_fill_in_what_nobody_named() {
        let settings = Settings::resolve(&global(), &mut environment(&[])).unwrap();
        assert_eq!(settings.urls, [ServerUrl::local()]);
        assert!(!settings.urls_named);
        assert_eq!(settings.lattice.as_str(), "default");
        assert_eq!(settings.question_timeout(), QUESTION_TIMEOUT_DEFAULT);
        assert_eq!(settings.outcome_timeout(), OUTCOME_TIMEOUT_DEFAULT);
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let global = Global {
            lattice: Some("flag".parse().unwrap()),
            timeout_ms: Some(7),
            ..global()
        };
        let variables = [("TRELLIS_LATTICE", "variable"), ("TRELLIS_TIMEOUT_MS", "9")];
        let settings = Settings::resolve(&global, &mut environment(&variables)).unwrap();
        assert_eq!(settings.lattice.as_str(), "flag");
        assert_eq!(settings.question_timeout(), Duration::from_millis(7));
    }

    #[test]
    fn a_mistake_names_the_variable_and_hides_the_password() {
        for (name, value) in [
            ("TRELLIS_LATTICE", "a.b"),
            ("TRELLIS_TIMEOUT_MS", "soon"),
            ("TRELLIS_NATS_URL", "http://ada:hunter2@x"),
        ] {
            let failure =
                Settings::resolve(&global(), &mut environment(&[(name, value)])).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage);
            assert!(failure.message().starts_with(name), "{failure}");
            assert!(!failure.message().contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn a_named_context_wins_over_the_environment_and_a_default_one_does_not() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().to_str().unwrap();
        let contexts = Contexts::of(Some(home.path()), &mut environment(&[])).unwrap();
        let site = Context {
            lattice: Some("site".to_owned()),
            nats_url: Some("nats://site:1".to_owned()),
            ..Context::default()
        };
        contexts.save("site", &site, false).unwrap();
        contexts.set_default("site").unwrap();
        let variables = [
            ("TRELLIS_CONTEXTS", directory),
            ("TRELLIS_LATTICE", "variable"),
        ];
        let settings = Settings::resolve(&global(), &mut environment(&variables)).unwrap();
        assert_eq!(settings.lattice.as_str(), "variable");
        assert_eq!(settings.servers(), "nats://site:1");
        assert_eq!(
            settings.urls_origin,
            Some(Origin::Context("site".to_owned()))
        );

        let named = Global {
            context: Some("site".to_owned()),
            ..global()
        };
        let settings = Settings::resolve(&named, &mut environment(&variables)).unwrap();
        assert_eq!(settings.lattice.as_str(), "site");
        let missing = Global {
            context: Some("nowhere".to_owned()),
            ..global()
        };
        let failure = Settings::resolve(&missing, &mut environment(&variables)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Local);
    }

    #[test]
    fn host_and_port_make_a_url() {
        let global = Global {
            ctl_host: Some("::1".to_owned()),
            ..global()
        };
        let settings = Settings::resolve(&global, &mut environment(&[])).unwrap();
        assert_eq!(settings.servers(), "nats://[::1]:4222");
        assert!(settings.urls_named);
    }

    #[test]
    fn a_seed_on_the_command_line_is_refused_and_one_in_a_variable_is_not() {
        let key = trellis_claims::SigningKey::generate(trellis_claims::KeyKind::User);
        let seed = key.seed();
        let global = Global {
            nats_seed: Some(seed.to_string()),
            ..global()
        };
        let failure = Settings::resolve(&global, &mut environment(&[])).unwrap_err();
        assert!(!failure.message().contains(&*seed), "{failure}");
        let variables = [("WASMCLOUD_CTL_SEED", seed.as_str())];
        let settings = Settings::resolve(&Global::default(), &mut environment(&variables)).unwrap();
        assert!(settings.lattice_options().nkey_seed.is_some());
    }

    #[test]
    fn a_jwt_and_a_seed_become_a_credentials_file_of_our_own() {
        let key = trellis_claims::SigningKey::generate(trellis_claims::KeyKind::User);
        let seed = key.seed();
        let variables = [
            ("TRELLIS_NATS_JWT", "a.b.c"),
            ("TRELLIS_NATS_SEED", seed.as_str()),
        ];
        let settings = Settings::resolve(&global(), &mut environment(&variables)).unwrap();
        let path = settings.creds.clone().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\na.b.c\n") && text.contains(&*seed));
        drop(settings);
        assert!(!path.exists());
    }
}
