//! `wash link`: say who may call whom, for which interfaces, and take it back.

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use trellis_protocol::Link;
use trellis_protocol::control::delivery::{End, EndState};
use trellis_protocol::control::{DeleteLink, HostInventory, LinkEnd, ListedLink, Request as _};

use crate::cli::{self, LinkDel, LinkPut};
use crate::command::{ask_shown, get};
use crate::confirm::{Unattended, confirm_meanwhile};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::remark;
use crate::output::{self, Format, Report, printable};
use crate::placement;
use crate::settings::Settings;

/// Longest that hosts are asked whether the ends of a new link run. The link is put by then.
const ENDS_ASKED_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn run(
    command: cli::Link,
    settings: &Settings,
    format: Format,
) -> Result<Report, Failure> {
    match command {
        cli::Link::Put(args) => ask_shown(put(args, settings)),
        cli::Link::Del(args) if args.all => ask_shown(delete_all(&args, settings)),
        cli::Link::Del(args) => ask_shown(delete(args, settings)),
        cli::Link::Query(watch) => get::look(watch, format, || query(settings)),
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
    let (Some(source_id), Some(wit_namespace), Some(wit_package)) =
        (args.source, args.namespace, args.package)
    else {
        return Err(Failure::usage(
            "wash link del: name the source, the namespace and the package, or give --all",
        ));
    };
    let key = DeleteLink {
        source_id,
        name: args.link_name,
        wit_namespace,
        wit_package,
    };
    key.check()
        .map_err(|fault| Failure::usage(format!("wash link del: {fault}")))?;
    let lattice = Lattice::connect(settings).await?;
    let package = format!("{}:{}", key.wit_namespace, key.wit_package);
    let message = delete_one(&lattice, &key).await?;
    let text = format!(
        "{} has no link {} for {package} any more\n",
        key.source_id, key.name
    );
    Ok(Report::new(text)
        .with_all(&key)
        .with_some("message", remark(&message)))
}

async fn delete_one(lattice: &Lattice, key: &DeleteLink) -> Result<String, Failure> {
    lattice.client().del_link(key).await.map_err(|error| {
        lattice.failure(
            &format!(
                "cannot delete the link of {} for {}:{}",
                key.source_id, key.wit_namespace, key.wit_package
            ),
            &error,
        )
    })
}

async fn delete_all(args: &LinkDel, settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let links = links(&lattice).await?;
    if links.is_empty() {
        return Ok(Report::new("there are no links\n").with("deleted", Vec::<DeleteLink>::new()));
    }
    let what = format!(
        "delete all {} links of the lattice {}",
        links.len(),
        lattice.name()
    );
    confirm_meanwhile(what, settings.yes || args.force, Unattended::Refuse).await?;
    let (mut text, mut deleted) = (String::new(), Vec::new());
    for link in links {
        let key = link.key();
        delete_one(&lattice, &key).await.map_err(|failure| {
            Failure::new(
                failure.kind(),
                format!(
                    "{failure}; {} links were deleted before that",
                    deleted.len()
                ),
            )
        })?;
        text.push_str(&format!(
            "{} has no link {} for {}:{} any more\n",
            key.source_id, key.name, key.wit_namespace, key.wit_package
        ));
        deleted.push(key);
    }
    Ok(Report::new(text).with("deleted", deleted))
}

async fn links(lattice: &Lattice) -> Result<Vec<Link>, Failure> {
    let listed = listed(lattice).await?.into_iter();
    Ok(listed.map(|listed| listed.link).collect())
}

/// The links, in order, and of each whether the host that answers believes who signed it.
async fn listed(lattice: &Lattice) -> Result<Vec<ListedLink>, Failure> {
    let mut links = lattice
        .client()
        .listed_links()
        .await
        .map_err(|error| lattice.failure("cannot ask for links", &error))?;
    links.sort_by_key(|listed| listed.link.key());
    Ok(links)
}

/// Lists the lattice's links, and how far each end of them is.
pub(super) async fn query(settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let listed = listed(&lattice).await?;
    let links: Vec<_> = listed.iter().map(|listed| listed.link.clone()).collect();
    let ends = if links.is_empty() {
        Vec::new()
    } else {
        ends(&lattice).await
    };
    let failed: Vec<_> = ends.iter().filter_map(HostEnd::fault).collect();
    let report = Report::new(describe(&links, &ends))
        .with("links", &listed)
        .with("ends", &ends);
    Ok(if failed.is_empty() {
        report
    } else {
        report.aside(failed.join("\n"))
    })
}

/// An end of a link, and the host that it is with.
#[derive(Debug, Clone, Serialize)]
struct HostEnd {
    host_id: String,
    #[serde(skip)]
    host: String,
    #[serde(flatten)]
    end: LinkEnd,
}

impl HostEnd {
    /// What is to be said of an end that is not in effect, or only wants to be.
    fn fault(&self) -> Option<String> {
        let LinkEnd {
            key,
            target,
            state,
            error,
            ..
        } = &self.end;
        let how = match (state, error) {
            (EndState::Applied, _) | (_, None) => return None,
            (EndState::Pending, Some(_)) => "waits",
            (EndState::Failed, Some(_)) => "has failed",
        };
        Some(format!(
            "note: the link {} of {} to {target} {how} at {} on {}: {}",
            key.name,
            key.source_id,
            self.end.id(),
            printable(&self.host),
            printable(error.as_deref().unwrap_or_default())
        ))
    }
}

/// The ends that hosts know of. A host that does not answer in time, or is none of ours, names none.
async fn ends(lattice: &Lattice) -> Vec<HostEnd> {
    let Ok(hosts) = placement::hosts(lattice).await else {
        return Vec::new();
    };
    let client = lattice.client().clone().with_timeout(ENDS_ASKED_WITHIN);
    let asked = join_all(hosts.iter().map(|host| client.link_ends(&host.id))).await;
    hosts
        .iter()
        .zip(asked)
        .flat_map(|(host, answer)| {
            answer.unwrap_or_default().into_iter().map(|end| HostEnd {
                host_id: host.id.clone(),
                host: host.friendly_name.clone(),
                end,
            })
        })
        .collect()
}

fn describe(links: &[Link], ends: &[HostEnd]) -> String {
    output::table(
        &[
            "source",
            "target",
            "link",
            "interfaces",
            "source config",
            "target config",
            "source end",
            "target end",
        ],
        links.iter().map(|link| {
            let at = |end| place(link, end, ends);
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
                at(End::Source),
                at(End::Target),
            ]
        }),
    )
}

/// The hosts that an end of a link is with, and how far each is. An end that runs nowhere is a dash.
fn place(link: &Link, end: End, ends: &[HostEnd]) -> String {
    let key = link.key();
    let places: Vec<_> = ends
        .iter()
        .filter(|at| at.end.end == end && at.end.key == key && at.end.target == link.target)
        .map(|at| {
            let state = match at.end.state {
                EndState::Applied => "applied",
                EndState::Pending => "pending",
                EndState::Failed => "failed",
            };
            format!("{state} on {}", at.host)
        })
        .collect();
    if places.is_empty() {
        "-".to_owned()
    } else {
        places.join(", ")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_protocol::control::delivery::EndKind;

    use super::*;

    fn link() -> Link {
        Link {
            source_id: "shortlink".parse().unwrap(),
            target: "keyvalue".parse().unwrap(),
            name: "default".parse().unwrap(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec!["store".into(), "atomics".into()],
            source_config: vec![],
            target_config: vec!["bucket".into()],
        }
    }

    fn end(host: &str, end: End, state: EndState, error: Option<&str>) -> HostEnd {
        HostEnd {
            host_id: "N".to_owned(),
            host: host.to_owned(),
            end: LinkEnd {
                key: link().key(),
                target: link().target,
                end,
                kind: EndKind::Provider,
                state,
                error: error.map(str::to_owned),
                generation: 1,
            },
        }
    }

    #[test]
    fn a_link_is_one_line_of_the_table_with_both_its_ends() {
        let ends = [
            end("fern", End::Source, EndState::Applied, None),
            end("moss", End::Source, EndState::Pending, None),
        ];
        assert_eq!(
            describe(&[link()], &ends),
            "SOURCE     TARGET    LINK     INTERFACES                   SOURCE CONFIG  TARGET CONFIG  SOURCE END                        TARGET END\n\
             shortlink  keyvalue  default  wasi:keyvalue/store,atomics                 bucket         applied on fern, pending on moss  -\n"
        );
    }

    #[test]
    fn an_end_that_has_failed_says_why() {
        let applied = end("fern", End::Target, EndState::Applied, None);
        assert_eq!(applied.fault(), None);
        let failed = end(
            "fern",
            End::Target,
            EndState::Failed,
            Some("no such bucket"),
        );
        assert_eq!(
            failed.fault().unwrap(),
            "note: the link default of shortlink to keyvalue has failed at keyvalue on fern: no such bucket"
        );
    }
}
