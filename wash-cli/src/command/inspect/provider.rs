//! Archives of providers: what is in them, and whether it is what was signed.

use std::fs::File;
use std::io;

use trellis_artifacts::Download;
use trellis_artifacts::archive::{Archive, ArchiveError};
use trellis_claims::provider::ProviderClaims;
use trellis_claims::{TrustRoots, UnixTime};

use super::{head, list};
use crate::command::claims::verdict::own_account;
use crate::command::transfer::size;
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::output::{self, Report};

pub(super) fn inspect(
    download: &Download,
    what: &str,
    jwt_only: bool,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let unusable =
        |error: ArchiveError| Failure::local(format!("cannot use {what}: {}", chain(&error)));
    let file = File::open(&download.path)
        .map_err(|error| Failure::local(format!("cannot read {what}: {error}")))?;
    let mut archive = Archive::open(file).map_err(unusable)?;
    if jwt_only {
        let token = archive.token();
        return Ok(Report::new(format!("{}\n", output::printable(token))).with("token", token));
    }
    let verdict = judge(&mut archive);
    let claims = archive.claims_unverified();
    let is_own = own_account(environment).as_ref() == Some(&claims.issuer);
    let (mut rows, report) = head(download, "provider");
    rows.extend(rows_of(claims, is_own));
    rows.push((
        "Verdict".to_owned(),
        match &verdict {
            Ok(()) => "holds: signed by the issuer, unchanged, valid now".to_owned(),
            Err(error) => format!("DOES NOT HOLD: {}", chain(error)),
        },
    ));
    let mut said = serde_json::json!({
        "holds": verdict.is_ok(),
        "issuer_is_own_account": is_own,
    });
    if let Err(error) = &verdict {
        said["reason"] = chain(error).into();
        said["code"] = error.code().into();
    }
    let report = report
        .with("claims", to_json(claims))
        .with("verdict", said)
        .with_text(output::pairs(rows));
    Ok(match verdict {
        Ok(()) => report,
        Err(_) => report.failing(Failure::refused(format!(
            "the claims of {what} do not hold; hosts refuse to run it"
        ))),
    })
}

/// Whether an archive is what its manifest says, whoever the issuer is.
pub(in crate::command) fn judge(archive: &mut Archive<File>) -> Result<(), ArchiveError> {
    let mut roots = TrustRoots::default();
    // A weak key is no root, and then verification says so of the issuer.
    let _ = roots.insert(archive.claims_unverified().issuer.clone());
    archive.verify(&roots, UnixTime::now())?;
    let platforms: Vec<_> = archive.executables().keys().cloned().collect();
    for platform in platforms {
        archive.extract(&platform, &mut io::sink())?;
    }
    Ok(())
}

/// What an archive's manifest says, as rows for people.
pub(in crate::command) fn rows_of(claims: &ProviderClaims, is_own: bool) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = [
        ("Provider", claims.name.clone()),
        ("Vendor", claims.vendor.clone()),
        ("Version", claims.version.clone()),
        ("Revision", claims.revision.to_string()),
        ("Subject", claims.subject.to_string()),
        (
            "Issuer",
            if is_own {
                format!("{} (your account)", claims.issuer)
            } else {
                claims.issuer.to_string()
            },
        ),
        ("Not before", claims.validity.not_before.to_string()),
        ("Expires", claims.validity.expires.to_string()),
    ]
    .map(|(title, value)| (title.to_owned(), value))
    .into_iter()
    .collect();
    let names = |capabilities: &trellis_claims::Capabilities| -> Vec<String> {
        capabilities.iter().map(ToString::to_string).collect()
    };
    list(&mut rows, "Serves", &names(&claims.serves));
    list(&mut rows, "Calls", &names(&claims.calls));
    let targets: Vec<_> = claims
        .targets
        .iter()
        .map(|(platform, target)| format!("{platform}, {}, {}", size(target.bytes), target.hash))
        .collect();
    list(&mut rows, "Platforms", &targets);
    if claims.config_schema.is_some() {
        rows.push((
            "Schema".to_owned(),
            "of its configuration, in JSON".to_owned(),
        ));
    }
    rows
}

/// The same for programs.
pub(in crate::command) fn to_json(claims: &ProviderClaims) -> serde_json::Value {
    let names = |capabilities: &trellis_claims::Capabilities| -> Vec<String> {
        capabilities.iter().map(ToString::to_string).collect()
    };
    let targets: serde_json::Map<_, _> = claims
        .targets
        .iter()
        .map(|(platform, target)| {
            let value = serde_json::json!({"hash": target.hash, "bytes": target.bytes});
            (platform.to_string(), value)
        })
        .collect();
    serde_json::json!({
        "issuer": claims.issuer,
        "subject": claims.subject,
        "name": claims.name,
        "vendor": claims.vendor,
        "version": claims.version,
        "revision": claims.revision,
        "serves": names(&claims.serves),
        "calls": names(&claims.calls),
        "targets": targets,
        "config_schema": claims.config_schema,
        "issued_at": claims.issued_at.to_string(),
        "not_before": claims.validity.not_before.to_string(),
        "expires": claims.validity.expires.to_string(),
        "token_id": claims.token_id,
    })
}
