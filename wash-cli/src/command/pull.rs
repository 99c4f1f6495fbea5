//! `wash pull`: an artifact comes from a registry, or from the lattice's own store, into a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use trellis_artifacts::{Download, Kind, Reference};

use crate::cli::Pull;
use crate::command::transfer::{self, size};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::{self, Report};
use crate::settings::Settings;

pub(super) async fn run(
    args: Pull,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let download =
        transfer::download(&args.reference, &args.fetching, settings, environment).await?;
    let name = file_name(&download);
    let destination = match args.destination {
        None => PathBuf::from(name),
        Some(path) if path.is_dir() => path.join(name),
        Some(path) => path,
    };
    let path = copy(&download.path, &destination).map_err(|error| {
        Failure::local(format!(
            "cannot write {}: {error}; name another file with --destination",
            destination.display()
        ))
    })?;
    let kind = download
        .kind
        .map_or_else(|| "unknown".to_owned(), |kind| kind.to_string());
    let rows = [
        ("File", path.display().to_string()),
        ("Kind", kind.clone()),
        ("Size", size(download.bytes)),
        ("Digest", download.digest.to_string()),
        ("Pinned", download.resolved.to_string()),
    ];
    Ok(Report::new(output::pairs(
        rows.map(|(name, value)| (name.to_owned(), value)),
    ))
    .with("path", &path)
    .with("kind", kind)
    .with("bytes", download.bytes)
    .with("digest", download.digest.to_string())
    .with("media_type", &download.media_type)
    .with("annotations", &download.annotations)
    .with("resolved", download.resolved.to_string()))
}

/// What the artifact is called, with a suffix by what it is.
fn file_name(download: &Download) -> String {
    let name = match &download.resolved {
        Reference::Oci(oci) => oci.repository().to_owned(),
        Reference::Lattice(lattice) => lattice.name().to_owned(),
        Reference::File(path) => path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let last = name.rsplit('/').next().unwrap_or("artifact");
    let suffix = match download.kind {
        Some(Kind::Component) => "wasm",
        Some(Kind::Provider) => "par",
        None => "bin",
    };
    format!("{last}.{suffix}")
}

/// Copies a file whole or not at all, and gives back its absolute path.
fn copy(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(to).map_err(|error| error.error)?;
    fs::canonicalize(to)
}
