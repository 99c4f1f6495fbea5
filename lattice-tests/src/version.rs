//! Versions of one actor: the same code that says something else, and some that are of no use.

use trellis_claims::{KeyKind, SigningKey};

use crate::Lattice;
use crate::actor::Signature;
use crate::binary;

/// A component whose core module starts with a trap: it verifies and compiles, and no instance of it ever starts.
const TRAPS_AT_START: &[u8] = &[
    // A component.
    0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00,
    // Section 1, a core module of 28 bytes: a function type, a function, which is where it starts, and `unreachable`.
    0x01, 0x1c, 0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, //
    0x01, 0x04, 0x01, 0x60, 0x00, 0x00, //
    0x03, 0x02, 0x01, 0x00, //
    0x08, 0x01, 0x00, //
    0x0a, 0x05, 0x01, 0x03, 0x00, 0x00, 0x0b,
    // Section 2, a core instance: that module, without arguments.
    0x02, 0x04, 0x01, 0x00, 0x00, 0x00,
];

/// Makes versions of one actor, all for the same subject.
#[derive(Debug)]
pub struct Versions {
    actor: String,
    subject: SigningKey,
}

impl Versions {
    /// Of an actor that is called so.
    pub fn of(actor: &str) -> Self {
        Self {
            actor: actor.to_owned(),
            subject: SigningKey::generate(KeyKind::Module),
        }
    }

    /// The actor as it was built; gives back its reference.
    pub fn as_built(&self, lattice: &Lattice) -> String {
        lattice.file(&self.signed(lattice, binary::component(&self.actor)))
    }

    /// The actor with one text in place of another of the same length; gives back its reference.
    ///
    /// # Panics
    /// Where the text does not stand in it once.
    pub fn saying(&self, lattice: &Lattice, instead_of: &str, text: &str) -> String {
        lattice.file(&self.component_saying(lattice, instead_of, text))
    }

    /// As [`Self::saying`], but the signed component itself.
    ///
    /// # Panics
    /// Where the text does not stand in it once.
    pub fn component_saying(&self, lattice: &Lattice, instead_of: &str, text: &str) -> Vec<u8> {
        let mut component = binary::component(&self.actor);
        assert_eq!(instead_of.len(), text.len(), "nothing else may move");
        let places: Vec<_> = component
            .windows(instead_of.len())
            .enumerate()
            .filter(|(_, window)| *window == instead_of.as_bytes())
            .map(|(place, _)| place)
            .collect();
        let [place] = places[..] else {
            panic!("{instead_of:?} stands {} times in it", places.len());
        };
        component[place..place + text.len()].copy_from_slice(text.as_bytes());
        self.signed(lattice, component)
    }

    /// A version that nothing is wrong with until an instance of it is made; gives back its reference.
    pub fn that_traps_at_start(&self, lattice: &Lattice) -> String {
        lattice.file(&self.signed(lattice, TRAPS_AT_START.to_vec()))
    }

    /// A version of another subject; gives back its reference.
    pub fn of_another_subject(&self, lattice: &Lattice) -> String {
        lattice.signed(&self.actor)
    }

    /// A version that lacks its grants; gives back its reference.
    pub fn without_grants(&self, lattice: &Lattice) -> String {
        let granting: [&str; 0] = [];
        let signature = self.signature(lattice).granting(&granting);
        lattice.file(&signature.component())
    }

    /// A version that nobody signed; gives back its reference.
    pub fn unsigned(&self, lattice: &Lattice) -> String {
        lattice.file(&binary::component(&self.actor))
    }

    /// A version of which the last byte is missing; gives back its reference.
    pub fn cut_short(&self, lattice: &Lattice) -> String {
        let whole = self.signed(lattice, binary::component(&self.actor));
        lattice.file(&whole[..whole.len() - 1])
    }

    fn signed(&self, lattice: &Lattice, component: Vec<u8>) -> Vec<u8> {
        self.signature(lattice).with(component).component()
    }

    fn signature<'a>(&self, lattice: &'a Lattice) -> Signature<'a> {
        let subject = SigningKey::from_seed(&self.subject.seed()).expect("it is a seed");
        Signature::of(&self.actor, lattice.account()).for_subject(subject)
    }
}
