//! `wash push`: a component or a provider archive goes to a registry, or to the lattice's own store.

use std::collections::BTreeMap;

use trellis_artifacts::{Kind, Reference, Upload};

use crate::cli::Push;
use crate::command::claims::verdict::Saying;
use crate::command::transfer::{self, Access, show, size};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::{self, Report, printable};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::signing::read_component;

pub(super) async fn run(
    args: Push,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let reference: Reference = args
        .reference
        .parse()
        .map_err(|error: trellis_artifacts::ReferenceError| Failure::usage(error.to_string()))?;
    let access = Access::of(&args.access, environment)?;
    access.check_latest(&reference, &args.reference)?;
    // Looked at before anything is sent: what it is decides its media type.
    let file = args.file.to_string_lossy();
    let local = transfer::look(&args.file, &access, settings).await?;
    let kind = local.kind.ok_or_else(|| {
        Failure::local(format!(
            "cannot push {file}: it is neither a component nor an archive of a provider"
        ))
    })?;
    if kind == Kind::Component
        && !matches!(
            Saying::of(&read_component(&local.path)?),
            Ok(Saying::Claims(_))
        )
    {
        output::note(&format!(
            "note: {} is unsigned; hosts refuse to run it until it is signed with `wash claims sign`",
            printable(&file)
        ));
    }
    let artifacts = access.open(&reference, settings).await?;
    let progress = Progress::start(format!("pushing {}", printable(&args.reference)));
    let annotations: BTreeMap<String, String> = args.annotation.into_iter().collect();
    let pushed = artifacts
        .push(
            &reference,
            kind,
            Upload::File(&local.path),
            annotations,
            |step| show(&progress, &args.reference, &step),
        )
        .await
        .map_err(|error| transfer::push_failure(&error))?;
    drop(progress);
    let rows = [
        ("Pushed", reference.to_string()),
        ("Kind", kind.to_string()),
        ("Size", size(pushed.bytes)),
        ("Digest", pushed.digest.to_string()),
        ("Pinned", pushed.resolved.to_string()),
    ];
    Ok(Report::new(output::pairs(
        rows.map(|(name, value)| (name.to_owned(), value)),
    ))
    .with("reference", reference.to_string())
    .with("kind", kind.to_string())
    .with("bytes", pushed.bytes)
    .with("digest", pushed.digest.to_string())
    .with("resolved", pushed.resolved.to_string()))
}
