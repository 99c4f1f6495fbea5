//! `wash completions`: what a shell needs to complete command lines, made from the definitions of the commands.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap_complete::generate;

use crate::cli::{Cli, Completions};
use crate::command::papers;
use crate::exit::Failure;
use crate::output::Report;

/// The program's name, as it is typed.
const PROGRAM: &str = "wash";

pub(super) fn run(args: &Completions) -> Result<Report, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), PROGRAM, &mut script);
    let Some(directory) = &args.dir else {
        let text = String::from_utf8_lossy(&script).into_owned();
        return Ok(Report::raw(script)
            .with("shell", args.shell.to_string())
            .with("script", text));
    };
    let path = papers::write(directory, &file_name(args.shell), &script)?;
    Ok(Report::new(format!("{}\n", path.display()))
        .with("shell", args.shell.to_string())
        .with("path", &path))
}

/// The name under which the shell looks for it.
fn file_name(shell: clap_complete::Shell) -> OsString {
    use clap_complete::Generator as _;
    shell.file_name(PROGRAM).into()
}
