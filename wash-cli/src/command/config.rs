//! `wash config`: named configurations, flat maps of strings.

mod file;

use std::collections::BTreeMap;

use trellis_protocol::control::{Configuration, Request as _, lattice::check_config_name};

use crate::cli::{self, ConfigPut};
use crate::confirm::{Unattended, confirm_meanwhile};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::remark;
use crate::output::{self, Report};
use crate::settings::Settings;

pub(super) async fn run(command: cli::Config, settings: &Settings) -> Result<Report, Failure> {
    match command {
        cli::Config::Put(args) => put(args, settings).await,
        cli::Config::Get(args) => get(&args.name, settings).await,
        cli::Config::Del(args) => delete(&args.name, settings).await,
    }
}

async fn put(args: ConfigPut, settings: &Settings) -> Result<Report, Failure> {
    check_name(&args.name)?;
    let mut pairs = BTreeMap::new();
    for (key, value) in args.pairs {
        if pairs.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!(
                "wash config put: {key} is given twice"
            )));
        }
    }
    let mut config = Configuration(match &args.from_file {
        Some(path) => file::read(path)?,
        None => BTreeMap::new(),
    });
    config.0.extend(pairs);
    config
        .check()
        .map_err(|fault| Failure::usage(format!("wash config put: {fault}")))?;
    let lattice = Lattice::connect(settings).await?;
    let name = &args.name;
    let message = lattice
        .client()
        .put_config(name, &config)
        .await
        .map_err(|error| {
            lattice.failure(&format!("cannot put the configuration {name}"), &error)
        })?;
    let keys: Vec<_> = config.0.keys().collect();
    // The values may be nobody's business, and whoever gave them has them.
    let text = match keys.len() {
        1 => format!("configuration {name} put, with one key\n"),
        count => format!("configuration {name} put, with {count} keys\n"),
    };
    Ok(Report::new(text)
        .with("name", name)
        .with("keys", keys)
        .with_some("message", remark(&message)))
}

async fn get(name: &str, settings: &Settings) -> Result<Report, Failure> {
    check_name(name)?;
    let lattice = Lattice::connect(settings).await?;
    let config = lattice
        .client()
        .get_config(name)
        .await
        .map_err(|error| lattice.failure(&format!("cannot get the configuration {name}"), &error))?
        .ok_or_else(|| {
            Failure::refused(format!(
                "there is no configuration {name}; put one with `wash config put {name} key=value`"
            ))
        })?;
    let rows = config
        .0
        .iter()
        .map(|(key, value)| vec![key.clone(), value.clone()]);
    Ok(Report::new(output::table(&["key", "value"], rows))
        .with("name", name)
        .with("config", &config))
}

async fn delete(name: &str, settings: &Settings) -> Result<Report, Failure> {
    check_name(name)?;
    confirm_meanwhile(
        format!("delete the configuration {name}"),
        settings.yes,
        Unattended::Proceed,
    )
    .await?;
    let lattice = Lattice::connect(settings).await?;
    let message = lattice.client().del_config(name).await.map_err(|error| {
        lattice.failure(&format!("cannot delete the configuration {name}"), &error)
    })?;
    Ok(
        Report::new(format!("there is no configuration {name} any more\n"))
            .with("name", name)
            .with_some("message", remark(&message)),
    )
}

fn check_name(name: &str) -> Result<(), Failure> {
    check_config_name(name).map_err(|fault| Failure::usage(format!("wash config: it {fault}")))
}
