//! `benches/RESULTS.md`: generated blocks between markers, and hand-written paragraphs around them, which stay.
//!
//! A run replaces the blocks of the cases that it measured and the table of budgets; the figures behind that table are
//! kept in `benches/results/figures.json`, so that cases can be measured one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::report::Section;
use super::spread::Spread;
use super::{Case, Options, budget, machine, svg};
use crate::project::Project;

/// What a new page begins with.
const FRONT: &str = "\
# Benchmarks

Measured by `cargo xtask bench --write`, which replaces what stands between the markers; the paragraphs around them are written by
hand. Everything of a case, the load included, runs on one processor: rates are those of one processor that also makes the load, and latencies are
comparable with each other, not with those of a client on another machine. Contestants take turns; a figure is the median of all rounds, with the least and the most in
parentheses. CPU is user and system time of all server processes, backend included, for each request.
";

/// Writes the page, the pictures and the figures; gives back the page's path.
pub(super) fn write(
    project: &Project,
    options: &Options,
    sections: &[(Case, Section)],
) -> Result<PathBuf> {
    let benches = project.root().join("benches");
    let page = benches.join("RESULTS.md");
    let directory = benches.join("results");
    fs::create_dir_all(&directory)?;
    let mut text = match fs::read_to_string(&page) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => FRONT.to_owned(),
        Err(error) => return Err(error).with_context(|| format!("{}", page.display())),
    };
    let figures = merge(&directory.join("figures.json"), sections)?;
    text = replace(
        &text,
        "budgets",
        "Budgets",
        &budget::table(&figures).markdown(),
    );
    for (case, section) in sections {
        let block = block(&directory, options, *case, section)?;
        text = replace(&text, &case.name(), case.title(), &block);
    }
    fs::write(&page, text)?;
    Ok(page)
}

fn block(directory: &Path, options: &Options, case: Case, section: &Section) -> Result<String> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}, {}, {}: `cargo xtask bench {} --rounds {} --seconds {} --write`\n",
        machine::today(),
        machine::cpu_model(),
        machine::kernel(),
        case.name(),
        options.rounds,
        options.seconds,
    );
    for table in &section.tables {
        let _ = writeln!(text, "{}", table.markdown());
    }
    for plot in &section.plots {
        let Some(picture) = svg::draw(plot) else {
            continue;
        };
        let file = format!("{}.svg", plot.name);
        fs::write(directory.join(&file), picture)?;
        let _ = writeln!(
            text,
            "![{}: latency over rate](results/{file})\n",
            plot.title
        );
    }
    for remark in &section.remarks {
        let _ = writeln!(text, "{remark}\n");
    }
    Ok(text)
}

/// The figures of this run over those of former ones.
fn merge(file: &Path, sections: &[(Case, Section)]) -> Result<BTreeMap<String, Spread>> {
    let mut figures = BTreeMap::new();
    if let Ok(text) = fs::read_to_string(file) {
        let former: Map<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
        for (name, value) in &former {
            if let Some(spread) = Spread::from_json(value) {
                figures.insert(name.clone(), spread);
            }
        }
    }
    for (_, section) in sections {
        figures.extend(section.figures.clone());
    }
    let all: Map<_, _> = figures
        .iter()
        .filter(|(_, spread)| spread.median.is_finite())
        .map(|(name, spread)| (name.clone(), spread.to_json()))
        .collect();
    let mut text = serde_json::to_string_pretty(&Value::Object(all))?;
    text.push('\n');
    fs::write(file, text)?;
    Ok(figures)
}

/// Puts a block between its markers; one that has none yet gets a heading at the end of the page.
fn replace(page: &str, name: &str, title: &str, block: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->"),
        format!("<!-- end {name} -->"),
    );
    let block = block.trim();
    if let Some((before, rest)) = page.split_once(&begin)
        && let Some((_, after)) = rest.split_once(&end)
    {
        return format!("{before}{begin}\n{block}\n{end}{after}");
    }
    format!(
        "{}\n\n## {title}\n\n{begin}\n{block}\n{end}\n",
        page.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn what_is_written_by_hand_stays() {
        let first = replace("# Page\n", "http", "HTTP", "one");
        assert_eq!(
            first,
            "# Page\n\n## HTTP\n\n<!-- begin http -->\none\n<!-- end http -->\n"
        );
        let by_hand = format!("{first}\nWhere the time goes.\n");
        let second = replace(&by_hand, "http", "HTTP", "two\n");
        assert!(
            second.contains("two") && !second.contains("one"),
            "{second}"
        );
        assert!(second.ends_with("Where the time goes.\n"));
        assert_eq!(replace(&second, "http", "HTTP", "two"), second);
    }
}
