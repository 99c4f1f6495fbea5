//! `wash man`: manual pages, made from the definitions of the commands.

use std::ffi::OsStr;
use std::io;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man as Page;

use crate::cli::{Cli, Man};
use crate::command::papers;
use crate::exit::Failure;
use crate::output::Report;

pub(super) fn run(args: &Man) -> Result<Report, Failure> {
    // Built, so that global options and full names are known to every subcommand.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    if let Some(directory) = &args.dir {
        let mut pages = Vec::new();
        collect(&root, &mut pages)?;
        let mut paths = Vec::with_capacity(pages.len());
        for (name, page) in &pages {
            paths.push(papers::write(directory, OsStr::new(name), page)?);
        }
        let text: String = paths
            .iter()
            .map(|path| format!("{}\n", path.display()))
            .collect();
        return Ok(Report::new(text).with("paths", &paths));
    }
    let mut command = &root;
    for word in &args.command {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format!(
                "there is no manual page of `{} {word}`; `wash man` shows what there is",
                command.get_bin_name().unwrap_or("wash")
            ))
        })?;
    }
    let page = render(command)?;
    let text = String::from_utf8_lossy(&page).into_owned();
    Ok(Report::raw(page)
        .with("command", command.get_bin_name().unwrap_or("wash"))
        .with("page", text))
}

/// The page of a command and of everything below it.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
    pages.push((format!("{}.1", page_name(command)), render(command)?));
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        collect(below, pages)?;
    }
    Ok(())
}

/// `wash-link-put` for `wash link put`.
fn page_name(command: &Command) -> String {
    command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .replace(' ', "-")
}

fn render(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let named = command.clone().display_name(page_name(command));
    let render = |page: &mut Vec<u8>| -> io::Result<()> { Page::new(named).render(page) };
    render(&mut page)
        .map_err(|error| Failure::local(format!("cannot make a manual page: {error}")))?;
    Ok(page)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let mut pages = Vec::new();
        collect(&root, &mut pages).unwrap();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["wash.1", "wash-up.1", "wash-link-put.1", "wash-doctor.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for (name, page) in &pages {
            let text = String::from_utf8_lossy(page);
            assert!(text.contains(".SH SYNOPSIS"), "{name}");
        }
    }
}
