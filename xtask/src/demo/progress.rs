//! What the tour says: a spinner and a tick on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::step::took;

/// A part of the tour.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{text}");
}

/// Does one step of the tour. `work` gives back its result and what there was to see.
pub(crate) async fn sight<T>(
    name: &str,
    work: impl Future<Output = Result<(T, String)>>,
) -> Result<T> {
    let begin = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(name));
    let outcome = work.await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    match outcome {
        Ok((value, seen)) => {
            eprintln!("  ok   {name}: {seen} ({})", took(begin));
            Ok(value)
        }
        Err(error) => {
            eprintln!("  FAIL {name} ({})", took(begin));
            Err(error).with_context(|| name.to_owned())
        }
    }
}

fn spinner(name: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner}    {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
