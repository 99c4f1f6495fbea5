//! `numeric` between text and PostgreSQL's binary form: groups of four decimal digits, and a count of decimals to show.

use super::decode::{DecodeError, Room};

/// Most digits before the decimal point that PostgreSQL keeps.
const INTEGER_DIGITS_MAX: usize = 131_072;

/// Most digits after the decimal point that PostgreSQL keeps.
const DECIMALS_MAX: usize = 16_383;

/// Longest text that is read as a number, in bytes: all digits that can be kept, with room for sign, point, exponent and
/// leading zeros.
const TEXT_BYTES_MAX: usize = INTEGER_DIGITS_MAX + DECIMALS_MAX + 1024;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;

/// Writes a number that is given as text: `-12.50`, `1e-3`, `NaN`, `Infinity`, `-Infinity`.
///
/// Decimals are kept as they are written, so `1.50` stays `1.50`.
pub(crate) fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a number has at most {TEXT_BYTES_MAX} characters"));
    }
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if magnitude.eq_ignore_ascii_case("nan") && magnitude.len() == text.len() {
        special(out, NAN);
        return Ok(());
    }
    if magnitude.eq_ignore_ascii_case("infinity") || magnitude.eq_ignore_ascii_case("inf") {
        special(
            out,
            if negative {
                NEGATIVE_INFINITY
            } else {
                INFINITY
            },
        );
        return Ok(());
    }
    let (digits, point) = digits(magnitude).ok_or("not a decimal number")?;
    // `point` counts the digits before the decimal point; it may lie before the first digit or behind the last.
    let decimals = i64::try_from(digits.len()).unwrap_or(i64::MAX) - point;
    let decimals = usize::try_from(decimals.max(0)).unwrap_or(usize::MAX);
    if decimals > DECIMALS_MAX {
        return Err(format!("more than {DECIMALS_MAX} decimals"));
    }
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    let significant = &digits[leading..];
    let first = point - i64::try_from(leading).unwrap_or(i64::MAX);
    if !significant.is_empty() && first > INTEGER_DIGITS_MAX as i64 {
        return Err(format!(
            "more than {INTEGER_DIGITS_MAX} digits before the decimal point"
        ));
    }
    let (weight, groups) = grouped(significant, first);
    let sign = if negative && !groups.is_empty() {
        NEGATIVE
    } else {
        POSITIVE
    };
    let count = u16::try_from(groups.len()).map_err(|_| "too many digits")?;
    let weight = i16::try_from(weight).map_err(|_| "too many digits")?;
    out.extend(count.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(
        u16::try_from(decimals)
            .map_err(|_| "too many decimals")?
            .to_be_bytes(),
    );
    groups
        .iter()
        .for_each(|group| out.extend(group.to_be_bytes()));
    Ok(())
}

fn special(out: &mut Vec<u8>, sign: u16) {
    for field in [0, 0, sign, 0] {
        out.extend(field.to_be_bytes());
    }
}

/// The digits of an unsigned number, each from 0 to 9, and how many of them stand before its decimal point.
fn digits(text: &str) -> Option<(Vec<u8>, i64)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        None => (text, 0),
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: Option<Vec<u8>> = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|byte| byte.is_ascii_digit().then(|| byte - b'0'))
        .collect();
    let mut digits = digits?;
    let point = i64::try_from(whole.len()).ok()? + exponent;
    let count = i64::try_from(digits.len()).ok()?;
    if point > count {
        // `1e5`: the zeros that are not written. The limit on digits bounds them.
        let zeros = usize::try_from(point - count).ok()?;
        let is_zero = digits.iter().all(|digit| *digit == 0);
        match zeros > INTEGER_DIGITS_MAX {
            true if is_zero => return Some((vec![0], 1)),
            true => return Some((vec![1], INTEGER_DIGITS_MAX as i64 + 1)),
            false => digits.resize(digits.len() + zeros, 0),
        }
    }
    Some((digits, point))
}

fn exponent(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || unsigned.len() > 9 || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

/// Groups of four around the decimal point, without zeros at either end, and the weight of the first.
fn grouped(significant: &[u8], first: i64) -> (i64, Vec<u16>) {
    // Digits that the first group lacks, so that groups meet at the decimal point.
    let missing = (4 - first.rem_euclid(4)) % 4;
    let weight = (first + missing) / 4 - 1;
    let mut groups = Vec::with_capacity(significant.len() / 4 + 2);
    let mut group = 0_u16;
    let mut filled = missing;
    for digit in significant {
        group = group * 10 + u16::from(*digit);
        filled += 1;
        if filled == 4 {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 {
        groups.push(group * 10_u16.pow(4 - u32::try_from(filled).unwrap_or(4)));
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    match groups.is_empty() {
        true => (0, groups),
        false => (weight, groups),
    }
}

/// Reads a number and writes it as text, in the form that PostgreSQL's own output has.
pub(crate) fn decode(raw: &[u8], room: &mut Room) -> Result<String, DecodeError> {
    let field = |at: usize| -> Result<u16, DecodeError> {
        let bytes = raw.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u16::from_be_bytes).ok_or(DecodeError::Malformed)
    };
    let (count, weight, sign, decimals) = (
        usize::from(field(0)?),
        i64::from(field(2)?.cast_signed()),
        field(4)?,
        usize::from(field(6)? & 0x3fff),
    );
    match sign {
        NAN => return Ok("NaN".to_owned()),
        INFINITY => return Ok("Infinity".to_owned()),
        NEGATIVE_INFINITY => return Ok("-Infinity".to_owned()),
        POSITIVE | NEGATIVE => {}
        _ => return Err(DecodeError::Malformed),
    }
    if raw.len() != 8 + 2 * count {
        return Err(DecodeError::Malformed);
    }
    let groups_before = usize::try_from(weight + 1).unwrap_or(0);
    // A few bytes can stand for a hundred thousand digits: they are paid for before they are written.
    room.take(groups_before * 4 + decimals + 2)?;
    let group = |at: i64| -> Result<u16, DecodeError> {
        match usize::try_from(at) {
            Ok(at) if at < count => field(8 + 2 * at),
            _ => Ok(0),
        }
    };
    let mut text = String::with_capacity(groups_before * 4 + decimals + 2);
    if sign == NEGATIVE {
        text.push('-');
    }
    let start = text.len();
    for at in 0..=weight {
        push_group(&mut text, group(at)?)?;
    }
    let zeros = text[start..].bytes().take_while(|b| *b == b'0').count();
    text.replace_range(start..start + zeros, "");
    if text.len() == start {
        text.push('0');
    }
    if decimals > 0 {
        text.push('.');
        let end = text.len() + decimals;
        let mut at = weight + 1;
        while text.len() < end {
            push_group(&mut text, group(at)?)?;
            at += 1;
        }
        text.truncate(end);
    }
    Ok(text)
}

fn push_group(text: &mut String, group: u16) -> Result<(), DecodeError> {
    if group > 9999 {
        return Err(DecodeError::Malformed);
    }
    for power in [1000, 100, 10, 1] {
        text.push(char::from(b'0' + (group / power % 10) as u8));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn there_and_back(text: &str) -> Result<String, String> {
        let mut bytes = Vec::new();
        encode(text, &mut bytes)?;
        Ok(decode(&bytes, &mut Room::of(1 << 20)).unwrap())
    }

    #[test]
    fn a_number_comes_back_as_it_was_written() {
        let long = format!("{}.{}", "9".repeat(131_072), "1".repeat(16_383));
        for text in [
            "0",
            "1",
            "-1",
            "10",
            "9999",
            "10000",
            "12345678",
            "0.1",
            "0.00001",
            "0.10",
            "1.50",
            "-0.000000000001",
            "123456789.123456789",
            "100000000",
            "0.0000",
            "NaN",
            "Infinity",
            "-Infinity",
            "1000000.0000001",
            "0.00010001",
            &long,
        ] {
            assert_eq!(there_and_back(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn other_spellings_have_one_form() {
        for (text, form) in [
            ("+1", "1"),
            (" 007.70 ", "7.70"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("1e3", "1000"),
            ("1.5e-3", "0.0015"),
            ("1.5E+1", "15"),
            ("12.345e2", "1234.5"),
            ("0e999999999", "0"),
            ("nan", "NaN"),
            ("inf", "Infinity"),
            ("-INF", "-Infinity"),
        ] {
            assert_eq!(there_and_back(text).as_deref(), Ok(form), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        let long = "1".repeat(131_073);
        let small = format!("0.{}", "0".repeat(16_384));
        for text in [
            "",
            " ",
            ".",
            "-",
            "e5",
            "1e",
            "1e+",
            "1e1.5",
            "1.2.3",
            "1 2",
            "0x10",
            "١",
            "--1",
            "+-1",
            "-nan",
            "1e9999999999",
            "1e131072",
            "1e999999999",
            "1e-16384",
            "1e-999999999",
            &long,
            &small,
        ] {
            assert!(there_and_back(text).is_err(), "{text}");
        }
        assert!(there_and_back("1e131071").is_ok());
        assert!(there_and_back("1e-16383").is_ok());
    }

    #[test]
    fn bytes_that_are_no_number_are_no_panic() {
        let mut bytes = Vec::new();
        encode("-12345.678", &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], &mut Room::of(1000)).is_err());
        }
        for at in 0..bytes.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] = byte;
                let _ = decode(&other, &mut Room::of(1 << 20));
            }
        }
    }

    #[test]
    fn a_few_bytes_that_stand_for_many_digits_need_room_for_them() {
        let mut bytes = Vec::new();
        encode("1e131071", &mut bytes).unwrap();
        assert_eq!(bytes.len(), 10);
        assert_eq!(
            decode(&bytes, &mut Room::of(100_000)),
            Err(DecodeError::TooLarge)
        );
    }
}
