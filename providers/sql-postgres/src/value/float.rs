//! Floating-point numbers as mantissa, exponent and sign.
//!
//! The form is that of `integer_decode` in Rust's `num` crate: the mantissa with its hidden bit, the exponent that makes
//! it an integer, and a sign of 1 or -1. It is one to one with the bits of a number. Where the exponent's field is full,
//! which stands for what is no finite number, the same rule gives:
//!
//! | value | double precision | real |
//! | --- | --- | --- |
//! | ±infinity | `(2^52, 972, ±1)` | `(2^23, 105, ±1)` |
//! | NaN | `(2^52 + payload, 972, ±1)` | `(2^23 + payload, 105, ±1)` |
//! | -0 | `(0, -1075, -1)` | `(0, -150, -1)` |
//!
//! On the way in any other triple means `sign * mantissa * 2^exponent`, rounded to the nearest number, so `(5, -1, 1)`
//! is 2.5.

/// Mantissa, exponent, sign.
pub(crate) type Triple = (u64, i16, i8);

/// Exponent of what is no finite number, in double precision.
const F64_SPECIAL: i16 = 0x7ff - 1075;
/// The hidden bit in double precision.
const F64_HIDDEN: u64 = 1 << 52;
/// The same in single precision.
const F32_SPECIAL: i16 = 0xff - 150;
const F32_HIDDEN: u32 = 1 << 23;

/// A double as a triple.
pub(crate) fn of_f64(value: f64) -> Triple {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i16;
    let fraction = bits & (F64_HIDDEN - 1);
    let mantissa = match exponent {
        0 => fraction << 1,
        _ => fraction | F64_HIDDEN,
    };
    (mantissa, exponent - 1075, sign_of(bits >> 63 != 0))
}

/// A single as a triple.
pub(crate) fn of_f32(value: f32) -> Triple {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i16;
    let fraction = bits & (F32_HIDDEN - 1);
    let mantissa = match exponent {
        0 => fraction << 1,
        _ => fraction | F32_HIDDEN,
    };
    (
        u64::from(mantissa),
        exponent - 150,
        sign_of(bits >> 31 != 0),
    )
}

/// A triple as a double; `None` where the sign is neither 1 nor -1.
pub(crate) fn to_f64((mantissa, exponent, sign): Triple) -> Option<f64> {
    let negative = negative(sign)?;
    if exponent == F64_SPECIAL && (F64_HIDDEN..F64_HIDDEN << 1).contains(&mantissa) {
        let bits = (u64::from(negative) << 63) | (0x7ff << 52) | (mantissa & (F64_HIDDEN - 1));
        return Some(f64::from_bits(bits));
    }
    let magnitude = scaled(mantissa as f64, i32::from(exponent));
    Some(if negative { -magnitude } else { magnitude })
}

/// A triple of the kind that [`of_f32`] makes as a single; `None` where the sign is neither 1 nor -1, or where a finite
/// number is beyond what a single holds.
pub(crate) fn to_f32((mantissa, exponent, sign): Triple) -> Option<f32> {
    let negative = negative(sign)?;
    if let Ok(small) = u32::try_from(mantissa)
        && exponent == F32_SPECIAL
        && (F32_HIDDEN..F32_HIDDEN << 1).contains(&small)
    {
        let bits = (u32::from(negative) << 31) | (0xff << 23) | (small & (F32_HIDDEN - 1));
        return Some(f32::from_bits(bits));
    }
    narrowed(to_f64((mantissa, exponent, sign))?)
}

/// A double as the nearest single; `None` where a finite number would become infinite.
pub(crate) fn narrowed(value: f64) -> Option<f32> {
    let single = value as f32;
    (single.is_finite() || !value.is_finite()).then_some(single)
}

fn sign_of(negative: bool) -> i8 {
    if negative { -1 } else { 1 }
}

fn negative(sign: i8) -> Option<bool> {
    match sign {
        1 => Some(false),
        -1 => Some(true),
        _ => None,
    }
}

/// `value * 2^exponent`, in steps that each stay within what a double holds, so that only the last one rounds.
fn scaled(mut value: f64, mut exponent: i32) -> f64 {
    // A product with one of these is exact unless the result leaves the range of normal numbers for good.
    const UP: f64 = f64::from_bits((1023 + 1000) << 52);
    const DOWN: f64 = f64::from_bits((1023 - 900) << 52);
    if value == 0.0 {
        return 0.0;
    }
    while exponent > 1000 && value.is_finite() {
        value *= UP;
        exponent -= 1000;
    }
    // A mantissa has at most 64 bits, so after one step down it is still normal, and after two it is below everything.
    while exponent < -1000 && value != 0.0 {
        value *= DOWN;
        exponent += 900;
    }
    value * f64::powi(2.0, exponent.clamp(-1000, 1000))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_double_comes_back_with_its_bits() {
        let mut numbers = vec![
            0.0,
            -0.0,
            1.0,
            -1.5,
            std::f64::consts::PI,
            f64::MIN_POSITIVE,
            f64::MIN_POSITIVE / 2.0,
            f64::from_bits(1),
            f64::from_bits(0x000f_ffff_ffff_ffff),
            f64::MAX,
            f64::MIN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7ff8_dead_beef_0001),
        ];
        // A walk over all exponents, with mantissas that differ.
        for step in 0..4096_u64 {
            numbers.push(f64::from_bits(
                (step << 52) | (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12),
            ));
        }
        for number in numbers {
            assert_eq!(
                to_f64(of_f64(number)).unwrap().to_bits(),
                number.to_bits(),
                "{number}"
            );
        }
    }

    #[test]
    fn every_single_comes_back_with_its_bits() {
        for step in 0..512_u32 {
            for fraction in [0, 1, 0x40_0000, 0x7f_ffff] {
                let number = f32::from_bits((step << 23) | fraction);
                assert_eq!(
                    to_f32(of_f32(number)).unwrap().to_bits(),
                    number.to_bits(),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn other_triples_mean_their_product() {
        assert_eq!(to_f64((5, -1, 1)), Some(2.5));
        assert_eq!(to_f64((1, 0, -1)), Some(-1.0));
        assert_eq!(to_f64((1, i16::MAX, 1)), Some(f64::INFINITY));
        assert_eq!(to_f64((u64::MAX, i16::MIN, 1)), Some(0.0));
        assert_eq!(to_f64((u64::MAX, -1137, 1)), Some(f64::from_bits(2)));
        assert_eq!(to_f64((1, 0, 0)), None);
        assert_eq!(to_f32((1, 0, 2)), None);
        assert_eq!(to_f32(of_f64(1e300)), None);
        assert_eq!(to_f32(of_f64(f64::INFINITY)), Some(f32::INFINITY));
        // What would be infinity as a single's triple is a number as a double's.
        assert_eq!(to_f64((1 << 23, 105, 1)), Some(2.0_f64.powi(128)));
    }
}
