//! From a wish to a code.
//!
//! The wish's URL and attempt go into SHA-256, and the digest, read as one large number, is written out in the wished
//! alphabet. Thirty-two symbols of base 62 use 191 of its 256 bits, so no symbol is noticeably likelier than another
//! and a code says nothing about its URL.

use sha2::{Digest, Sha256};

use crate::alphabet;
use crate::bindings::exports::trellis::shortlink::codes::{Code, Refusal, Wish};

/// Symbols in a code when the wish names no length: 62⁷ is 3.5 million millions.
pub(crate) const LENGTH_DEFAULT: u8 = 7;

/// Least symbols in a code. Shorter ones can be listed by trying them all.
pub(crate) const LENGTH_MIN: u8 = 4;

/// Most symbols in a code. Longer ones would outgrow the digest's randomness before they help anybody.
pub(crate) const LENGTH_MAX: u8 = 32;

/// Attempts a caller gets for one URL. Even with half of all codes taken, one wish in 2⁶⁴ fails this often.
pub(crate) const ATTEMPTS_MAX: u32 = 64;

/// Longest URL, in bytes. Browsers and servers stop at about this length.
pub(crate) const URL_BYTES_MAX: usize = 8_192;

/// Keeps codes apart from other uses of SHA-256 over the same URL, such as the fingerprint.
const DOMAIN: &[u8] = b"trellis:shortlink/codes 1\0";

/// Makes the code that `wish` asks for, always the same one for the same wish.
///
/// # Errors
///
/// A [`Refusal`] for a length, a number of attempts or a URL beyond the limits above.
pub(crate) fn make(wish: &Wish) -> Result<Code, Refusal> {
    let length = wish.length.unwrap_or(LENGTH_DEFAULT);
    if length < LENGTH_MIN {
        return Err(Refusal::TooShort(LENGTH_MIN));
    }
    if length > LENGTH_MAX {
        return Err(Refusal::TooLong(LENGTH_MAX));
    }
    if wish.attempt >= ATTEMPTS_MAX {
        return Err(Refusal::Exhausted);
    }
    if wish.url.is_empty() {
        return Err(Refusal::Other("the url is empty".to_owned()));
    }
    if wish.url.len() > URL_BYTES_MAX {
        return Err(Refusal::Other(format!(
            "the url has {} bytes, {URL_BYTES_MAX} are the most",
            wish.url.len()
        )));
    }
    let digest = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(wish.attempt.to_le_bytes())
        .chain_update(&wish.url)
        .finalize();
    let symbols = alphabet::symbols(wish.alphabet, wish.avoid);
    Ok(Code {
        text: spell(digest.into(), &symbols, length),
        fingerprint: fingerprint(wish.url.as_bytes()),
    })
}

/// SHA-256 of `data`.
pub(crate) fn fingerprint(data: &[u8]) -> Vec<u8> {
    Sha256::digest(data).to_vec()
}

/// The last `length` digits of `number` (big-endian), least first, with `symbols` as the digits of its base.
fn spell(mut number: [u8; 32], symbols: &[u8], length: u8) -> String {
    let base = symbols.len();
    (0..length)
        .map(|_| {
            // One long division by the base: the quotient replaces the number, the remainder is the digit.
            let mut remainder = 0;
            for byte in &mut number {
                let dividend = remainder << 8 | usize::from(*byte);
                *byte = u8::try_from(dividend / base)
                    .expect("the remainder is below the base, so the quotient fits a byte");
                remainder = dividend % base;
            }
            char::from(symbols[remainder])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::exports::trellis::shortlink::codes::{Alphabet, Avoid};

    fn wish(url: &str) -> Wish {
        Wish {
            url: url.to_owned(),
            length: None,
            attempt: 0,
            alphabet: Alphabet::Base62,
            avoid: Avoid::empty(),
        }
    }

    fn text(wish: &Wish) -> String {
        make(wish).expect("the wish is within the limits").text
    }

    #[test]
    fn the_same_wish_gets_the_same_code_for_good() {
        // Written out, because links that people have shared break the day this changes.
        assert_eq!(text(&wish("https://example.org/")), "YufMUKt");
    }

    #[test]
    fn another_url_or_attempt_gets_another_code() {
        let first = wish("https://example.org/");
        let other = wish("https://example.org/a");
        let again = Wish {
            attempt: 1,
            ..wish("https://example.org/")
        };
        assert_ne!(text(&first), text(&other));
        assert_ne!(text(&first), text(&again));
    }

    #[test]
    fn lengths_from_4_to_32_are_honoured() {
        for length in [4, 7, 32] {
            let code = text(&Wish {
                length: Some(length),
                ..wish("https://example.org/")
            });
            assert_eq!(code.len(), usize::from(length));
            assert!(code.bytes().all(|symbol| symbol.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn lengths_outside_are_refused_with_the_bound() {
        let of = |length| {
            make(&Wish {
                length: Some(length),
                ..wish("https://example.org/")
            })
        };
        assert!(matches!(of(3), Err(Refusal::TooShort(4))));
        assert!(matches!(of(0), Err(Refusal::TooShort(4))));
        assert!(matches!(of(33), Err(Refusal::TooLong(32))));
        assert!(matches!(of(255), Err(Refusal::TooLong(32))));
    }

    #[test]
    fn attempt_63_is_the_last() {
        let at = |attempt| {
            make(&Wish {
                attempt,
                ..wish("https://example.org/")
            })
        };
        assert!(at(63).is_ok());
        assert!(matches!(at(64), Err(Refusal::Exhausted)));
    }

    #[test]
    fn a_url_of_8192_bytes_is_the_longest_and_none_is_too_short() {
        assert!(make(&wish(&"u".repeat(8_192))).is_ok());
        assert!(matches!(
            make(&wish(&"u".repeat(8_193))),
            Err(Refusal::Other(_))
        ));
        assert!(matches!(make(&wish("")), Err(Refusal::Other(_))));
    }

    #[test]
    fn only_wished_symbols_appear() {
        let code = text(&Wish {
            length: Some(32),
            alphabet: Alphabet::Digits,
            avoid: Avoid::all(),
            ..wish("https://example.org/")
        });
        assert!(code.bytes().all(|symbol| b"23456789".contains(&symbol)));
    }

    #[test]
    fn spelling_writes_the_number_in_the_base_least_digit_first() {
        let mut number = [0; 32];
        number[30..].copy_from_slice(&1_234_u16.to_be_bytes());
        assert_eq!(spell(number, b"0123456789", 6), "432100");
    }

    #[test]
    fn a_fingerprint_is_the_sha_256_digest() {
        let hex: String = fingerprint(b"abc")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let code = make(&wish("abc")).expect("the wish is within the limits");
        assert_eq!(code.fingerprint, fingerprint(b"abc"));
    }
}
