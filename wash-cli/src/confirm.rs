//! Asking before something is destroyed.
//!
//! On a terminal a person is asked. Elsewhere there is nobody to ask: what scripts have always called plainly goes on, and
//! everything else is refused until it is told `--yes`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::exit::Failure;
use crate::output::printable;
use crate::progress;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1_024;

/// What happens where nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unattended {
    /// It is refused without `--yes`.
    Refuse,
    /// It goes on, as scripts expect of this command.
    Proceed,
}

/// Goes on where a person agrees to `what` (`stop host fern`), or has with `--yes`.
///
/// # Errors
/// A refused failure where the person says no, a usage failure where there is nobody to ask.
pub fn confirm(what: &str, yes: bool, unattended: Unattended) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !can_ask() {
        return match unattended {
            Unattended::Proceed => Ok(()),
            Unattended::Refuse => Err(Failure::usage(format!(
                "refused to {}: there is no terminal to ask at; give --yes to do it all the same",
                printable(what)
            ))),
        };
    }
    let answer = ask(&format!("{}? [y/N] ", capitalised(&printable(what))))?;
    if matches!(answer.to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::refused("nothing was done: it was not confirmed"))
}

/// As [`confirm`], while a conversation goes on: the connection is kept alive as long as the person thinks.
///
/// # Errors
/// As [`confirm`].
pub async fn confirm_meanwhile(
    what: String,
    yes: bool,
    unattended: Unattended,
) -> Result<(), Failure> {
    tokio::task::spawn_blocking(move || confirm(&what, yes, unattended))
        .await
        .map_err(|error| Failure::local(format!("cannot ask at the terminal: {error}")))?
}

/// Whether there is somebody to ask.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question on the terminal and returns the answer, without blanks around it.
///
/// # Errors
/// A local failure where the terminal cannot be read.
pub fn ask(question: &str) -> Result<String, Failure> {
    progress::aside(|| ask_here(question))
}

fn ask_here(question: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::local(format!("cannot ask at the terminal: {error}"));
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}")
        .and_then(|()| stderr.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX)
        .read_line(&mut answer)
        .map_err(failed)?;
    Ok(answer.trim().to_owned())
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + characters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_begins_with_a_capital() {
        assert_eq!(capitalised("stop host fern"), "Stop host fern");
        assert_eq!(capitalised(""), "");
    }
}
