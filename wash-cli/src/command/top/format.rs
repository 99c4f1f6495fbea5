//! Numbers as they stand in narrow columns.

use std::time::Duration;

/// Calls per second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 9.95 {
        thousands(per_second.round() as u64)
    } else {
        format!("{per_second:.1}")
    }
}

/// A time, with three digits at most; a dash where there is none.
pub(super) fn time(time: Option<Duration>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let micros = time.as_secs_f64() * 1e6;
    if micros < 999.5 {
        format!("{micros:.0}µs")
    } else if micros < 999_500.0 {
        format!("{}ms", three(micros / 1e3))
    } else {
        format!("{}s", three(micros / 1e6))
    }
}

/// Bytes, in powers of 1024.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let number = if unit == 0 {
        format!("{value:.0}")
    } else {
        three(value)
    };
    format!("{number}{}", UNITS[unit])
}

/// Three digits, with a point among them where there is room for one.
fn three(value: f64) -> String {
    if value < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_units() {
        assert_eq!(
            [0.0, 3.25, 9.96, 1234.4].map(rate),
            ["0.0", "3.2", "10", "1,234"]
        );
        assert_eq!(rate(1_234_567.0), "1,234,567");
        let shown = [0, 412, 999, 1_000, 12_345, 999_400, 1_200_000, 42_000_000]
            .map(|micros| time(Some(Duration::from_micros(micros))));
        assert_eq!(
            shown,
            [
                "0µs", "412µs", "999µs", "1.0ms", "12ms", "999ms", "1.2s", "42s"
            ]
        );
        assert_eq!(time(None), "-");
        assert_eq!(
            [0, 999, 1_024, 10 << 20, 3 << 30].map(bytes),
            ["0B", "999B", "1.0K", "10M", "3.0G"]
        );
    }
}
