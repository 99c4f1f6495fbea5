//! `wash import`: what of a wasmCloud 1.x lattice carries over, and the commands that carry it.
//!
//! The other lattice is read ([`foreign`]), each thing in it is judged ([`plan`]), and what came of it is written as a
//! script for a shell, whose comments say what carries over and what does not. With `--yes` what needs no decision is
//! done at once ([`apply`]): configurations, providers, links. A component is never started so, since somebody has to
//! answer for its grants.

mod apply;
mod component;
mod foreign;
mod plan;
mod shell;

use std::fmt::Write as _;

use trellis_lattice::connection::{LatticeOptions, ServerUrl};
use trellis_protocol::LatticeName;

use crate::cli::Import;
use crate::environment;
use crate::exit::Failure;
use crate::output::{Report, printable};
use crate::progress::Progress;
use crate::settings::Settings;
use foreign::Foreign;
use plan::{Item, Noun, Verdict};
use shell::comment;

pub(super) async fn run(args: Import, settings: &Settings) -> Result<Report, Failure> {
    let from = source(&args, settings)?;
    let within = settings.question_timeout();
    let progress = Progress::start(format!("reading the lattice {}", from.lattice));
    let foreign = foreign::read(&from, within).await?;
    drop(progress);
    let items = plan::of(&foreign);
    let hosts: Vec<_> = foreign
        .hosts
        .iter()
        .map(|host| {
            serde_json::json!({
                "id": host.id,
                "friendly_name": host.friendly_name,
                "version": host.version,
                "labels": host.labels,
            })
        })
        .collect();
    let about = |report: Report| {
        report
            .with(
                "from",
                serde_json::json!({"lattice": from.lattice.as_str(), "hosts": hosts}),
            )
            .with("unreadable", &foreign.unreadable)
    };
    if settings.yes {
        return Ok(about(apply::run(&items, &foreign, settings).await?));
    }
    let listed: Vec<_> = items.iter().map(Item::to_json).collect();
    let report = Report::new(script(&from, settings, &foreign, &items))
        .with("items", listed)
        .aside(summary(&items));
    Ok(about(report))
}

/// Where to read, put together from the flags and from where `wash` goes otherwise.
fn source(args: &Import, settings: &Settings) -> Result<LatticeOptions, Failure> {
    let settings_from = match &args.from_nats_url {
        Some(url) => settings
            .at(url)
            .map_err(|failure| Failure::usage(format!("--from-nats-url: {failure}")))?,
        None => settings.clone(),
    };
    let own = settings.lattice_options();
    let mut from = settings_from
        .in_lattice(args.from_lattice.clone())
        .lattice_options();
    from.control_prefix = args.from_control_prefix.clone();
    from.js_domain = args.from_js_domain.clone();
    if let Some(creds) = &args.from_creds {
        from.creds_file = Some(creds.clone());
    }
    let same = from.urls == own.urls
        && from.lattice == own.lattice
        && from.control_prefix == own.control_prefix
        && from.js_domain == own.js_domain;
    if same {
        return Err(Failure::usage(format!(
            "cannot import the lattice {} into itself; name the one to read with --from-nats-url or --from-lattice, or where it goes with --nats-url or --lattice",
            from.lattice
        )));
    }
    Ok(from)
}

/// How many there are of each verdict.
fn summary(items: &[Item]) -> String {
    let count = |verdict| items.iter().filter(|item| item.verdict == verdict).count();
    format!(
        "note: {} of {} carry over, {} need your signature, {} need a hand; `--yes` does what needs no decision, and the values of configurations stand in the commands",
        count(Verdict::CarriesOver) + count(Verdict::MapsToOurs),
        items.len(),
        count(Verdict::NeedsSigning),
        count(Verdict::NeedsHand),
    )
}

fn script(from: &LatticeOptions, settings: &Settings, foreign: &Foreign, items: &[Item]) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("a String takes every write");
    };
    line(comment(&format!(
        "What the wasmCloud lattice {} has, as {} host(s) and its buckets tell it.",
        from.lattice,
        foreign.hosts.len()
    )));
    for host in &foreign.hosts {
        line(comment(&format!(
            "host {} ({}), version {}",
            host.friendly_name,
            host.id,
            host.version.as_deref().unwrap_or("unknown")
        )));
        let own: Vec<_> = host
            .labels
            .iter()
            .filter(|(key, _)| !key.starts_with("hostcore."))
            .map(|(key, value)| format!("--label {key}={value}"))
            .collect();
        if !own.is_empty() {
            line(comment(&format!(
                "  its labels, for `wash up`: {}",
                own.join(" ")
            )));
        }
    }
    if let Some(manager) = foreign.manager() {
        line(comment(&format!(
            "{manager} manages some of it: its manifests can be deployed here as well, once the components are signed"
        )));
    }
    for unreadable in &foreign.unreadable {
        line(comment(&format!("not read: {unreadable}")));
    }
    // Flags of this command are none of those in the script, which must not end in the lattice that it was read from.
    for (variable, value) in destination(settings) {
        line(format!("export {variable}={value}"));
    }
    for noun in Noun::ALL {
        let of_noun: Vec<_> = items.iter().filter(|item| item.noun == noun).collect();
        if of_noun.is_empty() {
            continue;
        }
        line(String::new());
        line(comment(heading(noun)));
        for item in of_noun {
            let said = match (item.verdict, item.remark.as_str()) {
                (Verdict::NeedsHand, remark) => {
                    format!("NOT CARRIED OVER: {}: {remark}", printable(&item.name))
                }
                (_, "") => String::new(),
                (_, remark) => format!("{}: {remark}", printable(&item.name)),
            };
            if !said.is_empty() {
                line(comment(&said));
            }
            for command in &item.commands {
                line(command.clone());
            }
        }
    }
    text
}

/// Where the commands of the script go, as far as that is not the default.
fn destination(settings: &Settings) -> impl Iterator<Item = (&'static str, String)> {
    let elsewhere = (settings.urls != [ServerUrl::local()]).then(|| {
        let urls: Vec<_> = settings.urls.iter().map(ToString::to_string).collect();
        (environment::NATS_URL.name, urls.join(","))
    });
    let lattice = (settings.lattice != LatticeName::default())
        .then(|| (environment::LATTICE.name, settings.lattice.to_string()));
    elsewhere.into_iter().chain(lattice)
}

const fn heading(noun: Noun) -> &'static str {
    match noun {
        Noun::Config => "Configurations: they carry over as they are.",
        Noun::Secret => "Secrets.",
        Noun::Provider => "Providers.",
        Noun::Link => "Links: they carry over as they are.",
        Noun::Component => "Components: they start once you have signed them.",
    }
}
