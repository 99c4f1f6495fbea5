//! A key by its seed, from where people keep it: a file, a variable, and never the command line, which every process of
//! the machine can read.

use trellis_claims::{KeyKind, SigningKey};

use crate::environment::{Environment, Variable};
use crate::exit::Failure;
use crate::keys::{KeySource, signing_key};

/// Reads the key that a text leads to: a file with its seed, `env:VARIABLE`, or, unless it stands on the command line, the
/// seed itself.
///
/// # Errors
/// A usage failure that names `origin`, a local one about the file or the variable.
pub fn read(
    text: &str,
    on_command_line: bool,
    origin: &str,
    kind: KeyKind,
    environment: &Environment,
) -> Result<SigningKey, Failure> {
    if !on_command_line && let Ok(key) = SigningKey::from_seed(text.trim()) {
        return if key.public().kind() == kind {
            Ok(key)
        } else {
            Err(Failure::usage(format!(
                "{origin} holds the seed of a key for {}; one for {} is needed",
                key.public().kind().name(),
                kind.name()
            )))
        };
    }
    let source =
        KeySource::parse(text).map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
    Ok(signing_key(&source, kind, environment)?)
}

/// The key that a flag leads to, else a variable; none where neither is there.
///
/// # Errors
/// As [`read`].
pub fn flag_or_variable(
    flag: Option<&str>,
    name: &str,
    variable: Variable,
    kind: KeyKind,
    environment: &mut Environment,
) -> Result<Option<SigningKey>, Failure> {
    if let Some(text) = flag {
        return read(text, true, name, kind, environment).map(Some);
    }
    match environment.text(variable) {
        Some(text) => read(&text, false, variable.name, kind, environment).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::environment::HOST_SEED;

    #[test]
    fn a_variable_may_hold_the_seed_and_a_flag_may_not() {
        let key = SigningKey::generate(KeyKind::Host);
        let seed = key.seed();
        let mut environment: Environment = [("WASMCLOUD_HOST_SEED", seed.as_str())]
            .into_iter()
            .collect();
        let mut read = |flag| {
            flag_or_variable(
                flag,
                "--host-seed",
                HOST_SEED,
                KeyKind::Host,
                &mut environment,
            )
        };
        assert_eq!(read(None).unwrap().unwrap().public(), key.public());
        let failure = read(Some(seed.as_str())).unwrap_err();
        assert!(!failure.message().contains(&*seed), "{failure}");
        assert!(failure.message().starts_with("--host-seed"), "{failure}");
    }

    #[test]
    fn a_key_of_another_kind_is_refused_by_its_kind() {
        let seed = SigningKey::generate(KeyKind::Account).seed();
        let failure = read(
            &seed,
            false,
            "TRELLIS_HOST_SEED",
            KeyKind::Host,
            &Environment::default(),
        )
        .unwrap_err();
        assert!(failure.message().contains("account"), "{failure}");
        assert!(!failure.message().contains(&*seed), "{failure}");
    }
}
