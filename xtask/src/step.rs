//! Progress for people: what is being done, how it ended, how long it took.

use std::time::Instant;

use anyhow::{Context as _, Result};

/// Does one step and says so. `work` gives back its result and a few words on how it went.
///
/// An error carries the step's name.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let begin = Instant::now();
    eprintln!("[ .. ] {name}");
    match work() {
        Ok((value, how)) => {
            eprintln!("[ ok ] {name}: {how} ({})", took(begin));
            Ok(value)
        }
        Err(error) => {
            eprintln!("[fail] {name} ({})", took(begin));
            Err(error).with_context(|| name.to_owned())
        }
    }
}

/// Says what a long step is at.
pub(crate) fn note(text: &str) {
    eprintln!("       {text}");
}

/// The time since `begin`, for people.
pub(crate) fn took(begin: Instant) -> String {
    let seconds = begin.elapsed().as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        // A minute and more is shown in whole seconds: nobody reads the tenths any more.
        let whole = begin.elapsed().as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}
