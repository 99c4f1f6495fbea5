//! Which symbols a code is written in.

use crate::bindings::exports::trellis::shortlink::codes::{Alphabet, Avoid};

/// Every symbol a code may ever have, in the order that gives a symbol its value.
const SYMBOLS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Symbols that print much like another one.
const LOOK_ALIKES: &[u8] = b"01IOlo";

/// Letters that make words out of consonants.
const VOWELS: &[u8] = b"AEIOUaeiou";

/// The symbols of `alphabet` without those to `avoid`, in a fixed order. There are always at least eight: `digits`
/// without look-alikes has the fewest.
pub(crate) fn symbols(alphabet: Alphabet, avoid: Avoid) -> Vec<u8> {
    SYMBOLS
        .iter()
        .copied()
        .filter(|symbol| match alphabet {
            Alphabet::Base62 => true,
            Alphabet::Base36 => !symbol.is_ascii_uppercase(),
            Alphabet::Digits => symbol.is_ascii_digit(),
        })
        .filter(|symbol| !(avoid.contains(Avoid::LOOK_ALIKES) && LOOK_ALIKES.contains(symbol)))
        .filter(|symbol| !(avoid.contains(Avoid::VOWELS) && VOWELS.contains(symbol)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alphabet_has_the_symbols_of_its_name() {
        assert_eq!(symbols(Alphabet::Base62, Avoid::empty()).len(), 62);
        assert_eq!(symbols(Alphabet::Base36, Avoid::empty()).len(), 36);
        assert_eq!(symbols(Alphabet::Digits, Avoid::empty()), b"0123456789");
    }

    #[test]
    fn what_is_to_be_avoided_is_left_out() {
        assert_eq!(symbols(Alphabet::Digits, Avoid::LOOK_ALIKES), b"23456789");
        let neither = symbols(Alphabet::Base62, Avoid::all());
        assert!(!neither.iter().any(|s| b"01IOloaeiouAEIU".contains(s)));
        // I, O and o are in both lists.
        assert_eq!(neither.len(), 62 - 6 - 10 + 3);
    }
}
