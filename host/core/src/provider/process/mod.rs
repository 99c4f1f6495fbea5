//! Providers that are processes of their own: found, isolated, started, listened to, called, restarted and stopped.
//!
//! ```text
//! program     what a reference leads to: an executable file, checked before anything is started
//! placed      a program that was fetched, where it can be started from
//! isolation   as whom and with what it runs: another user, else Landlock; an environment of a few names (D19)
//! temporary   the directory for its temporary files, and those that killed hosts have left
//! spawn       the one thread that forks, what happens between fork and exec
//! child       the process: how it is waited for and ended, with everything it started
//! log         its standard output and error, into the host's log and into a short memory for reports
//! launch      one incarnation: process → hello → start
//! door        an incarnation as a `Provider`: its pipe, spoken to in the words of the SDK
//! calls       the other direction: its calls to actors
//! supervisor  incarnation after incarnation, until it is stopped or given up
//! ```
//!
//! Nothing here knows what a provider serves. A process is trusted with what its pipe carries and no more: whatever it
//! sends is checked by `trellis-pipe`, whatever it prints is bounded here, and ending it is always the last word.

mod backoff;
mod calls;
mod child;
mod door;
mod isolation;
mod launch;
mod log;
mod placed;
pub(crate) mod program;
mod spawn;
mod supervisor;
mod temporary;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;

pub(crate) use isolation::IsolationOptions;
pub(crate) use launch::LaunchError;
pub(super) use launch::Order;
pub(super) use placed::Placed;
pub(super) use supervisor::Supervised;
pub(crate) use supervisor::{Phase, PhaseWatch};
