//! `wash wit`: the WIT of an artifact, and a directory of WIT as one file.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{PackageId, Resolve};

use crate::cli::{Wit, WitBuild, WitCommand};
use crate::command::transfer;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::{Report, printable, printable_lines};
use crate::settings::Settings;

pub(super) async fn run(
    args: Wit,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    match (args.command, args.artifact) {
        (Some(WitCommand::Build(args)), _) => build(&args),
        (None, Some(written)) if Path::new(&written).is_dir() => {
            let (resolve, package) = of_directory(Path::new(&written))?;
            report(&resolve, package, &printable(&written))
        }
        (None, Some(written)) => {
            let download =
                transfer::download(&written, &args.fetching, settings, environment).await?;
            let what = printable(&written);
            let bytes = super::inspect::read(&download, &what)?;
            of_bytes(&bytes, &what)
        }
        (None, None) => Err(Failure::usage(
            "name a component, an encoded package or a directory of WIT",
        )),
    }
}

/// The WIT of a component, or of an encoded package.
pub(super) fn of_bytes(bytes: &[u8], what: &str) -> Result<Report, Failure> {
    let decoded = wit_component::decode(bytes).map_err(|error| {
        Failure::local(format!(
            "cannot read the WIT of {what}: {}",
            printable(&format!("{error:#}"))
        ))
    })?;
    match decoded {
        DecodedWasm::WitPackage(resolve, package) => report(&resolve, package, what),
        DecodedWasm::Component(resolve, world) => match resolve.worlds[world].package {
            Some(package) => report(&resolve, package, what),
            None => Err(Failure::local(format!(
                "cannot read the WIT of {what}: its world belongs to no package"
            ))),
        },
    }
}

/// The packages, the main one first, as WIT.
fn report(resolve: &Resolve, main: PackageId, what: &str) -> Result<Report, Failure> {
    let others: Vec<_> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != main)
        .collect();
    let mut printer = WitPrinter::default();
    printer
        .print(resolve, main, &others)
        .map_err(|error| Failure::local(format!("cannot print the WIT of {what}: {error:#}")))?;
    let wit = printer.output.to_string();
    Ok(
        Report::new(format!("{}\n", printable_lines(wit.trim_end())))
            .with("package", resolve.packages[main].name.to_string())
            .with("wit", wit),
    )
}

fn of_directory(directory: &Path) -> Result<(Resolve, PackageId), Failure> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(directory).map_err(|error| {
        Failure::local(format!(
            "cannot read the WIT in {}: {}; packages that it uses stand in its deps/, none is fetched",
            directory.display(),
            printable_lines(&format!("{error:#}"))
        ))
    })?;
    Ok((resolve, package))
}

fn build(args: &WitBuild) -> Result<Report, Failure> {
    let (resolve, package) = of_directory(&args.wit_dir)?;
    let name = resolve.packages[package].name.to_string();
    let encoded = wit_component::encode(&resolve, package)
        .map_err(|error| Failure::local(format!("cannot encode {name}: {error:#}")))?;
    let path = args
        .file
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.wasm", name.replace(['/'], "-"))));
    let path = fs::write(&path, &encoded)
        .and_then(|()| fs::canonicalize(&path))
        .map_err(|error| {
            Failure::local(format!(
                "cannot write {}: {error}; name another file with --file",
                path.display()
            ))
        })?;
    Ok(Report::new(format!("{name}: {}\n", path.display()))
        .with("package", name)
        .with("path", &path)
        .with("bytes", encoded.len()))
}
