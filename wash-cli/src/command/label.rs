//! `wash label`: put labels on a host, or take them off.

use trellis_protocol::control::{DeleteLabel, PutLabel, Request as _};

use crate::cli::Label;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::remark;
use crate::output::{Report, printable};
use crate::placement;
use crate::settings::Settings;

pub(super) async fn run(args: &Label, settings: &Settings) -> Result<Report, Failure> {
    let labels = read(args)?;
    let lattice = Lattice::connect(settings).await?;
    let host = placement::find(&lattice, &args.host).await?;
    let mut done: Vec<[&str; 2]> = Vec::with_capacity(labels.len());
    for (key, value) in &labels {
        let (asked, attempt) = if args.delete {
            let asked = lattice.client().del_label(&host.id, key).await;
            (
                asked,
                format!("cannot take the label {key} off host {host}"),
            )
        } else {
            let asked = lattice.client().put_label(&host.id, key, value).await;
            (asked, format!("cannot put the label {key} on host {host}"))
        };
        let message = asked.map_err(|error| {
            let failure = lattice.failure(&attempt, &error);
            if done.is_empty() {
                return failure;
            }
            let before: Vec<_> = done.iter().map(|[key, _]| *key).collect();
            Failure::new(
                failure.kind(),
                format!("{failure}; done before that: {}", before.join(", ")),
            )
        })?;
        remark(&message);
        done.push([key, value]);
    }
    let words: Vec<_> = done
        .iter()
        .map(|[key, value]| {
            if args.delete {
                printable(key)
            } else {
                printable(&format!("{key}={value}"))
            }
        })
        .collect();
    let text = if args.delete {
        format!("host {host} has no label {} any more\n", words.join(", "))
    } else {
        format!("host {host} is labelled {}\n", words.join(", "))
    };
    Ok(Report::new(text)
        .with("host_id", &host.id)
        .with("deleted", args.delete)
        .with("processed", &done))
}

/// The labels, checked before anybody is asked: a mistake in the last one must not come after the first was put.
fn read(args: &Label) -> Result<Vec<(String, String)>, Failure> {
    let mut labels = Vec::with_capacity(args.labels.len());
    for text in &args.labels {
        let (key, value) = match (text.split_once('='), args.delete) {
            (Some((key, value)), _) => (key, value),
            (None, true) => (text.as_str(), ""),
            (None, false) => {
                return Err(Failure::usage(format!(
                    "wash label: {text:?}: write it KEY=VALUE"
                )));
            }
        };
        let (key, value) = (key.trim().to_owned(), value.to_owned());
        let checked = if args.delete {
            DeleteLabel { key: key.clone() }.check()
        } else {
            PutLabel {
                key: key.clone(),
                value: value.clone(),
            }
            .check()
        };
        checked.map_err(|fault| Failure::usage(format!("wash label: {text:?}: {fault}")))?;
        labels.push((key, value));
    }
    Ok(labels)
}
