//! `wash inspect`: what an artifact is, what it needs and offers, and whether its claims hold.

pub(super) mod provider;
mod world;

use std::fs;

use trellis_artifacts::{Download, Kind};

use crate::cli::Inspect;
use crate::command::claims::token_of;
use crate::command::claims::verdict::{self, Saying};
use crate::command::transfer::{self, size};
use crate::command::wit;
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::output::{self, Report, printable};
use crate::settings::Settings;
use world::World;

pub(super) async fn run(
    args: Inspect,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let what = printable(&args.artifact);
    let download =
        transfer::download(&args.artifact, &args.fetching, settings, environment).await?;
    match download.kind {
        Some(Kind::Provider) if args.wit => Err(Failure::usage(format!(
            "{what} is an archive of a provider, which has no WIT; leave out --wit to see what it serves"
        ))),
        Some(Kind::Provider) => provider::inspect(&download, &what, args.jwt_only, environment),
        Some(Kind::Component) => {
            let bytes = read(&download, &what)?;
            if args.jwt_only {
                return token_of(&bytes, &what);
            }
            if args.wit {
                return wit::of_bytes(&bytes, &what);
            }
            component(&download, &bytes, &what, environment)
        }
        None => Err(Failure::local(format!(
            "cannot use {what}: it is neither a component nor an archive of a provider"
        ))),
    }
}

/// The bytes of a component.
pub(super) fn read(download: &Download, what: &str) -> Result<Vec<u8>, Failure> {
    fs::read(&download.path).map_err(|error| Failure::local(format!("cannot read {what}: {error}")))
}

/// What is said of every artifact.
fn head(download: &Download, kind: &str) -> (Vec<(String, String)>, Report) {
    let rows = [
        ("Artifact", download.resolved.to_string()),
        ("Kind", kind.to_owned()),
        ("Size", size(download.bytes)),
        ("Digest", download.digest.to_string()),
        ("Media type", download.media_type.clone()),
    ];
    let mut rows: Vec<_> = rows
        .map(|(title, value)| (title.to_owned(), value))
        .into_iter()
        .collect();
    for (index, (key, value)) in download.annotations.iter().enumerate() {
        let title = if index == 0 { "Annotations" } else { "" };
        rows.push((title.to_owned(), format!("{key}={value}")));
    }
    let report = Report::default()
        .with("artifact", download.resolved.to_string())
        .with("kind", kind)
        .with("bytes", download.bytes)
        .with("digest", download.digest.to_string())
        .with("media_type", &download.media_type)
        .with("annotations", &download.annotations);
    (rows, report)
}

fn component(
    download: &Download,
    bytes: &[u8],
    what: &str,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let (mut rows, mut report) = head(download, "component");
    let world = World::of(bytes)
        .map_err(|reason| Failure::local(format!("cannot use {what}: {reason}")))?;
    let saying =
        Saying::of(bytes).map_err(|error| Failure::local(format!("cannot use {what}: {error}")))?;
    let mut failure = None;
    match saying {
        Saying::Nothing => {
            let remark = "none: it is unsigned, and hosts refuse to run it";
            rows.push(("Claims".to_owned(), remark.to_owned()));
            report = report.with(
                "verdict",
                serde_json::json!({"holds": false, "code": "claims-unsigned", "reason": remark}),
            );
        }
        Saying::Unreadable(error) => {
            let reason = chain(&error);
            rows.push(("Claims".to_owned(), format!("DO NOT HOLD: {reason}")));
            report = report.with(
                "verdict",
                serde_json::json!({"holds": false, "code": error.code(), "reason": reason}),
            );
            failure = Some(());
        }
        Saying::Claims(said) => {
            let own = verdict::own_account(environment).as_ref() == Some(&said.claims.issuer);
            rows.extend(verdict::rows(&said.claims, &said.verdict, own));
            report = report
                .with("claims", verdict::to_json(&said.claims))
                .with("verdict", said.verdict.to_json(own));
            failure = said.verdict.0.is_err().then_some(());
        }
    }
    list(&mut rows, "Imports", &world.imports);
    list(&mut rows, "Exports", &world.exports);
    report = report
        .with("imports", &world.imports)
        .with("exports", &world.exports)
        .with_text(output::pairs(rows));
    Ok(match failure {
        None => report,
        Some(()) => report.failing(Failure::refused(format!(
            "the claims of {what} do not hold; hosts refuse to run it"
        ))),
    })
}

/// A row for each of several values, the title before the first.
fn list(rows: &mut Vec<(String, String)>, title: &str, values: &[String]) {
    if values.is_empty() {
        rows.push((title.to_owned(), "nothing".to_owned()));
    }
    for (index, value) in values.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        rows.push((title.to_owned(), value.clone()));
    }
}
