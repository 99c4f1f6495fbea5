//! Signed actors, and some that are signed wrongly on purpose.

use std::path::Path;
use std::time::Duration;

use trellis_claims::{
    Capability, ContentHash, KeyKind, NewActorToken, SigningKey, UnixTime, Validity, content_hash,
    embed,
};

use crate::binary;

/// How long tokens of tests are valid.
pub const VALID_FOR: Duration = Duration::from_secs(3_600);

/// What an actor is granted in its own `trellis.toml`.
///
/// # Panics
/// Where that file is missing, or lists something else than capabilities.
pub fn capabilities(actor: &str) -> Vec<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../actors/{actor}/trellis.toml"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{} can't be read: {error}", path.display()));
    let project: toml::Table = text
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    project["capabilities"]
        .as_array()
        .expect("capabilities are a list")
        .iter()
        .map(|capability| {
            capability
                .as_str()
                .expect("a capability is a text")
                .to_owned()
        })
        .collect()
}

/// How an actor is signed. Built by [`Signature::of`] and the methods that follow it.
#[derive(Debug)]
pub struct Signature<'a> {
    actor: String,
    issuer: &'a SigningKey,
    subject: SigningKey,
    capabilities: Vec<Capability>,
    validity: Validity,
    hash: Option<ContentHash>,
    component: Option<Vec<u8>>,
}

impl<'a> Signature<'a> {
    /// A signature as it should be: by this account, for a new identity, with the actor's usual grants.
    pub fn of(actor: &str, issuer: &'a SigningKey) -> Self {
        Self {
            actor: actor.to_owned(),
            issuer,
            subject: SigningKey::generate(KeyKind::Module),
            capabilities: Vec::new(),
            validity: Validity::starting(UnixTime::now(), VALID_FOR),
            hash: None,
            component: None,
        }
        .granting(&capabilities(actor))
    }

    /// With these grants instead.
    ///
    /// # Panics
    /// Where one is no capability.
    #[must_use]
    pub fn granting<T: AsRef<str>>(mut self, capabilities: &[T]) -> Self {
        self.capabilities = capabilities
            .iter()
            .map(|text| {
                let text = text.as_ref();
                text.parse().expect("a test names capabilities rightly")
            })
            .collect();
        self
    }

    /// For this identity.
    #[must_use]
    pub fn for_subject(mut self, subject: SigningKey) -> Self {
        self.subject = subject;
        self
    }

    /// Which was valid once.
    #[must_use]
    pub fn expired(mut self) -> Self {
        let then = UnixTime::now().saturating_sub(2 * VALID_FOR);
        self.validity = Validity::starting(then, VALID_FOR);
        self
    }

    /// Made for another component.
    ///
    /// # Panics
    /// Where that one is not built.
    #[must_use]
    pub fn over(mut self, other: &str) -> Self {
        let other = binary::component(other);
        self.hash = Some(content_hash(&other).expect("an actor is a component"));
        self
    }

    /// With this component instead of the one that is built under the actor's name.
    #[must_use]
    pub fn with(mut self, component: Vec<u8>) -> Self {
        self.component = Some(component);
        self
    }

    /// The signed component.
    ///
    /// # Panics
    /// Where it is not built, or cannot be signed.
    pub fn component(self) -> Vec<u8> {
        let component = self
            .component
            .unwrap_or_else(|| binary::component(&self.actor));
        let hash = self
            .hash
            .unwrap_or_else(|| content_hash(&component).expect("an actor is a component"));
        let token = NewActorToken {
            subject: self.subject.public().clone(),
            name: self.actor,
            version: "0.1.0".to_owned(),
            revision: 1,
            tags: vec!["test".to_owned()],
            call_alias: None,
            capabilities: self.capabilities.into_iter().collect(),
            content_hash: hash,
            validity: self.validity,
            account_token: None,
        }
        .sign(self.issuer, self.validity.not_before)
        .expect("a token of a test can be signed");
        embed(&component, &token).expect("a token fits a component")
    }
}

/// The reference by which a host takes a file.
pub fn reference(path: &Path) -> String {
    format!("file://{}", path.display())
}
