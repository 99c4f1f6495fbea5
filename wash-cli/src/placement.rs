//! Which host? By its id, by its name, by what it runs, or the one with the least to do.

use futures::future::join_all;
use trellis_claims::{KeyKind, PublicKey};
use trellis_lattice::client::ClientError;
use trellis_protocol::control::{HostDescription, HostInventory};

use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::printable;

/// A host to send a command to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its public key.
    pub id: String,
    /// Its name for people, where it was asked.
    pub name: Option<String>,
}

/// Every host that answers, in order of names.
///
/// # Errors
/// [`Lattice::no_hosts`] if none does.
pub async fn hosts(lattice: &Lattice) -> Result<Vec<HostDescription>, Failure> {
    let mut hosts = lattice
        .client()
        .ping(lattice.question_timeout())
        .await
        .map_err(|error| lattice.failure("cannot ask for hosts", &error))?;
    if hosts.is_empty() {
        return Err(lattice.no_hosts());
    }
    hosts.sort_by(|one, other| {
        (&one.friendly_name, &one.id).cmp(&(&other.friendly_name, &other.id))
    });
    Ok(hosts)
}

/// What every host runs, in order of names. A host that is gone by the time it is asked is left out.
///
/// # Errors
/// [`Lattice::no_hosts`] if none answers.
pub async fn inventories(lattice: &Lattice) -> Result<Vec<HostInventory>, Failure> {
    let hosts = hosts(lattice).await?;
    let asked = join_all(
        hosts
            .iter()
            .map(|host| lattice.client().inventory(&host.id)),
    )
    .await;
    let mut answers = Vec::with_capacity(asked.len());
    for (host, answer) in hosts.iter().zip(asked) {
        match answer {
            Ok(inventory) => answers.push(inventory),
            Err(ClientError::NoHost { .. }) => {}
            Err(error) => {
                let attempt = format!("cannot ask host {} what it runs", printable(&host.id));
                return Err(lattice.failure(&attempt, &error));
            }
        }
    }
    if answers.is_empty() {
        return Err(lattice.no_hosts());
    }
    Ok(answers)
}

/// The host that somebody means: a public key is taken at its word, anything else is compared with the ids and names of
/// those that answer.
///
/// # Errors
/// A refused failure where none or several fit.
pub async fn find(lattice: &Lattice, meant: &str) -> Result<Host, Failure> {
    if PublicKey::parse(meant, KeyKind::Host).is_ok() {
        return Ok(Host {
            id: meant.to_owned(),
            name: None,
        });
    }
    choose_named(&hosts(lattice).await?, meant)
}

/// The host with the fewest actors among those that have these labels.
///
/// # Errors
/// A refused failure where none has them.
pub async fn least_loaded(lattice: &Lattice, labels: &[(String, String)]) -> Result<Host, Failure> {
    choose_idlest(&inventories(lattice).await?, labels)
}

/// The hosts that run something for which `runs` says so.
///
/// # Errors
/// A refused failure that says of `what` that it runs nowhere.
pub async fn running(
    lattice: &Lattice,
    what: &str,
    runs: impl Fn(&HostInventory) -> bool,
) -> Result<Vec<HostInventory>, Failure> {
    let mut found = inventories(lattice).await?;
    found.retain(|inventory| runs(inventory));
    if found.is_empty() {
        return Err(Failure::refused(format!(
            "{what} runs on no host of the lattice {}; see `wash get inventory`",
            lattice.name()
        )));
    }
    Ok(found)
}

/// What to say if one host is meant, but several run it.
#[must_use]
pub fn several(what: &str, found: &[HostInventory], remedy: &str) -> Failure {
    let names: Vec<_> = found
        .iter()
        .map(|host| Host::of(host).to_string())
        .collect();
    Failure::refused(format!(
        "{what} runs on several hosts: {}; {remedy}",
        names.join(", ")
    ))
}

impl Host {
    /// The host that answered with an inventory.
    #[must_use]
    pub fn of(inventory: &HostInventory) -> Self {
        Self {
            id: inventory.host_id.clone(),
            name: Some(inventory.friendly_name.clone()),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", printable(&self.id), printable(name)),
            None => f.write_str(&printable(&self.id)),
        }
    }
}

fn choose_named(hosts: &[HostDescription], meant: &str) -> Result<Host, Failure> {
    let exact: Vec<_> = hosts
        .iter()
        .filter(|host| host.id == meant || host.friendly_name == meant)
        .collect();
    let fitting = if exact.is_empty() {
        hosts
            .iter()
            .filter(|host| host.id.starts_with(meant) || host.friendly_name.starts_with(meant))
            .collect()
    } else {
        exact
    };
    let listed = |hosts: &[&HostDescription]| {
        let names: Vec<_> = hosts.iter().map(|host| described(host)).collect();
        names.join(", ")
    };
    match fitting.as_slice() {
        [host] => Ok(Host {
            id: host.id.clone(),
            name: Some(host.friendly_name.clone()),
        }),
        [] => {
            let all: Vec<_> = hosts.iter().collect();
            Err(Failure::refused(format!(
                "no host is called {}; there are: {}",
                printable(meant),
                listed(&all)
            )))
        }
        several => Err(Failure::refused(format!(
            "{} could be any of: {}; give more of the id",
            printable(meant),
            listed(several)
        ))),
    }
}

fn described(host: &HostDescription) -> String {
    format!(
        "{} ({})",
        printable(&host.id),
        printable(&host.friendly_name)
    )
}

fn choose_idlest(
    inventories: &[HostInventory],
    labels: &[(String, String)],
) -> Result<Host, Failure> {
    let has_labels = |inventory: &HostInventory| {
        labels
            .iter()
            .all(|(key, value)| inventory.labels.get(key) == Some(value))
    };
    inventories
        .iter()
        .filter(|inventory| has_labels(inventory))
        .min_by_key(|inventory| inventory.components.len())
        .map(Host::of)
        .ok_or_else(|| {
            let wanted: Vec<_> = labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            Failure::refused(format!(
                "no host has the labels {}; see `wash get hosts`",
                wanted.join(", ")
            ))
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use trellis_protocol::control::ComponentDescription;

    fn host(id: &str, name: &str) -> HostDescription {
        HostDescription {
            id: id.into(),
            friendly_name: name.into(),
            ..HostDescription::default()
        }
    }

    fn inventory(id: &str, actors: usize, labels: &[(&str, &str)]) -> HostInventory {
        HostInventory {
            host_id: id.into(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            components: vec![ComponentDescription::default(); actors],
            ..HostInventory::default()
        }
    }

    #[test]
    fn a_whole_name_wins_over_the_beginning_of_another() {
        let hosts = [host("NA", "fern"), host("NB", "fern-two")];
        assert_eq!(choose_named(&hosts, "fern").unwrap().id, "NA");
        assert_eq!(choose_named(&hosts, "NB").unwrap().id, "NB");
        assert_eq!(choose_named(&hosts, "fern-").unwrap().id, "NB");
    }

    #[test]
    fn several_hosts_or_none_are_told_by_name() {
        let hosts = [host("NA", "fern"), host("NB", "fern-two")];
        let several = choose_named(&hosts, "fer").unwrap_err();
        assert!(
            several.message().contains("NA (fern)") && several.message().contains("NB (fern-two)")
        );
        let none = choose_named(&hosts, "moss").unwrap_err();
        assert!(none.message().contains("no host is called moss"));
    }

    #[test]
    fn the_idlest_host_with_the_labels_is_chosen() {
        let hosts = [
            inventory("NA", 3, &[("zone", "a")]),
            inventory("NB", 0, &[]),
            inventory("NC", 2, &[("zone", "a")]),
        ];
        let zone = [("zone".to_owned(), "a".to_owned())];
        assert_eq!(choose_idlest(&hosts, &zone).unwrap().id, "NC");
        assert_eq!(choose_idlest(&hosts, &[]).unwrap().id, "NB");
        let nowhere = [("zone".to_owned(), "b".to_owned())];
        assert!(
            choose_idlest(&hosts, &nowhere)
                .unwrap_err()
                .message()
                .contains("zone=b")
        );
    }
}
