//! The C compiler: TLS and hashing crates have C and assembly in them.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{self, QUESTION_WITHIN};

/// Includes a header and is linked, because a compiler without the C library's headers is a common half of one.
const SOURCE: &str = "#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n";

/// Compiles a small program; gives back the compiler's name.
pub(crate) fn check() -> Result<String> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let scratch = tempfile::tempdir().context("no temporary directory can be made")?;
    let source = scratch.path().join("check.c");
    fs::write(&source, SOURCE).context("the temporary directory can't be written")?;
    // CC may hold options, as make and the cc crate allow.
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command
        .args(words)
        .arg(&source)
        .arg("-o")
        .arg(scratch.path().join("check"));
    command::read(&mut command, QUESTION_WITHIN)
        .context("no working C compiler: install one (on Debian: apt-get install gcc libc6-dev)")?;
    Ok(compiler)
}
