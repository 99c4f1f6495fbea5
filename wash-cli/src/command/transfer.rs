//! Where artifacts come from and go to: files of this machine, registries, the lattice's own store.
//!
//! Whoever looks at an artifact may look at any: files and `latest` are no danger to somebody who names them, so nothing
//! is asked but `--allow-latest`, whose absence 1.x's users rely on. What a host then runs is for the host to decide.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use async_nats::jetstream;
use trellis_artifacts::limits::ARCHIVE_BYTES_MAX;
use trellis_artifacts::{
    ArtifactOptions, Artifacts, Digest, Download, FetchError, LatticeStore, Progress as Step,
    PushError, Reference,
};
use trellis_lattice::connection::connect_control;
use trellis_protocol::control::{RegistryCredential, RegistryCredentials};

use crate::cli::{Fetching, RegistryAccess};
use crate::environment::{self, Environment};
use crate::exit::{Failure, FailureKind, chain};
use crate::output::printable;
use crate::progress::Progress;
use crate::settings::Settings;

/// The directory of artifacts that were pulled: `$TRELLIS_ARTIFACT_CACHE`, else below `$XDG_CACHE_HOME`, else below
/// `~/.cache`. None where none of them is set.
pub(super) fn cache_dir(environment: &mut Environment) -> Option<PathBuf> {
    environment
        .get(environment::ARTIFACT_CACHE)
        .map(PathBuf::from)
        .or_else(|| {
            environment
                .xdg_dir("XDG_CACHE_HOME", ".cache")
                .map(|base| base.join("artifacts"))
        })
}

/// Who the registry takes us for, and how it is reached: flags, and what the environment adds.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    credential: Option<RegistryCredential>,
    /// The one registry that the credential is for, where it came from the environment and that says so.
    credential_for: Option<String>,
    insecure: bool,
    insecure_registries: Vec<String>,
    ca_files: Vec<PathBuf>,
    allow_latest: bool,
    cache_dir: Option<PathBuf>,
}

impl Access {
    pub(super) fn of(
        flags: &RegistryAccess,
        environment: &mut Environment,
    ) -> Result<Self, Failure> {
        if flags.insecure_skip_tls_verify {
            return Err(Failure::usage(
                "--insecure-skip-tls-verify is not offered: whoever sits between could hand over anything; give the authority of the registry's certificate with --ca, or speak plain HTTP with --insecure",
            ));
        }
        let username = flags
            .user
            .clone()
            .or_else(|| environment.text(environment::OCI_USER));
        let password = flags
            .password
            .clone()
            .or_else(|| environment.text(environment::OCI_PASSWORD));
        let credential = match (username, password) {
            (None, None) => None,
            (Some(username), Some(password)) => Some(RegistryCredential {
                username: Some(username),
                password: Some(password),
                token: None,
                registry_type: "oci".to_owned(),
            }),
            (user, _) => {
                let (there, missing) = match user {
                    Some(_) => ("a user", environment::OCI_PASSWORD.name),
                    None => ("a password", environment::OCI_USER.name),
                };
                return Err(Failure::usage(format!(
                    "for the registry there is {there} alone; give --user and --password, or set {missing}"
                )));
            }
        };
        let from_flags = flags.user.is_some() && flags.password.is_some();
        let credential_for = environment
            .text(environment::OCI_REGISTRY)
            .filter(|_| !from_flags);
        let mut ca_files = flags.ca.clone();
        ca_files.extend(list(environment, environment::OCI_CA).map(PathBuf::from));
        Ok(Self {
            credential,
            credential_for,
            insecure: flags.insecure,
            insecure_registries: list(environment, environment::INSECURE_REGISTRIES).collect(),
            ca_files,
            allow_latest: flags.allow_latest,
            cache_dir: cache_dir(environment),
        })
    }

    /// Refuses what changes under its name in a registry, unless that is accepted.
    pub(super) fn check_latest(&self, reference: &Reference, written: &str) -> Result<(), Failure> {
        match reference {
            Reference::Oci(oci) if oci.is_latest() && !self.allow_latest => {
                Err(Failure::usage(format!(
                    "{} stands for whatever is the latest; name a tag or a digest, or accept it with --allow-latest",
                    printable(written)
                )))
            }
            _ => Ok(()),
        }
    }

    /// Opens what a reference needs: a client of its registry, or a connection to the lattice.
    pub(super) async fn open(
        &self,
        reference: &Reference,
        settings: &Settings,
    ) -> Result<Artifacts, Failure> {
        let mut options = ArtifactOptions {
            cache_dir: self.cache_dir.clone(),
            component_bytes_max: ARCHIVE_BYTES_MAX,
            allow_file: true,
            allow_latest: true,
            insecure_registries: self.insecure_registries.clone(),
            ca_files: self.ca_files.clone(),
            ..ArtifactOptions::default()
        };
        if let (Reference::Oci(oci), true) = (reference, self.insecure) {
            options.insecure_registries.push(oci.registry().to_owned());
        }
        let store = match reference {
            Reference::Lattice(_) => Some(store(settings).await?),
            _ => None,
        };
        let artifacts =
            Artifacts::open(options, store).map_err(|error| Failure::local(chain(&error)))?;
        if let (Reference::Oci(oci), Some(credential)) = (reference, &self.credential)
            && self
                .credential_for
                .as_deref()
                .is_none_or(|only| only == oci.registry())
        {
            let credentials = [(oci.registry().to_owned(), credential.clone())];
            artifacts.set_registries(&RegistryCredentials(credentials.into()));
        }
        Ok(artifacts)
    }
}

/// A list in the environment, with commas between.
fn list(
    environment: &mut Environment,
    variable: environment::Variable,
) -> impl Iterator<Item = String> + use<> {
    let text = environment.text(variable).unwrap_or_default();
    let parts: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    parts.into_iter()
}

/// The lattice's own store.
async fn store(settings: &Settings) -> Result<LatticeStore, Failure> {
    let options = settings.lattice_options();
    let client = connect_control(&options).await.map_err(|error| {
        Failure::new(
            FailureKind::Unreachable,
            format!("cannot reach the lattice's store: {}", chain(&error)),
        )
    })?;
    let mut context = match &options.js_domain {
        Some(domain) => jetstream::with_domain(client, domain),
        None => jetstream::new(client),
    };
    context.set_timeout(settings.question_timeout());
    Ok(LatticeStore {
        context,
        lattice: settings.lattice.to_string(),
    })
}

/// What was fetched. Where there is no cache, the file goes with this value.
pub(super) struct Fetched {
    download: Download,
    _artifacts: Artifacts,
}

impl Deref for Fetched {
    type Target = Download;

    fn deref(&self) -> &Download {
        &self.download
    }
}

/// Fetches what somebody named, as it was published.
pub(super) async fn download(
    written: &str,
    fetching: &Fetching,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Fetched, Failure> {
    let reference = reference_to(written)?;
    let (reference, wanted) = pin(reference, fetching.digest.as_deref())?;
    let mut access = Access::of(&fetching.access, environment)?;
    if fetching.no_cache {
        access.cache_dir = None;
    }
    access.check_latest(&reference, written)?;
    let artifacts = access.open(&reference, settings).await?;
    let progress = Progress::start(format!("fetching {}", printable(written)));
    let download = artifacts
        .download(&reference, |step| show(&progress, written, &step))
        .await
        .map_err(|error| fetch_failure(&error))?;
    match wanted {
        Some(wanted) if wanted != download.digest => Err(Failure::refused(format!(
            "{} has the digest {}, not {wanted}",
            printable(written),
            download.digest
        ))),
        _ => Ok(Fetched {
            download,
            _artifacts: artifacts,
        }),
    }
}

/// Looks at a file of this machine, as at what was fetched.
pub(super) async fn look(
    path: &Path,
    access: &Access,
    settings: &Settings,
) -> Result<Download, Failure> {
    let reference = Reference::File(there(path)?);
    let artifacts = access.open(&reference, settings).await?;
    artifacts
        .download(&reference, |_| {})
        .await
        .map_err(|error| fetch_failure(&error))
}

/// The absolute path of a file that must be there.
fn there(path: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(path).map_err(|error| {
        Failure::local(format!(
            "cannot find the file {}: {error}; `wash build` and `wash par create` make such files",
            path.display()
        ))
    })
}

/// What somebody means: a file that is there, else a reference.
pub(super) fn reference_to(written: &str) -> Result<Reference, Failure> {
    let path = Path::new(written);
    let is_path = ["/", "./", "../"]
        .iter()
        .any(|prefix| written.starts_with(prefix))
        || [".wasm", ".par"]
            .iter()
            .any(|suffix| written.ends_with(suffix));
    if !written.contains("://") && (is_path || path.is_file()) {
        return there(path).map(Reference::File);
    }
    written
        .parse()
        .map_err(|error: trellis_artifacts::ReferenceError| Failure::usage(error.to_string()))
}

/// The reference with the digest that somebody gave beside it. A file's digest can only be compared afterwards.
fn pin(reference: Reference, digest: Option<&str>) -> Result<(Reference, Option<Digest>), Failure> {
    let Some(text) = digest else {
        return Ok((reference, None));
    };
    let digest: Digest = text
        .parse()
        .map_err(|error| Failure::usage(format!("--digest: {error}")))?;
    if reference.digest().is_some_and(|pinned| pinned != digest) {
        return Err(Failure::usage(format!(
            "--digest: the reference names another one, {reference}"
        )));
    }
    Ok(match reference {
        Reference::File(path) => (Reference::File(path), Some(digest)),
        Reference::Oci(oci) => (Reference::Oci(oci.pinned(digest)), None),
        Reference::Lattice(lattice) => (Reference::Lattice(lattice.pinned(digest)), None),
    })
}

/// Shows a step of a transfer.
pub(super) fn show(progress: &Progress, what: &str, step: &Step) {
    let what = printable(what);
    let of = |bytes: u64, total: Option<u64>| match total {
        Some(total) => format!("{} of {}", size(bytes), size(total)),
        None => size(bytes),
    };
    progress.say(match step {
        Step::Resolving => format!("asking for {what}"),
        Step::Fetching {
            received_bytes,
            total_bytes,
        } => format!("fetching {what}: {}", of(*received_bytes, *total_bytes)),
        Step::Pushing {
            sent_bytes,
            total_bytes,
        } => format!("pushing {what}: {}", of(*sent_bytes, Some(*total_bytes))),
        Step::Retrying { attempt, reason } => {
            format!("{what}: attempt {attempt}, since {}", printable(reason))
        }
        Step::Verifying => format!("checking {what}"),
        _ => return,
    });
}

/// A length for people.
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        _ => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}

pub(super) fn fetch_failure(error: &FetchError) -> Failure {
    let kind = match error {
        FetchError::File { .. } => FailureKind::Local,
        _ => kind_of(error.code()),
    };
    Failure::new(kind, with_own_flags(error.code(), chain(error)))
}

pub(super) fn push_failure(error: &PushError) -> Failure {
    let kind = match error {
        PushError::File { .. } => FailureKind::Local,
        _ => kind_of(error.code()),
    };
    Failure::new(kind, with_own_flags(error.code(), chain(error)))
}

/// The sentence names flags as hosts have them; where those of `wash` are called otherwise, they are named as well.
fn with_own_flags(code: &str, said: String) -> String {
    match code {
        "registry-untrusted" => {
            format!("{said}; those flags are of hosts, `wash` has `--ca` and `--insecure` for it")
        }
        _ => said,
    }
}

/// What sort of failure a code of the artifacts' crate is.
fn kind_of(code: &str) -> FailureKind {
    match code {
        "registry-unreachable" | "store-unavailable" => FailureKind::Unreachable,
        "registry-timeout" | "transfer-timeout" => FailureKind::TimedOut,
        "reference-unsupported" => FailureKind::Usage,
        "cache-full" | "cache-unusable" | "artifact-unreadable" => FailureKind::Local,
        _ => FailureKind::Refused,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_in_the_unit_that_fits() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1024 * 1024), "1.0 MiB");
        assert_eq!(size(1_572_864), "1.5 MiB");
    }

    #[test]
    fn one_half_of_a_login_is_a_mistake() {
        let flags = RegistryAccess {
            user: Some("ada".into()),
            ..RegistryAccess::default()
        };
        let failure = Access::of(&flags, &mut Environment::default()).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage);
        let mut environment: Environment = [("WASH_REG_PASSWORD", "hunter2")].into_iter().collect();
        let access = Access::of(&flags, &mut environment).unwrap();
        assert!(access.credential.is_some());
        assert!(!format!("{access:?}").contains("hunter2"));
    }

    #[test]
    fn certificates_are_always_checked() {
        let flags = RegistryAccess {
            insecure_skip_tls_verify: true,
            ..RegistryAccess::default()
        };
        let failure = Access::of(&flags, &mut Environment::default()).unwrap_err();
        assert!(failure.message().contains("--ca"), "{failure}");
    }

    #[test]
    fn a_digest_beside_a_reference_pins_it() {
        let digest = Digest::of(b"x").to_string();
        let reference: Reference = "lattice://hello:1".parse().unwrap();
        let (pinned, wanted) = pin(reference, Some(&digest)).unwrap();
        assert_eq!(pinned.digest().unwrap().to_string(), digest);
        assert_eq!(wanted, None);
        let other = Digest::of(b"y").to_string();
        assert!(pin(pinned, Some(&other)).is_err());
        let file = Reference::File("/a".into());
        assert_eq!(pin(file, Some(&digest)).unwrap().1, Some(Digest::of(b"x")));
    }

    #[test]
    fn a_file_that_is_not_there_and_a_text_that_is_no_reference_are_told_apart() {
        let failure = reference_to("./nothing.wasm").unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Local);
        let failure = reference_to("nothing").unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage);
        assert!(matches!(
            reference_to("localhost:5000/a:1").unwrap(),
            Reference::Oci(_)
        ));
    }
}
