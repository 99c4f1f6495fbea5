//! [`TrustRoots`]: the keys that the operator of a host believes, accounts and operators.
//!
//! They reach a host by flag, file or environment, never over NATS. With none, nothing is believed and nothing starts.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::key::{KeyError, KeyKind, PublicKey};

/// How many roots there can be. Whoever has more accounts than this has an operator key to vouch for them.
pub const TRUST_ROOTS_MAX: usize = 1024;

/// The public keys at which chains of trust may end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRoots(BTreeSet<PublicKey>);

/// Why a list of trust roots is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootsError {
    /// A line is no public key.
    #[error("cannot read the trust root on line {line}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        cause: RootError,
    },
    /// More than [`TRUST_ROOTS_MAX`].
    #[error(
        "refused the trust roots: more than {TRUST_ROOTS_MAX}; trust an operator key and let it vouch for accounts"
    )]
    TooMany,
}

/// Why a key cannot be a trust root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// It is no key, or a weak one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Only accounts and operators can be trusted with the claims of others.
    #[error(
        "a {found}'s key cannot be a trust root: expected that of an account (A) or an operator (O)"
    )]
    Kind {
        /// The kind of the given key.
        found: KeyKind,
    },
}

impl TrustRoots {
    /// Trusts one key more.
    ///
    /// # Errors
    /// [`RootError`] if the key is weak, or neither an account's nor an operator's.
    pub fn insert(&mut self, root: PublicKey) -> Result<(), RootError> {
        match root.kind() {
            KeyKind::Account | KeyKind::Operator => {}
            found => return Err(RootError::Kind { found }),
        }
        root.check_strength()?;
        self.0.insert(root);
        Ok(())
    }

    /// Whether `key` is one of them.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.0.contains(key)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One key a line; what follows a `#` is a comment; several keys on a line may be set apart by commas or blanks, as in
/// an environment variable.
impl FromStr for TrustRoots {
    type Err = TrustRootsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut roots = Self::default();
        for (index, line) in text.lines().enumerate() {
            let keys = line.split_once('#').map_or(line, |(keys, _)| keys);
            for key in keys.split([',', ' ', '\t']).filter(|key| !key.is_empty()) {
                key.parse()
                    .map_err(RootError::from)
                    .and_then(|root| roots.insert(root))
                    .map_err(|cause| TrustRootsError::Line {
                        line: index + 1,
                        cause,
                    })?;
                if roots.len() > TRUST_ROOTS_MAX {
                    return Err(TrustRootsError::TooMany);
                }
            }
        }
        Ok(roots)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn new_key(kind: KeyKind) -> PublicKey {
        SigningKey::generate(kind).public().clone()
    }

    #[test]
    fn a_file_of_keys_and_comments_is_read() {
        let (account, operator) = (new_key(KeyKind::Account), new_key(KeyKind::Operator));
        let text = format!("# ours\r\n{account} # the team\n\n  {operator}\n");
        let roots: TrustRoots = text.parse().unwrap();
        assert_eq!(roots.len(), 2);
        assert!(roots.contains(&account) && roots.contains(&operator));
    }

    #[test]
    fn an_environment_variable_with_commas_is_read() {
        let (first, second) = (new_key(KeyKind::Account), new_key(KeyKind::Account));
        let roots: TrustRoots = format!("{first},{second}").parse().unwrap();
        assert!(roots.contains(&first) && roots.contains(&second));
    }

    #[test]
    fn an_empty_file_trusts_nobody() {
        let roots: TrustRoots = "\n# nobody yet\n".parse().unwrap();
        assert!(roots.is_empty());
        assert!(!roots.contains(&new_key(KeyKind::Account)));
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let text = format!("{}\nAB\n", new_key(KeyKind::Account));
        assert!(matches!(
            text.parse::<TrustRoots>(),
            Err(TrustRootsError::Line { line: 2, .. })
        ));
    }

    #[test]
    fn other_kinds_of_keys_are_no_roots() {
        for kind in [
            KeyKind::Module,
            KeyKind::Host,
            KeyKind::Provider,
            KeyKind::User,
        ] {
            assert_eq!(
                TrustRoots::default().insert(new_key(kind)),
                Err(RootError::Kind { found: kind })
            );
        }
    }

    #[test]
    fn a_seed_among_the_roots_is_not_repeated_in_the_error() {
        let seed = SigningKey::generate(KeyKind::Account).seed();
        let error = seed.parse::<TrustRoots>().unwrap_err();
        assert_eq!(
            error,
            TrustRootsError::Line {
                line: 1,
                cause: RootError::Key(KeyError::SeedInsteadOfPublicKey)
            }
        );
    }

    #[test]
    fn as_many_roots_as_there_can_be_are_read_and_one_more_is_not() {
        let mut text = String::new();
        for _ in 0..TRUST_ROOTS_MAX {
            text += &format!("{}\n", new_key(KeyKind::Account));
        }
        assert_eq!(text.parse::<TrustRoots>().unwrap().len(), TRUST_ROOTS_MAX);
        text += new_key(KeyKind::Account).as_str();
        assert_eq!(text.parse::<TrustRoots>(), Err(TrustRootsError::TooMany));
    }
}
