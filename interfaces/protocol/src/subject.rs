//! Every subject of a lattice, built and parsed here and nowhere else.
//!
//! `C` is `wasmbus.ctl.v1.{lattice}`, the control interface of wasmCloud 1.x; its prefix can be configured.
//!
//! | subject | published by | subscribed by | queue group | payload, reply |
//! | --- | --- | --- | --- | --- |
//! | `C.host.ping` | clients | every host | | empty; a host description each |
//! | `C.host.{get,stop,links,stats}.<host>` | clients | that host | | see `control` |
//! | `C.label.{put,del}.<host>` | clients | that host | | see `control` |
//! | `C.{component,provider}.auction` | clients | every host | | a bid each, or silence where the host cannot |
//! | `C.component.{scale,update,call}.<host>` | clients | that host | | see `control` |
//! | `C.component.{spy,logs}.<host>` | clients | that host | | see `control::observe`; many replies |
//! | `C.provider.{start,stop}.<host>` | clients | that host | | see `control` |
//! | `C.link.{put,del,get}` | clients | every host | `C.link` | see `control` |
//! | `C.claims.get` | clients | every host | `C.claims` | see `control` |
//! | `C.registry.put` | clients | every host | | credentials; none, but an acknowledgement where it has a reply subject |
//! | `C.config.{put,get,del}.<name>` | clients | every host | `C.config` | see `control` |
//! | `wasmbus.evt.{lattice}.{event}` | hosts | anyone | | a CloudEvent; none |
//! | `trellis.rpc.v1.{lattice}.{host}.{sender}` | hosts | that host | | a sealed frame; answers go to the sender's own rpc subject |
//! | `trellis.presence.v1.{lattice}.{host}` | that host | every host | | a signed beat; none |
//! | `trellis.roster.v1.{lattice}.{host}` | hosts | that host | | empty; a signed roster |
//!
//! Hosts subscribe to `C.{host,label,component,provider}.*.<host>`, and in the queue groups to `C.link.*`, `C.claims.*`
//! and `C.config.>`; what none of the rows above names is refused there.

use crate::id::{EntityId, LatticeName};

/// Prefix of the control interface where nothing else is configured.
pub const CONTROL_PREFIX_DEFAULT: &str = "wasmbus.ctl";

/// Longest control prefix, in bytes.
pub const CONTROL_PREFIX_BYTES_MAX: usize = 128;

/// The version token of the control interface.
const CONTROL_VERSION: &str = "v1";

/// Builds the subjects of one lattice.
#[derive(Debug, Clone)]
pub struct Subjects {
    lattice: LatticeName,
    control: String,
}

/// What a control subject asks for, read back from the subject that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest<'a> {
    /// `host`, `component`, `provider`, `link`, `claims`, `config`, `label`.
    pub noun: &'a str,
    /// `ping`, `scale`, `put` …
    pub verb: &'a str,
    /// What follows: a host's id or a configuration's name. Configuration names may hold dots.
    pub argument: Option<&'a str>,
}

impl Subjects {
    /// The subjects of a lattice under the default control prefix.
    pub fn new(lattice: LatticeName) -> Self {
        Self::with_control_prefix(lattice, CONTROL_PREFIX_DEFAULT)
    }

    /// The subjects of a lattice under another control prefix.
    pub fn with_control_prefix(lattice: LatticeName, prefix: &str) -> Self {
        let control = format!("{prefix}.{CONTROL_VERSION}.{lattice}");
        Self { lattice, control }
    }

    /// The lattice that these subjects are of.
    pub fn lattice(&self) -> &LatticeName {
        &self.lattice
    }

    /// `C.{noun}.{verb}`: a request to the whole lattice or to a queue group.
    pub fn control(&self, noun: &str, verb: &str) -> String {
        format!("{}.{noun}.{verb}", self.control)
    }

    /// `C.{noun}.{verb}.{argument}`: a request to one host, or about one name.
    pub fn control_with(&self, noun: &str, verb: &str, argument: &str) -> String {
        format!("{}.{noun}.{verb}.{argument}", self.control)
    }

    /// What a host subscribes to for itself: every `C.{noun}.*.{host}`.
    pub fn control_of_host(&self, host: &str) -> Vec<String> {
        ["component", "provider", "label", "host"]
            .iter()
            .map(|noun| format!("{}.{noun}.*.{host}", self.control))
            .collect()
    }

    /// What every host subscribes to without a queue group, beside the auctions.
    pub fn control_broadcast(&self) -> Vec<String> {
        vec![
            self.control("host", "ping"),
            self.control("registry", "put"),
        ]
    }

    /// What every host subscribes to in a queue group: pairs of subject and group.
    pub fn control_queued(&self) -> Vec<(String, String)> {
        vec![
            (
                format!("{}.link.*", self.control),
                format!("{}.link", self.control),
            ),
            (
                format!("{}.claims.*", self.control),
                format!("{}.claims", self.control),
            ),
            (
                format!("{}.config.>", self.control),
                format!("{}.config", self.control),
            ),
        ]
    }

    /// Reads a control subject back; `None` where it is not one of this lattice.
    pub fn parse_control<'a>(&self, subject: &'a str) -> Option<ControlRequest<'a>> {
        let rest = subject.strip_prefix(&self.control)?.strip_prefix('.')?;
        let mut tokens = rest.splitn(3, '.');
        let (noun, verb) = (tokens.next()?, tokens.next()?);
        Some(ControlRequest {
            noun,
            verb,
            argument: tokens.next(),
        })
    }

    /// Whether an answer may be sent to a subject that a request names for it.
    ///
    /// Whoever answers publishes there with its own permissions. A request that names `host.stop` of a host, a key of a
    /// bucket or JetStream's own interface would have the answer do there what its sender may not.
    pub fn may_be_answered_at(&self, reply: &str) -> bool {
        let first = reply.split('.').next().unwrap_or_default();
        let of_lattice = format!(".{CONTROL_VERSION}.{}", self.lattice);
        let is_control = self
            .control
            .strip_suffix(&of_lattice)
            .is_some_and(|prefix| {
                let rest = reply.strip_prefix(prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
        !first.starts_with('$') && !LATTICE_TOKENS.contains(&first) && !is_control
    }

    /// Where an event of the lattice is published.
    pub fn event(&self, event: &str) -> String {
        format!("wasmbus.evt.{}.{event}", self.lattice)
    }

    /// All events of the lattice.
    pub fn events(&self) -> String {
        format!("wasmbus.evt.{}.*", self.lattice)
    }

    /// Where a host receives sealed frames from one sender. NATS permissions can bind the last token to the sender.
    pub fn rpc(&self, host: &str, sender: &str) -> String {
        format!("trellis.rpc.v1.{}.{host}.{sender}", self.lattice)
    }

    /// What a host subscribes to for sealed frames from anyone.
    pub fn rpc_of_host(&self, host: &str) -> String {
        format!("trellis.rpc.v1.{}.{host}.*", self.lattice)
    }

    /// Where a host's beat is published.
    pub fn presence(&self, host: &str) -> String {
        format!("trellis.presence.v1.{}.{host}", self.lattice)
    }

    /// Every beat of the lattice.
    pub fn presence_all(&self) -> String {
        format!("trellis.presence.v1.{}.*", self.lattice)
    }

    /// Where a host is asked for its roster.
    pub fn roster(&self, host: &str) -> String {
        format!("trellis.roster.v1.{}.{host}", self.lattice)
    }
}

/// First tokens of the subjects of every lattice, beside those under its control prefix.
const LATTICE_TOKENS: [&str; 2] = ["trellis", "wasmbus"];

/// Checks a control prefix: tokens of letters, digits, `-` and `_` with dots between.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn check_control_prefix(prefix: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_token = |token: &str| !token.is_empty() && token.chars().all(legal);
    if prefix.len() <= CONTROL_PREFIX_BYTES_MAX && prefix.split('.').all(is_token) {
        return Ok(());
    }
    Err(format!(
        "`{prefix}` is no prefix of subjects; give at most {CONTROL_PREFIX_BYTES_MAX} letters, digits, `-` and `_`, with single dots between"
    ))
}

/// Name of the key-value bucket that holds a lattice's links and public claims.
pub fn lattice_data_bucket(lattice: &LatticeName) -> String {
    format!("LATTICEDATA_{lattice}")
}

/// Name of the key-value bucket that holds a lattice's named configurations.
pub fn config_data_bucket(lattice: &LatticeName) -> String {
    format!("CONFIGDATA_{lattice}")
}

/// Name of the key-value bucket that holds what the compatible buckets have no place for: whole claims tokens.
pub fn trellis_bucket(lattice: &LatticeName) -> String {
    format!("TRELLIS_{lattice}")
}

/// Key of an actor's or provider's links in the lattice data bucket.
pub fn component_key(source: &EntityId) -> String {
    format!("COMPONENT_{source}")
}

/// Key of the public claims of a subject key in the lattice data bucket.
pub fn claims_key(subject: &str) -> String {
    format!("CLAIMS_{subject}")
}

/// Key of an id's whole claims token in the lattice's own bucket.
pub fn token_key(id: &EntityId) -> String {
    format!("TOKEN_{id}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn control_subjects_read_back_as_they_were_built() {
        let subjects = Subjects::new(LatticeName::default());
        let scale = subjects.control_with("component", "scale", "NABC");
        assert_eq!(scale, "wasmbus.ctl.v1.default.component.scale.NABC");
        assert_eq!(
            subjects.parse_control(&scale).unwrap(),
            ControlRequest {
                noun: "component",
                verb: "scale",
                argument: Some("NABC")
            }
        );
        let config = subjects.control_with("config", "put", "a.b.c");
        assert_eq!(
            subjects.parse_control(&config).unwrap().argument,
            Some("a.b.c")
        );
        assert_eq!(
            subjects
                .parse_control(&subjects.control("host", "ping"))
                .unwrap()
                .argument,
            None
        );
    }

    #[test]
    fn answers_go_to_inboxes_and_not_to_where_they_would_do_something() {
        let usual = Subjects::new(LatticeName::default());
        let other = Subjects::with_control_prefix(LatticeName::default(), "acme.v1.control");
        for subjects in [&usual, &other] {
            for inbox in [
                "_INBOX.abc.1",
                "_R_.x",
                "mine.inbox.7",
                "acme.v1",
                "acmes.x",
                "x.$KV",
            ] {
                assert!(subjects.may_be_answered_at(inbox), "{inbox}");
            }
            for taken in [
                "wasmbus.ctl.v1.default.host.stop.N",
                "wasmbus.evt.default.host_stopped",
                "trellis.rpc.v1.default.N.M",
                "$KV.LATTICEDATA_default.CLAIMS_M",
                "$JS.API.STREAM.PURGE.KV_LATTICEDATA_default",
                "$SYS.REQ.SERVER.PING",
            ] {
                assert!(!subjects.may_be_answered_at(taken), "{taken}");
            }
        }
        let stop = "acme.v1.control.v1.another.host.stop.N";
        assert!(!other.may_be_answered_at(stop));
        assert!(!other.may_be_answered_at("acme.v1.control"));
    }

    #[test]
    fn a_control_prefix_is_tokens_with_dots_between() {
        for prefix in [
            CONTROL_PREFIX_DEFAULT,
            "a",
            "my-org.ctl_2",
            &"x".repeat(128),
        ] {
            assert_eq!(check_control_prefix(prefix), Ok(()));
        }
        for prefix in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            ">",
            "a b",
            "ü",
            &"x".repeat(129),
        ] {
            assert!(check_control_prefix(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_subject_of_another_lattice_does_not_parse() {
        let subjects = Subjects::new(LatticeName::default());
        assert!(
            subjects
                .parse_control("wasmbus.ctl.v1.defaulter.host.ping")
                .is_none()
        );
        assert!(subjects.parse_control("wasmbus.ctl.v1.default").is_none());
        assert!(
            subjects
                .parse_control("wasmbus.ctl.v1.default.host")
                .is_none()
        );
        assert!(subjects.parse_control("").is_none());
    }
}
