//! `wash link`: say who may call whom, for which interfaces, and take it back.

use std::time::Duration;

use trellis_protocol::Link;
use trellis_protocol::control::HostInventory;
use trellis_protocol::control::{DeleteLink, Request as _};

use crate::cli::{self, LinkDel, LinkPut};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::remark;
use crate::output::{self, Report};
use crate::placement;
use crate::settings::Settings;

/// Longest that hosts are asked whether the ends of a new link run. The link is put by then.
const ENDS_ASKED_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn run(command: cli::Link, settings: &Settings) -> Result<Report, Failure> {
    match command {
        cli::Link::Put(args) => put(args, settings).await,
        cli::Link::Del(args) => delete(args, settings).await,
        cli::Link::Query => query(settings).await,
    }
}

async fn put(args: LinkPut, settings: &Settings) -> Result<Report, Failure> {
    let link = Link {
        source_id: args.source,
        target: args.target,
        name: args.link_name,
        wit_namespace: args.namespace,
        wit_package: args.package,
        interfaces: args.interfaces,
        source_config: args.source_config,
        target_config: args.target_config,
    };
    // The host would refuse it too, but what is wrong with the words can be said without one.
    link.check()
        .map_err(|fault| Failure::usage(format!("wash link put: {fault}")))?;
    let lattice = Lattice::connect(settings).await?;
    let (source, target) = (&link.source_id, &link.target);
    let message = lattice.client().put_link(&link).await.map_err(|error| {
        lattice.failure(
            &format!("cannot put the link from {source} to {target}"),
            &error,
        )
    })?;
    let remark = remark(&message);
    if neither_end_runs(&lattice, &link).await {
        output::note(&format!(
            "note: neither {source} nor {target} runs anywhere at the moment; the link waits for them"
        ));
    }
    let interfaces: Vec<_> = link.interface_names().collect();
    let text = format!(
        "{source} may call {target} for {} by the link {}\n",
        interfaces.join(", "),
        link.name
    );
    Ok(Report::new(text)
        .with_all(&link)
        .with_some("message", remark))
}

/// Whether every host says that it runs neither end. Where one does not answer in time nobody knows, and so it is no.
async fn neither_end_runs(lattice: &Lattice, link: &Link) -> bool {
    match tokio::time::timeout(ENDS_ASKED_WITHIN, placement::inventories(lattice)).await {
        Ok(Ok(inventories)) => !inventories.iter().any(|host| runs_an_end(host, link)),
        _ => false,
    }
}

fn runs_an_end(host: &HostInventory, link: &Link) -> bool {
    let actors = host.components.iter().map(|actor| &actor.id);
    let providers = host.providers.iter().map(|provider| &provider.id);
    let mut running = actors.chain(providers);
    running.any(|id| id == link.source_id.as_str() || id == link.target.as_str())
}

async fn delete(args: LinkDel, settings: &Settings) -> Result<Report, Failure> {
    let key = DeleteLink {
        source_id: args.source,
        name: args.link_name,
        wit_namespace: args.namespace,
        wit_package: args.package,
    };
    key.check()
        .map_err(|fault| Failure::usage(format!("wash link del: {fault}")))?;
    let lattice = Lattice::connect(settings).await?;
    let package = format!("{}:{}", key.wit_namespace, key.wit_package);
    let message = lattice.client().del_link(&key).await.map_err(|error| {
        lattice.failure(
            &format!("cannot delete the link of {} for {package}", key.source_id),
            &error,
        )
    })?;
    let text = format!(
        "{} has no link {} for {package} any more\n",
        key.source_id, key.name
    );
    Ok(Report::new(text)
        .with_all(&key)
        .with_some("message", remark(&message)))
}

/// Lists the lattice's links.
pub(super) async fn query(settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let mut links = lattice
        .client()
        .links()
        .await
        .map_err(|error| lattice.failure("cannot ask for links", &error))?;
    links.sort_by_key(Link::key);
    Ok(Report::new(describe(&links)).with("links", links))
}

fn describe(links: &[Link]) -> String {
    output::table(
        &[
            "source",
            "target",
            "link",
            "interfaces",
            "source config",
            "target config",
        ],
        links.iter().map(|link| {
            vec![
                link.source_id.to_string(),
                link.target.to_string(),
                link.name.to_string(),
                format!(
                    "{}:{}/{}",
                    link.wit_namespace,
                    link.wit_package,
                    link.interfaces.join(",")
                ),
                link.source_config.join(","),
                link.target_config.join(","),
            ]
        }),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_one_line_of_the_table() {
        let link = Link {
            source_id: "shortlink".parse().unwrap(),
            target: "keyvalue".parse().unwrap(),
            name: "default".parse().unwrap(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec!["store".into(), "atomics".into()],
            source_config: vec![],
            target_config: vec!["bucket".into()],
        };
        assert_eq!(
            describe(&[link]),
            "SOURCE     TARGET    LINK     INTERFACES                   SOURCE CONFIG  TARGET CONFIG\n\
             shortlink  keyvalue  default  wasi:keyvalue/store,atomics                 bucket\n"
        );
    }
}
