//! Ed25519 keys in the nkeys encoding: a base32 text whose first letter says what the key is for.
//!
//! `nkeys` encodes and decodes; signatures are made and checked by the Ed25519 of `jwt-simple`, which refuses weak
//! public keys where `nkeys` takes them. Three traps of `nkeys` are closed here, before a text reaches it: a seed of a
//! curve key (`SX…`) would be taken for an Ed25519 one, an unknown prefix would become an operator's, and seeds are not
//! wiped from memory. What `nkeys` copies while it encodes and decodes is the one thing this module cannot wipe.
//!
//! Keys live in files and environments; this module knows neither.

use std::fmt;
use std::str::FromStr;

use jwt_simple::algorithms::{
    Ed25519KeyPair, Ed25519PublicKey, EdDSAKeyPairLike as _, EdDSAPublicKeyLike as _,
};
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Length of a public key's text, in bytes.
pub const PUBLIC_KEY_BYTES: usize = 56;

/// Length of a seed's text, in bytes.
pub const SEED_BYTES: usize = 58;

/// Length of a signature, in bytes (RFC 8032).
pub const SIGNATURE_BYTES: usize = 64;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// `O…`: signs accounts.
    Operator,
    /// `A…`: signs actors.
    Account,
    /// `M…`: an actor's identity across its revisions.
    Module,
    /// `N…`: a host.
    Host,
    /// `V…`: a capability provider.
    Provider,
    /// `U…`: a person or program that talks to NATS or to the lattice's control interface.
    User,
}

impl KeyKind {
    /// Every kind there is.
    pub const ALL: [Self; 6] = [
        Self::Operator,
        Self::Account,
        Self::Module,
        Self::Host,
        Self::Provider,
        Self::User,
    ];

    /// The first letter of a public key of this kind, and the second of its seed.
    #[must_use]
    pub const fn prefix(self) -> char {
        match self {
            Self::Operator => 'O',
            Self::Account => 'A',
            Self::Module => 'M',
            Self::Host => 'N',
            Self::Provider => 'V',
            Self::User => 'U',
        }
    }

    /// The kind in one lower case word, as it is read by [`FromStr`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Account => "account",
            Self::Module => "module",
            Self::Host => "host",
            Self::Provider => "provider",
            Self::User => "user",
        }
    }

    fn from_prefix(prefix: char) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }

    /// Prefixes are five bits, written as the base32 digit of their letter.
    fn from_prefix_byte(byte: u8) -> Option<Self> {
        let letter = |kind: &Self| (kind.prefix() as u8 - b'A') << 3 == byte;
        Self::ALL.into_iter().find(letter)
    }

    const fn nkeys_type(self) -> KeyPairType {
        match self {
            Self::Operator => KeyPairType::Operator,
            Self::Account => KeyPairType::Account,
            Self::Module => KeyPairType::Module,
            Self::Host => KeyPairType::Server,
            Self::Provider => KeyPairType::Service,
            Self::User => KeyPairType::User,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for KeyKind {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or(KeyError::UnknownKind)
    }
}

/// Why a text is no key, or not the wanted one, or why a signature does not hold.
///
/// The refused text is never repeated: somebody will paste a seed where a public key belongs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not as long as a key of this sort must be.
    #[error("cannot read a key: expected {expected} characters, got {found}")]
    Length {
        /// Length of such a key, in bytes.
        expected: usize,
        /// Length of the refused text, in bytes.
        found: usize,
    },
    /// Not base32, or its checksum does not fit.
    #[error(
        "cannot read a key: its checksum does not fit, so it was cut or mistyped; copy it again"
    )]
    Checksum,
    /// No kind of key that this project knows, such as a curve key (`X…`).
    #[error(
        "cannot read a key of this kind: expected operator (O), account (A), module (M), host (N), provider (V) or user (U)"
    )]
    UnknownKind,
    /// Another kind than the one wanted.
    #[error("expected the key of {}, got that of {}", article(*.expected), article(*.found))]
    WrongKind {
        /// The wanted kind.
        expected: KeyKind,
        /// The kind of the given key.
        found: KeyKind,
    },
    /// A seed where a public key belongs.
    #[error(
        "expected a public key, got a seed: seeds stay secret; give the public key, and make a new seed if this one went astray"
    )]
    SeedInsteadOfPublicKey,
    /// A point for which signatures can be forged, or no point of the curve.
    #[error(
        "this public key is weak or no point of the curve, so its signatures prove nothing; make a new key"
    )]
    Weak,
    /// The signature was not made by this key over this message.
    #[error("the signature does not match the key and the message")]
    BadSignature,
}

fn article(kind: KeyKind) -> String {
    match kind {
        KeyKind::Operator | KeyKind::Account => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// A public key whose form, checksum and kind have been checked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(String);

impl PublicKey {
    /// Reads a key that must be of `kind`.
    ///
    /// # Errors
    /// As [`FromStr`], and [`KeyError::WrongKind`].
    pub fn parse(text: &str, kind: KeyKind) -> Result<Self, KeyError> {
        let key: Self = text.parse()?;
        key.expect_kind(kind)?;
        Ok(key)
    }

    /// What the key is for.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.0
            .chars()
            .next()
            .and_then(KeyKind::from_prefix)
            .expect("the prefix was checked when the key was made")
    }

    /// The key's text, 56 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes of the curve point (RFC 8032).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let (_, bytes) = nkeys::from_public_key(&self.0)
            .expect("the encoding was checked when the key was made");
        bytes
    }

    /// Refuses a key of another kind.
    ///
    /// # Errors
    /// [`KeyError::WrongKind`].
    pub fn expect_kind(&self, expected: KeyKind) -> Result<(), KeyError> {
        let found = self.kind();
        if found == expected {
            Ok(())
        } else {
            Err(KeyError::WrongKind { expected, found })
        }
    }

    /// Refuses a key that could never verify anything honestly.
    ///
    /// Reading a key does not do this, since it costs some curve arithmetic; verifying always does.
    ///
    /// # Errors
    /// [`KeyError::Weak`].
    pub fn check_strength(&self) -> Result<(), KeyError> {
        self.verifying_key().map(drop)
    }

    /// Checks that `signature` was made over `message` by the owner of this key.
    ///
    /// # Errors
    /// [`KeyError::Weak`] if the key is, else [`KeyError::BadSignature`].
    pub fn verify_bytes(
        &self,
        message: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), KeyError> {
        let key = self.verifying_key()?;
        let signature = signature
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::BadSignature)?;
        key.public_key()
            .as_ref()
            .verify(message, &signature)
            .map_err(|_| KeyError::BadSignature)
    }

    pub(crate) fn verifying_key(&self) -> Result<Ed25519PublicKey, KeyError> {
        Ed25519PublicKey::from_bytes(&self.to_bytes()).map_err(|_| KeyError::Weak)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == SEED_BYTES && text.starts_with('S') {
            return Err(KeyError::SeedInsteadOfPublicKey);
        }
        if text.len() != PUBLIC_KEY_BYTES {
            return Err(KeyError::Length {
                expected: PUBLIC_KEY_BYTES,
                found: text.len(),
            });
        }
        text.chars()
            .next()
            .and_then(KeyKind::from_prefix)
            .ok_or(KeyError::UnknownKind)?;
        let (prefix, _) = nkeys::from_public_key(text).map_err(|_| KeyError::Checksum)?;
        KeyKind::from_prefix_byte(prefix).ok_or(KeyError::UnknownKind)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.0)
    }
}

impl AsRef<str> for PublicKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A key that can sign. Holds the secret; `Debug` shows the public part alone.
///
/// Not `Clone`: share it behind an `Arc`, so that there is one copy to wipe.
pub struct SigningKey {
    public: PublicKey,
    secret: Zeroizing<[u8; 32]>,
    /// Wipes itself when dropped.
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Makes a new key from the system's randomness.
    #[must_use]
    pub fn generate(kind: KeyKind) -> Self {
        let secret = Zeroizing::new(rand::random::<[u8; 32]>());
        Self::from_secret(kind, secret).expect("every 32 bytes are an Ed25519 secret")
    }

    /// Reads a key from its seed (`SA…`, `SM…`, …).
    ///
    /// # Errors
    /// [`KeyError::Length`], [`KeyError::UnknownKind`] or [`KeyError::Checksum`], none of which repeats the seed.
    pub fn from_seed(seed: &str) -> Result<Self, KeyError> {
        if seed.len() != SEED_BYTES {
            return Err(KeyError::Length {
                expected: SEED_BYTES,
                found: seed.len(),
            });
        }
        let (prefix, secret) = nkeys::decode_seed(seed).map_err(|_| KeyError::Checksum)?;
        let secret = Zeroizing::new(secret);
        let kind = KeyKind::from_prefix_byte(prefix).ok_or(KeyError::UnknownKind)?;
        Self::from_secret(kind, secret)
    }

    /// Reads a key from its seed, which must be of `kind`.
    ///
    /// # Errors
    /// As [`SigningKey::from_seed`], and [`KeyError::WrongKind`].
    pub fn from_seed_of(kind: KeyKind, seed: &str) -> Result<Self, KeyError> {
        let key = Self::from_seed(seed)?;
        key.public.expect_kind(kind)?;
        Ok(key)
    }

    fn from_secret(kind: KeyKind, secret: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let encoded = KeyPair::new_from_raw(kind.nkeys_type(), *secret)
            .map_err(|_| KeyError::Checksum)?
            .public_key();
        let public = PublicKey(encoded);
        let mut both = Zeroizing::new([0; 64]);
        both[..32].copy_from_slice(secret.as_slice());
        both[32..].copy_from_slice(&public.to_bytes());
        let pair = Ed25519KeyPair::from_bytes(both.as_slice()).map_err(|_| KeyError::Weak)?;
        Ok(Self {
            public,
            secret,
            pair,
        })
    }

    /// The secret as its text, for a file of mode 0600. Wiped when dropped.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<String> {
        let seed = KeyPair::new_from_raw(self.kind().nkeys_type(), *self.secret)
            .and_then(|pair| pair.seed())
            .expect("a pair made from a secret has a seed");
        Zeroizing::new(seed)
    }

    /// What the key is for.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.public.kind()
    }

    /// The part that everybody may know.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` (RFC 8032, pure Ed25519: the same message gives the same signature).
    ///
    /// The signature says nothing about what the message is for. Begin each sort of message with words of its own.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        *self.pair.key_pair().as_ref().sk.sign(message, None)
    }

    pub(crate) fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, seed hidden)", self.public)
    }
}

#[cfg(test)]
mod tests;
