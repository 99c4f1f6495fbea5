//! `wash doctor`: looks at what an actor needs to be built and to run, and says how to mend what is missing.
//!
//! It changes nothing, downloads nothing and makes no key. Each look is a [`Finding`] with a stable name; one that is
//! broken makes the exit code 1. Looks that need an answer of something broken are left out rather than guessed.

mod finding;
mod lattice;
mod machine;
mod server;
mod toolchain;

use crate::cli::Doctor;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::{self, Report, printable};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::StateDir;
use finding::{Findings, State};

pub(super) fn run(
    args: &Doctor,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let progress = Progress::start("looking at this machine");
    let mut findings = Findings::default();
    machine::keys(environment, &mut findings);
    let state_dir = StateDir::resolve(args.state_dir.as_deref(), environment);
    let host_runs_here = machine::state_directory(state_dir, &mut findings);
    machine::artifact_cache(environment, &mut findings);
    toolchain::look(&mut findings);
    machine::nats_server(&mut findings);
    machine::ports(settings, host_runs_here, &mut findings);
    if !args.offline {
        progress.say(format!("asking NATS at {}", settings.servers()));
        super::ask(async {
            if let Some(client) = server::look(settings, &mut findings).await {
                lattice::look(settings, client, &mut findings).await;
            }
            Ok(())
        })?;
    }
    drop(progress);
    Ok(report(&findings))
}

fn report(findings: &Findings) -> Report {
    let mut rows = Vec::new();
    for finding in findings.iter() {
        rows.push(vec![
            finding.state.word().to_owned(),
            finding.check.to_owned(),
            finding.message.clone(),
        ]);
        if let Some(fix) = &finding.fix {
            rows.push(vec![String::new(), String::new(), format!("fix: {fix}")]);
        }
    }
    let count = |state| findings.iter().filter(|found| found.state == state).count();
    let (broken, warnings) = (count(State::Broken), count(State::Warning));
    let report = Report::new(output::table(&["state", "check", "finding"], rows))
        .with("findings", findings.to_json())
        .with("broken", broken)
        .with("warnings", warnings);
    if broken == 0 {
        return report;
    }
    let names: Vec<_> = findings
        .iter()
        .filter(|found| found.state == State::Broken)
        .map(|found| printable(found.check))
        .collect();
    let verb = if broken == 1 { "is" } else { "are" };
    report.failing(Failure::refused(format!(
        "{} {verb} broken; each finding says how to mend it",
        names.join(", ")
    )))
}
