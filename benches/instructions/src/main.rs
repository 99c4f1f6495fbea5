//! What `cargo xtask bench instructions` counts: the codec and the dispatch that every call goes through.
//!
//! `bench-instructions --list` names the cases; `bench-instructions NAME` runs one, [`ITERATIONS`] times inside
//! [`measured`], which is the function that callgrind is told to collect in. Nothing here depends on time, on random
//! numbers or on the order of a hash table, and whatever is made once is made before.

mod cases;

use std::hint::black_box;

use anyhow::{Context as _, Result};

/// How often a case runs where it is counted, so that the loop around it does not matter.
const ITERATIONS: u32 = 100;

/// How often before: allocators and tables are then as they will be.
const WARM_UP: u32 = 10;

/// One thing to count.
struct Case {
    name: &'static str,
    run: Box<dyn FnMut()>,
}

fn main() -> Result<()> {
    let name = std::env::args()
        .nth(1)
        .context("give --list or the name of a case")?;
    let mut cases = cases::all()?;
    if name == "--list" {
        for case in &cases {
            #[expect(clippy::print_stdout, reason = "the list is the program's output")]
            {
                println!("{} {ITERATIONS}", case.name);
            }
        }
        return Ok(());
    }
    let case = cases
        .iter_mut()
        .find(|case| case.name == name)
        .with_context(|| format!("there is no case `{name}`"))?;
    for _ in 0..WARM_UP {
        (case.run)();
    }
    measured(&mut *case.run);
    Ok(())
}

/// Callgrind collects from here on. Its name is all that it is found by, so it is a call of its own.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    for _ in 0..ITERATIONS {
        black_box(&mut *run)();
    }
}
