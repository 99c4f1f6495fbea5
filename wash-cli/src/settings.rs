//! What the global flags come to, once the environment and the defaults have filled in what was left out.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use trellis_lattice::connection::{LatticeOptions, ServerUrl};
use trellis_protocol::LatticeName;
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::environment::{self, Environment};
use crate::exit::Failure;

/// How long a plain question to the lattice may take.
pub const QUESTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How long a command may take until its outcome is known: fetching and compiling a large component, on a small device.
pub const OUTCOME_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Longest that a connection to NATS is tried. The person in front of the terminal is waiting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the lattice is, and how patient to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Servers of one NATS system.
    pub urls: Vec<ServerUrl>,
    /// Whether somebody named them, by flag or environment.
    pub urls_named: bool,
    /// The environment variables that named them, for people, if it was the environment.
    pub urls_variable: Option<String>,
    /// The lattice.
    pub lattice: LatticeName,
    /// Credentials file for NATS.
    pub creds: Option<PathBuf>,
    url_text: UrlText,
    timeout: Option<Duration>,
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
    /// Puts flags, environment and defaults together.
    ///
    /// # Errors
    /// A usage failure that names what cannot be read, and where it came from.
    pub fn resolve(global: &Global, environment: &mut Environment) -> Result<Self, Failure> {
        let (text, urls_variable) = match &global.nats_url {
            Some(url) => (Some(url.clone()), None),
            None => environment.nats_url().unzip(),
        };
        let origin = urls_variable.as_deref().unwrap_or("--nats-url");
        let urls_named = text.is_some();
        let text = Zeroizing::new(text.unwrap_or_else(|| ServerUrl::local().to_string()));
        let urls = ServerUrl::parse_list(&text)
            .map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
        if urls.is_empty() {
            return Err(Failure::usage(format!("{origin} names no server")));
        }
        let lattice = match &global.lattice {
            Some(lattice) => lattice.clone(),
            None => match environment.text(environment::LATTICE) {
                Some(text) => text
                    .parse()
                    .map_err(|error| in_variable(environment::LATTICE, &error))?,
                None => LatticeName::default(),
            },
        };
        let timeout_ms = match global.timeout_ms {
            Some(ms) => Some(ms),
            None => match environment.text(environment::TIMEOUT_MS) {
                Some(text) => Some(
                    text.parse::<u64>()
                        .map_err(|error| in_variable(environment::TIMEOUT_MS, &error))?,
                ),
                None => None,
            },
        };
        let creds = global
            .creds
            .clone()
            .or_else(|| environment.get(environment::CREDS).map(PathBuf::from));
        Ok(Self {
            urls,
            urls_named,
            urls_variable,
            lattice,
            creds,
            url_text: UrlText(text),
            timeout: timeout_ms.map(Duration::from_millis),
        })
    }

    /// The URLs as they were written. They may hold a password: for another process's environment, never for people.
    #[must_use]
    pub fn url_text(&self) -> &str {
        &self.url_text.0
    }

    /// The servers, for people.
    #[must_use]
    pub fn servers(&self) -> String {
        let urls: Vec<_> = self.urls.iter().map(ToString::to_string).collect();
        urls.join(",")
    }

    /// The same, but with this one server.
    ///
    /// # Errors
    /// A local failure if the text is no URL.
    pub fn at(&self, url: &str) -> Result<Self, Failure> {
        let urls = ServerUrl::parse_list(url).map_err(|error| Failure::local_error(&error))?;
        Ok(Self {
            urls,
            urls_variable: None,
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
            connect_timeout: CONNECT_TIMEOUT.min(self.question_timeout()),
            ..LatticeOptions::default()
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

fn in_variable(variable: environment::Variable, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("{}: {error}", variable.name))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::exit::FailureKind;
    use crate::output::Format;

    fn global() -> Global {
        Global {
            nats_url: None,
            lattice: None,
            creds: None,
            timeout_ms: None,
            output: Format::Table,
        }
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
}
