//! `wash build`: run the actor's build, then sign what came of it.

use crate::artifact::{self, ArtifactError};
use crate::cli;
use crate::command::claims::Hand;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::manifest::Manifest;
use crate::output::Report;
use crate::signing::{self, Statement, sign_file, signed_path};

pub(super) fn run(args: &cli::Build, environment: &mut Environment) -> Result<Report, Failure> {
    let manifest = Manifest::of(&args.path)?;
    let build = if args.no_build {
        artifact::Build::Skip
    } else {
        artifact::Build::Run
    };
    let artifact = artifact::build(&args.path, &manifest, args.artifact.as_deref(), build)?;
    let version = manifest
        .version
        .or(artifact.package_version)
        .ok_or_else(|| ArtifactError::NoCargo {
            directory: args.path.clone(),
        })?;
    let hand = Hand::of(&args.signing, &manifest.name, environment)?;
    let destination = match &args.signing.destination {
        Some(path) => path.clone(),
        None => signed_path(
            artifact.path.parent().unwrap_or(".".as_ref()),
            &manifest.name,
        ),
    };
    let statement = Statement {
        name: manifest.name,
        version,
        revision: manifest.revision,
        tags: manifest.tags,
        call_alias: manifest.call_alias,
        capabilities: manifest.capabilities,
        subject: hand.subject,
        lifetime: hand.lifetime,
        account_token: hand.account_token,
    };
    let signed = sign_file(&artifact.path, &destination, statement, &hand.issuer)?;
    Ok(signing::report(&signed))
}
