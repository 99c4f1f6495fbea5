//! How many instructions the codec and the dispatch take, counted by callgrind: the same on a busy machine as on an idle
//! one, so a change that costs something is seen in the commit that makes it.
//!
//! `benches/instructions.toml` holds what is expected. `--check` fails where a count is off by more than
//! [`TOLERANCE`] in either direction: a gain is written down as well, or the next loss would hide in it. `--bless` writes
//! the file; whoever does so says in the commit what changed and why that is worth it.
//!
//! What is counted is a package of its own, built alone in the release profile. The C library picks its copying routines by
//! processor, which would make the counts differ between machines, so it is told to take the plainest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Options;
use super::report::{Section, Table};
use super::spread::{Spread, digits};
use crate::command;
use crate::project::Project;
use crate::step::{note, step};

/// How far a count may be from what is expected. Another linker or path moves counts by less than a hundredth.
const TOLERANCE: f64 = 0.03;

/// The package and its program.
const PACKAGE: &str = "trellis-bench-instructions";
const PROGRAM: &str = "bench-instructions";

/// The function in which callgrind collects.
const MEASURED: &str = "*measured*";

/// Keeps the C library from choosing routines by what the processor can do.
pub(super) const PLAIN_ROUTINES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-EVEX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load,-Prefer_No_VZEROUPPER,-RTM";

/// Longest time for one case.
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// What stands above the counts.
const FRONT: &str = "\
# Instructions of one operation, as callgrind counts them; `cargo xtask bench instructions --check` holds them within 3 %.
# Written by `cargo xtask bench instructions --bless`. Do so when a change of the codec or the dispatch, of the compiler or of a dependency
# moves a count on purpose, and say in the commit what it bought.
";

/// Counts, and checks or writes where that is asked for.
pub(super) fn run(project: &Project, options: &Options) -> Result<Section> {
    let counts = step("instructions", || {
        present()?;
        if !options.no_build {
            // Not within another build: the features of everything else would change what is counted.
            let mut cargo = project.cargo();
            cargo
                .args(["build", "--quiet", "--release", "-p", PACKAGE])
                .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION");
            command::show(&mut cargo)?;
        }
        let counts = count(project)?;
        let how = format!("{} cases counted", counts.len());
        Ok((counts, how))
    })?;
    let file = project.root().join("benches/instructions.toml");
    if options.bless {
        fs::write(&file, write(&counts))?;
        note(&format!("written to {}", file.display()));
    }
    let expected = read(&file)?;
    let (section, mistakes) = compare(&counts, &expected);
    if options.check {
        section.print();
        if !mistakes.is_empty() {
            bail!(
                "{}; if that is meant, `cargo xtask bench instructions --bless` writes it down",
                mistakes.join("; ")
            );
        }
    }
    Ok(section)
}

fn present() -> Result<()> {
    command::read(
        Command::new("valgrind").arg("--version"),
        command::QUESTION_WITHIN,
    )
    .map(drop)
    .context("callgrind is needed: install the system's package `valgrind`, or run `cargo xtask setup --ci`")
}

/// Instructions of one operation, by case.
fn count(project: &Project) -> Result<BTreeMap<String, f64>> {
    let program = project.release_programs().join(PROGRAM);
    let list = command::read(
        Command::new(&program).arg("--list"),
        command::QUESTION_WITHIN,
    )?;
    let directory = tempfile::tempdir()?;
    let mut counts = BTreeMap::new();
    for line in list.lines() {
        let (name, iterations) = line.split_once(' ').context("a case without iterations")?;
        let iterations: f64 = iterations.parse()?;
        let out = directory.path().join("callgrind.out");
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--toggle-collect={MEASURED}"))
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(&program)
            .arg(name)
            .env("GLIBC_TUNABLES", PLAIN_ROUTINES);
        command::read(&mut valgrind, CASE_WITHIN).with_context(|| name.to_owned())?;
        counts.insert(name.to_owned(), total(&out)? / iterations);
    }
    Ok(counts)
}

/// The sum that callgrind writes at the end of its file.
fn total(out: &Path) -> Result<f64> {
    let text = fs::read_to_string(out)?;
    let total: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:")?.split_whitespace().next())
        .context("callgrind gave no total")?
        .parse()?;
    if total < 1.0 {
        bail!("callgrind collected nothing: the function {MEASURED} was not found");
    }
    Ok(total)
}

fn write(counts: &BTreeMap<String, f64>) -> String {
    let mut text = FRONT.to_owned();
    for (name, count) in counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\"{name}\" = {count:.0}");
    }
    text
}

/// Lines of `"name" = count`, which is all that the file holds.
fn read(file: &Path) -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let mut expected = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, count) = line.split_once('=').context("a line is no count")?;
        let count = count.trim().parse().with_context(|| line.to_owned())?;
        expected.insert(name.trim().trim_matches('"').to_owned(), count);
    }
    Ok(expected)
}

fn compare(
    counts: &BTreeMap<String, f64>,
    expected: &BTreeMap<String, f64>,
) -> (Section, Vec<String>) {
    let mut section = Section::default();
    let mut mistakes = Vec::new();
    let mut table = Table::new(
        "Instructions of one operation",
        &["", "counted", "expected", "difference"],
    );
    for (name, count) in counts {
        section.figure(format!("instructions/{name}"), Spread::one(*count));
        let (wanted, difference) = match expected.get(name) {
            Some(wanted) => {
                let difference = count / wanted - 1.0;
                if difference.abs() > TOLERANCE {
                    mistakes.push(format!(
                        "`{name}` takes {count:.0} instructions, {wanted:.0} are expected ({:+.1} %)",
                        difference * 100.0
                    ));
                }
                (digits(*wanted), format!("{:+.2} %", difference * 100.0))
            }
            None => {
                mistakes.push(format!("nothing is expected of `{name}`"));
                ("–".to_owned(), "–".to_owned())
            }
        };
        table.row(vec![name.clone(), digits(*count), wanted, difference]);
    }
    for name in expected.keys().filter(|name| !counts.contains_key(*name)) {
        mistakes.push(format!("`{name}` is expected, and no longer counted"));
    }
    section.tables.push(table);
    (section, mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn counts_may_be_off_by_three_percent_either_way() {
        let expected = counts(&[("a", 1_000.0)]);
        for (count, mistakes) in [(1_029.0, 0), (971.0, 0), (1_031.0, 1), (969.0, 1)] {
            assert_eq!(
                compare(&counts(&[("a", count)]), &expected).1.len(),
                mistakes
            );
        }
    }

    #[test]
    fn a_case_that_comes_or_goes_is_a_mistake() {
        let (_, mistakes) = compare(&counts(&[("new", 1.0)]), &counts(&[("old", 1.0)]));
        assert_eq!(mistakes.len(), 2);
    }

    #[test]
    #[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    fn what_is_written_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let some = counts(&[("value/x", 12.0), ("frame/y", 3_456.0)]);
        fs::write(file.path(), write(&some)).unwrap();
        assert_eq!(read(file.path()).unwrap(), some);
    }
}
