//! What several rounds come to.

use std::fmt;

use serde_json::{Value, json};

/// The median of some rounds, with the least and the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of some values, in any order; not a number where there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            // Of an even number of values the mean of the two in the middle.
            median: f64::midpoint(at(values.len().saturating_sub(1) / 2), at(values.len() / 2)),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }

    pub(super) fn one(value: f64) -> Self {
        Self {
            median: value,
            least: value,
            most: value,
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({"median": self.median, "least": self.least, "most": self.most})
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            median: value["median"].as_f64()?,
            least: value["least"].as_f64()?,
            most: value["most"].as_f64()?,
        })
    }
}

impl fmt::Display for Spread {
    /// `median (least–most)`, with as many digits as mean something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.median.is_finite() {
            return f.write_str("–");
        }
        let median = digits(self.median);
        if self.least == self.most {
            return f.write_str(&median);
        }
        write!(f, "{median} ({}–{})", digits(self.least), digits(self.most))
    }
}

/// A number with three digits at least, and with commas.
pub(super) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |w| ("-", w));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() {
        format!("{sign}{grouped}")
    } else {
        format!("{sign}{grouped}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_written_with_the_digits_that_mean_something() {
        let spread = Spread::of([12_345.6, 2.345, 45.67]);
        assert_eq!(spread.to_string(), "45.7 (2.35–12,346)");
        assert_eq!(Spread::one(1_000_000.0).to_string(), "1,000,000");
        assert_eq!(Spread::of([]).to_string(), "–");
    }
}
