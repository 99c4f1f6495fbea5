//! A sign of life while something takes long: a spinner where stderr is a terminal, nothing elsewhere.
//!
//! One spinner turns at a time. What begins while another thing is shown is shown in its place, and that one again
//! afterwards; what is written in between is written above it.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// The spinner of this process.
static SPINNER: Mutex<Spinner> = Mutex::new(Spinner {
    bar: None,
    shown: Vec::new(),
    next: 0,
});

/// What is shown, the last one on top.
struct Spinner {
    bar: Option<ProgressBar>,
    shown: Vec<(u64, String)>,
    next: u64,
}

/// Something that takes long. It is shown until this value is gone.
#[derive(Debug)]
pub struct Progress(Option<u64>);

impl Progress {
    /// Shows `message` until something else is shown.
    #[must_use]
    pub fn start(message: impl Into<String>) -> Self {
        Self(
            io::stderr()
                .is_terminal()
                .then(|| spinner().push(message.into())),
        )
    }

    /// Shows another message.
    pub fn say(&self, message: impl Into<String>) {
        if let Some(id) = self.0 {
            spinner().say(id, message.into());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            spinner().remove(id);
        }
    }
}

/// Does what writes to the terminal, or reads from it, while no spinner turns.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let bar = spinner().bar.clone();
    match bar {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

impl Spinner {
    fn push(&mut self, message: String) -> u64 {
        let id = self.next;
        self.next += 1;
        self.shown.push((id, message));
        self.show();
        id
    }

    fn say(&mut self, id: u64, message: String) {
        if let Some(entry) = self.shown.iter_mut().find(|(other, _)| *other == id) {
            entry.1 = message;
            self.show();
        }
    }

    fn remove(&mut self, id: u64) {
        self.shown.retain(|(other, _)| *other != id);
        self.show();
    }

    /// Shows what is on top.
    fn show(&mut self) {
        let Some((_, message)) = self.shown.last() else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .expect("a literal template of the right form");
            bar.set_style(style);
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(message.clone());
    }
}

fn spinner() -> MutexGuard<'static, Spinner> {
    SPINNER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_top_is_shown_and_the_one_below_it_afterwards() {
        let mut spinner = Spinner {
            bar: None,
            shown: Vec::new(),
            next: 0,
        };
        let message = |spinner: &Spinner| spinner.bar.as_ref().unwrap().message();
        let outer = spinner.push("outer".to_owned());
        let inner = spinner.push("inner".to_owned());
        spinner.say(outer, "outer, further".to_owned());
        assert_eq!(message(&spinner), "inner");
        spinner.remove(inner);
        assert_eq!(message(&spinner), "outer, further");
        spinner.remove(outer);
        assert!(spinner.bar.is_none());
    }
}
