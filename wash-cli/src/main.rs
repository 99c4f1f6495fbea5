//! The binary `wash`: everything is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(wash::main(std::env::args_os()))
}
