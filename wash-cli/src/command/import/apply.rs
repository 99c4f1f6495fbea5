//! Doing what needs no decision, in our own lattice. Every step can be repeated: what is there already is left alone,
//! and what is there with another content is never overwritten.

use serde_json::Value;
use trellis_protocol::EntityId;
use trellis_protocol::control::{Configuration, StartProvider};

use super::foreign::Foreign;
use super::plan::{Action, Item};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::{self, judge_provider_started};
use crate::output::{self, Report, printable};
use crate::placement;
use crate::progress::Progress;
use crate::settings::Settings;

/// How a step went.
enum Done {
    Yes,
    Already,
    No(String),
    /// There was nothing to be done without a person.
    Left,
}

impl Done {
    const fn word(&self) -> &'static str {
        match self {
            Self::Yes => "done",
            Self::Already => "already-there",
            Self::No(_) => "failed",
            Self::Left => "left",
        }
    }
}

/// Carries over what carries over.
pub(super) async fn run(
    items: &[Item],
    foreign: &Foreign,
    settings: &Settings,
) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    // Said at once, instead of once for each step.
    let hosts = placement::inventories(&lattice).await?;
    let runs = |id: &EntityId| {
        hosts.iter().any(|host| {
            host.providers
                .iter()
                .any(|provider| provider.id == id.as_str())
        })
    };
    let progress = Progress::start("carrying over");
    let mut rows = Vec::new();
    let mut listed = Vec::new();
    let mut failed = 0;
    for item in items {
        progress.say(format!("{} {}", item.noun.word(), printable(&item.name)));
        let done = match &item.action {
            Action::Nothing => Done::Left,
            Action::Config(name, config) => put_config(&lattice, name, config).await,
            Action::Provider(id, _) if runs(id) => Done::Already,
            Action::Provider(id, reference) => start_provider(&lattice, id, reference).await,
            Action::Link(link) => match lattice.client().put_link(link).await {
                Ok(_) => Done::Yes,
                Err(error) => Done::No(lattice.failure("cannot put the link", &error).to_string()),
            },
        };
        let remark = match &done {
            Done::No(reason) => {
                failed += 1;
                reason.clone()
            }
            _ => item.remark.clone(),
        };
        let state = match (&done, item.verdict) {
            (Done::Left, verdict) => verdict.word(),
            (done, _) => done.word(),
        };
        rows.push(vec![
            state.to_owned(),
            item.noun.word().to_owned(),
            item.name.clone(),
            remark.clone(),
        ]);
        let mut json = item.to_json();
        json["outcome"] = done.word().into();
        json["remark"] = Value::String(remark);
        listed.push(json);
    }
    drop(progress);
    let mut text = output::table(&["state", "kind", "name", "remark"], rows);
    for item in items
        .iter()
        .filter(|item| matches!(item.action, Action::Nothing))
    {
        for command in &item.commands {
            text.push_str(command);
            text.push('\n');
        }
    }
    let report = Report::new(text).with("items", listed);
    let mut report = if foreign.unreadable.is_empty() {
        report
    } else {
        report.aside(format!(
            "note: not read: {}",
            output::printable_lines(&foreign.unreadable.join("; "))
        ))
    };
    if failed > 0 {
        report = report.failing(Failure::refused(format!(
            "{failed} of {} could not be carried over; mend what is said above and import again, what is done stays done",
            items.len()
        )));
    }
    Ok(report)
}

async fn put_config(lattice: &Lattice, name: &str, config: &Configuration) -> Done {
    match lattice.client().get_config(name).await {
        Ok(Some(there)) if there == *config => return Done::Already,
        Ok(Some(_)) => {
            return Done::No(format!(
                "a configuration {} is there with other content; put it by hand if the other one is wrong",
                printable(name)
            ));
        }
        Ok(None) => {}
        Err(error) => {
            let failure = lattice.failure("cannot ask for the configuration", &error);
            return Done::No(failure.to_string());
        }
    }
    match lattice.client().put_config(name, config).await {
        Ok(_) => Done::Yes,
        Err(error) => Done::No(
            lattice
                .failure("cannot put the configuration", &error)
                .to_string(),
        ),
    }
}

async fn start_provider(lattice: &Lattice, id: &EntityId, reference: &str) -> Done {
    let start = async || -> Result<(), Failure> {
        let host = placement::least_loaded(lattice, &[]).await?;
        let what = format!("starting {id}");
        let mut events = lattice.events().await?;
        let command = StartProvider {
            provider_id: id.clone(),
            provider_ref: reference.to_owned(),
            host_id: host.id.clone(),
            config: Vec::new(),
            annotations: None,
        };
        lattice
            .client()
            .start_provider(&host.id, &command)
            .await
            .map_err(|error| lattice.failure(&format!("{what} on host {host} failed"), &error))?;
        outcome::wait(&mut events, lattice, &host, &what, |event| {
            judge_provider_started(event, id.as_str())
        })
        .await?;
        Ok(())
    };
    match start().await {
        Ok(()) => Done::Yes,
        Err(failure) => Done::No(failure.to_string()),
    }
}
