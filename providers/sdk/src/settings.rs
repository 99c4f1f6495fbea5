//! Reading a configuration: known keys alone, empty values as none, and mistakes told by their key.
//!
//! What is wrong with a value is said without the value, which may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::link::LinkError;
use crate::provider::StartError;

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration key `{key}`: {reason}")]
pub struct ConfigError {
    /// The key, as it was given.
    pub key: String,
    /// What is wrong with its value, or what it should be; never the value of a secret.
    pub reason: String,
}

impl ConfigError {
    /// Something wrong with the value of a key. The reason must not repeat a value that may be a secret.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl From<ConfigError> for LinkError {
    fn from(ConfigError { key, reason }: ConfigError) -> Self {
        Self::Config { key, reason }
    }
}

impl From<ConfigError> for StartError {
    fn from(ConfigError { key, reason }: ConfigError) -> Self {
        Self::Config { key, reason }
    }
}

/// The value of a key with surrounding white space cut off; an empty one counts as none.
pub fn given<'a>(config: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    config
        .get(key)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// Refuses a configuration with a key that is not among those allowed, and says which are.
///
/// # Errors
/// [`ConfigError`] for the first such key.
pub fn known(config: &BTreeMap<String, String>, allowed: &[&[&str]]) -> Result<(), ConfigError> {
    let allowed = allowed.concat();
    match unknown(config, &allowed) {
        None => Ok(()),
        Some(key) => Err(ConfigError::new(
            key,
            format!("unknown; the keys are {}", allowed.join(", ")),
        )),
    }
}

fn unknown<'a>(config: &'a BTreeMap<String, String>, allowed: &[&str]) -> Option<&'a str> {
    let mut keys = config.keys().map(String::as_str);
    keys.find(|key| !allowed.contains(key))
}

/// A configuration whose keys are all known.
pub struct Settings<'a> {
    values: &'a BTreeMap<String, String>,
}

impl fmt::Debug for Settings<'_> {
    /// Shows the keys, never the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl<'a> Settings<'a> {
    /// Checks that every key is known.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is not.
    pub fn new(
        values: &'a BTreeMap<String, String>,
        allowed: &[&str],
    ) -> Result<Self, ConfigError> {
        match unknown(values, allowed) {
            None => Ok(Self { values }),
            Some(key) => Err(ConfigError::new(
                key,
                format!("unknown; the known keys are {}", allowed.join(", ")),
            )),
        }
    }

    /// The value, as [`given`].
    pub fn text(&self, key: &str) -> Option<&'a str> {
        given(self.values, key)
    }

    /// The value, parsed.
    ///
    /// # Errors
    /// [`ConfigError`] with the parser's reason.
    pub fn parsed<T>(&self, key: &str) -> Result<Option<T>, ConfigError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text(key)
            .map(|text| {
                text.parse()
                    .map_err(|error: T::Err| ConfigError::new(key, error.to_string()))
            })
            .transpose()
    }

    /// A whole number within bounds, or the default.
    ///
    /// # Errors
    /// [`ConfigError`] where it is none, or out of bounds.
    pub fn number(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let out_of_bounds = || {
            let (least, most) = (bounds.start(), bounds.end());
            ConfigError::new(
                key,
                format!("must be a whole number from {least} to {most}"),
            )
        };
        match self.text(key) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| bounds.contains(number))
                .ok_or_else(out_of_bounds),
        }
    }

    /// [`number`](Self::number) of things in memory: bounds that this machine cannot count to end where it does.
    ///
    /// # Errors
    /// As `number`.
    pub fn count(
        &self,
        key: &str,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<usize, ConfigError> {
        self.number(key, bounds, default)
            .map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// A time in milliseconds, of at least one and at most `max`, or the default.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn millis(
        &self,
        key: &str,
        max: Duration,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let in_millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.number(key, 1..=in_millis(max), in_millis(default))
            .map(Duration::from_millis)
    }

    /// `true` or `false`; `false` where absent.
    ///
    /// # Errors
    /// [`ConfigError`] for any other value.
    pub fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        match self.text(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ConfigError::new(key, "must be `true` or `false`")),
        }
    }

    /// The parts of a list separated by commas, without empty ones.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text(key)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::harness::values;

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones_and_without_its_value() {
        let config = values(&[("a", "1"), ("c", "secret")]);
        let by_function = known(&config, &[&["a"], &["b"]]).unwrap_err();
        let by_settings = Settings::new(&config, &["a", "b"]).unwrap_err();
        for error in [by_function, by_settings] {
            assert_eq!(error.key, "c");
            assert!(error.reason.ends_with("keys are a, b"), "{error}");
        }
        assert_eq!(known(&config, &[&["a", "c"]]), Ok(()));
        assert!(!format!("{:?}", Settings { values: &config }).contains("secret"));
    }

    #[test]
    fn an_empty_value_counts_as_none_and_white_space_around_one_is_cut_off() {
        let config = values(&[("empty", ""), ("blank", " "), ("text", " a b ")]);
        assert_eq!(given(&config, "empty"), None);
        assert_eq!(given(&config, "blank"), None);
        assert_eq!(given(&config, "text"), Some("a b"));
        assert_eq!(given(&config, "absent"), None);
    }

    #[test]
    fn a_number_is_held_to_its_bounds_on_both_sides() {
        for (value, read) in [
            ("", Some(3)),
            ("1", None),
            ("2", Some(2)),
            ("4", Some(4)),
            ("5", None),
            ("-2", None),
            ("x", None),
        ] {
            let config = values(&[("n", value)]);
            let settings = Settings::new(&config, &["n"]).unwrap();
            let number = settings.number("n", 2..=4, 3);
            assert_eq!(number.clone().ok(), read, "{value}");
            if let Err(error) = number {
                assert_eq!(error.reason, "must be a whole number from 2 to 4");
            }
            let count = settings.count("n", 2..=4, 3).ok();
            assert_eq!(count, read.map(|number| number as usize), "{value}");
        }
    }

    #[test]
    fn a_time_is_at_least_a_millisecond_and_at_most_the_longest() {
        for (value, read) in [("0", None), ("1", Some(1)), ("20", Some(20)), ("21", None)] {
            let config = values(&[("t", value)]);
            let settings = Settings::new(&config, &["t"]).unwrap();
            let time = settings.millis("t", Duration::from_millis(20), Duration::from_millis(7));
            assert_eq!(time.ok(), read.map(Duration::from_millis), "{value}");
        }
    }

    #[test]
    fn flags_lists_and_parsed_values_are_none_where_they_are_absent() {
        let config = values(&[
            ("on", "true"),
            ("odd", "yes"),
            ("list", "a, ,b,"),
            ("p", "x"),
        ]);
        let settings = Settings::new(&config, &["on", "odd", "list", "p"]).unwrap();
        assert_eq!(settings.flag("on"), Ok(true));
        assert_eq!(settings.flag("absent"), Ok(false));
        assert_eq!(settings.flag("odd").unwrap_err().key, "odd");
        assert_eq!(settings.list("list").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(settings.list("absent").count(), 0);
        assert_eq!(settings.parsed::<u16>("absent"), Ok(None));
        assert_eq!(settings.parsed::<u16>("p").unwrap_err().key, "p");
    }

    #[test]
    fn a_mistake_keeps_its_key_and_reason_as_an_error_of_a_link_and_of_a_start() {
        let error = ConfigError::new("k", "wrong");
        let told = error.to_string();
        assert_eq!(LinkError::from(error.clone()).to_string(), told);
        assert_eq!(StartError::from(error).to_string(), told);
    }
}
