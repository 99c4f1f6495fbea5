//! `wash scale`: change how many invocations of an actor run at once on a host.

use trellis_protocol::EntityId;
use trellis_protocol::control::ScaleComponent;

use crate::cli::{self, Scale};
use crate::command::start;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::annotations;
use crate::output::Report;
use crate::placement::{self, Host};
use crate::reference;
use crate::settings::Settings;

pub(super) async fn run(command: Scale, settings: &Settings) -> Result<Report, Failure> {
    let Scale::Component(args) = command;
    let target = Target::of(&args)?;
    let component_ref = reference::resolve(target.reference)?;
    let component_id = target.id;
    let lattice = Lattice::connect(settings).await?;
    let host = match target.host {
        Some(meant) => placement::find(&lattice, meant).await?,
        None => running_host(&lattice, &component_id).await?,
    };
    let command = ScaleComponent {
        component_ref,
        component_id,
        count: args.max_instances,
        annotations: annotations(&args.given.annotation),
        host_id: host.id.clone(),
        config: args.given.config,
        allow_update: args.allow_update,
        component_limits: annotations(&args.limits.limits),
    };
    start::scale(&lattice, &host, command, args.given.skip_wait, "scaling").await
}

/// What the two or three words mean.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    host: Option<&'a str>,
    reference: &'a str,
    id: EntityId,
}

impl<'a> Target<'a> {
    fn of(args: &'a cli::ScaleComponent) -> Result<Self, Failure> {
        let (host, reference, id) = match (args.target.as_slice(), args.host_id.as_deref()) {
            ([host, reference, id], None) => (Some(host.as_str()), reference, id),
            ([reference, id], host) => (host, reference, id),
            _ => {
                return Err(Failure::usage(
                    "wash scale component: the host is named twice, before the reference and by --host-id",
                ));
            }
        };
        let id = EntityId::new(id)
            .map_err(|error| Failure::usage(format!("wash scale component: {id:?}: {error}")))?;
        Ok(Self {
            host,
            reference,
            id,
        })
    }
}

async fn running_host(lattice: &Lattice, id: &EntityId) -> Result<Host, Failure> {
    let found = placement::running(lattice, id.as_str(), |inventory| {
        inventory
            .components
            .iter()
            .any(|component| component.id == id.as_str())
    })
    .await?;
    match found.as_slice() {
        [one] => Ok(Host::of(one)),
        several => Err(placement::several(
            id.as_str(),
            several,
            "name one with --host-id",
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::exit::FailureKind;

    fn args(words: &[&str]) -> cli::ScaleComponent {
        let line = ["wash", "scale", "component", "--max-instances", "3"];
        match Cli::try_parse_from(line.iter().chain(words))
            .unwrap()
            .command
        {
            Command::Scale(Scale::Component(args)) => args,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_host_can_stand_first_or_in_a_flag_or_be_left_out() {
        let three = args(&["NA", "ref", "id"]);
        assert_eq!(Target::of(&three).unwrap().host, Some("NA"));
        let flag = args(&["ref", "id", "--host-id", "NB"]);
        assert_eq!(Target::of(&flag).unwrap().host, Some("NB"));
        let none = args(&["ref", "id"]);
        let target = Target::of(&none).unwrap();
        assert_eq!(
            (target.host, target.reference, target.id.as_str()),
            (None, "ref", "id")
        );
    }

    #[test]
    fn a_host_named_twice_or_a_bad_id_is_a_usage_mistake() {
        for words in [
            &["NA", "ref", "id", "--host-id", "NB"][..],
            &["ref", "a.b"][..],
        ] {
            let args = args(words);
            assert_eq!(Target::of(&args).unwrap_err().kind(), FailureKind::Usage);
        }
    }
}
