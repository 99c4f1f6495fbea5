//! Curves as a picture: latency over rate, the latency logarithmic, the median as a line and the 99th percentile dashed.

use std::fmt::Write as _;

use super::report::{Curve, Plot};
use super::spread::digits;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Told apart by people who do not tell red from green, too.
const COLOURS: [&str; 6] = [
    "#555555", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00",
];

/// Ticks of the rate.
const RATE_TICKS: u32 = 5;

/// The picture; none where no curve has a point.
pub(super) fn draw(plot: &Plot) -> Option<String> {
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let finite = |value: f64| value.is_finite() && value > 0.0;
    let latencies = || {
        points()
            .flat_map(|(_, p50, p99)| [*p50, *p99])
            .filter(|v| finite(*v))
    };
    let rate_most = nice(points().map(|(rate, ..)| *rate).fold(f64::NAN, f64::max));
    let least = latencies().fold(f64::NAN, f64::min).log10().floor();
    let most = latencies()
        .fold(f64::NAN, f64::max)
        .log10()
        .ceil()
        .max(least + 1.0);
    if !(rate_most.is_finite() && least.is_finite() && most.is_finite()) {
        return None;
    }
    let x = |rate: f64| LEFT + rate / rate_most * (WIDTH - LEFT - RIGHT);
    let y =
        |us: f64| HEIGHT - BOTTOM - (us.log10() - least) / (most - least) * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    ));
    put(format!(
        r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
    ));
    put(format!(
        r#"<text x="{LEFT}" y="22" font-size="15">{}</text>"#,
        escape(&plot.title)
    ));
    for step in 0..=RATE_TICKS {
        let rate = rate_most * f64::from(step) / f64::from(RATE_TICKS);
        let (at, bottom) = (x(rate), HEIGHT - BOTTOM);
        put(format!(
            r##"<line x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{bottom}" stroke="#e5e5e5"/>"##
        ));
        put(format!(
            r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 16.0,
            whole(rate)
        ));
    }
    let mut power = least;
    while power <= most {
        let (at, right) = (y(10_f64.powf(power)), WIDTH - RIGHT);
        put(format!(
            r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#d0d0d0"/>"##
        ));
        put(format!(
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            at + 4.0,
            time(10_f64.powf(power))
        ));
        power += 1.0;
    }
    put(format!(
        r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">requests a second</text>"#,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    ));
    for (index, curve) in plot.curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        put(line(curve, colour, "", |(rate, p50, _)| (x(rate), y(p50))));
        put(line(
            curve,
            colour,
            r#" stroke-dasharray="5 4""#,
            |(rate, _, p99)| (x(rate), y(p99)),
        ));
        let (at, right) = (TOP + 14.0 + index as f64 * 20.0, WIDTH - RIGHT + 16.0);
        put(format!(
            r#"<line x1="{right}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="2"/>"#,
            at - 4.0,
            right + 22.0,
            at - 4.0
        ));
        put(format!(
            r#"<text x="{:.1}" y="{at:.1}">{}</text>"#,
            right + 28.0,
            escape(&curve.name)
        ));
    }
    let at = TOP + 24.0 + plot.curves.len() as f64 * 20.0;
    put(format!(
        r##"<text x="{:.1}" y="{at:.1}" fill="#666666">line: p50, dashed: p99</text>"##,
        WIDTH - RIGHT + 16.0
    ));
    svg.push_str("</svg>\n");
    Some(svg)
}

fn line(
    curve: &Curve,
    colour: &str,
    dash: &str,
    place: impl Fn((f64, f64, f64)) -> (f64, f64),
) -> String {
    let mut points = String::new();
    let mut dots = String::new();
    for point in &curve.points {
        let (x, y) = place(*point);
        if x.is_finite() && y.is_finite() {
            // Writing to a string cannot fail.
            let _ = write!(points, "{x:.1},{y:.1} ");
            let _ = write!(
                dots,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            );
        }
    }
    format!(
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>{dots}"#,
        points.trim_end()
    )
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(f64::NAN)
}

fn whole(value: f64) -> String {
    if value < 100.0 {
        format!("{value}")
    } else {
        digits(value)
    }
}

fn time(us: f64) -> String {
    if us >= 1e6 {
        format!("{} s", us / 1e6)
    } else if us >= 1e3 {
        format!("{} ms", us / 1e3)
    } else {
        format!("{us} µs")
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_two_lines_for_each_curve() {
        let curve = |name: &str| Curve {
            name: name.to_owned(),
            points: vec![(100.0, 50.0, 90.0), (200.0, 60.0, 2_000.0)],
        };
        let plot = Plot {
            name: "x".to_owned(),
            title: "a < b".to_owned(),
            curves: vec![curve("one"), curve("two")],
        };
        let svg = draw(&plot).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains("a &lt; b") && svg.contains("1 ms"), "{svg}");
        assert!(draw(&Plot::default()).is_none());
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(nice(180.0), 200.0);
        assert_eq!(nice(201.0), 250.0);
        assert_eq!(nice(9_001.0), 10_000.0);
    }
}
