//! Flags about where components and providers come from.

use std::path::PathBuf;

use clap::Args;
use trellis_artifacts::limits::CACHE_BYTES_MAX;
use trellis_artifacts::published::without_tag;
use trellis_host_core::HostOptions;
use trellis_protocol::control::RegistryCredential;

/// Bytes of the unit in which the cache's size is given.
const MIB: u64 = 1024 * 1024;

/// Where components and providers may come from.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Artifacts")]
pub struct ArtifactArgs {
    /// Load components, and start programs as providers, from any file of this machine (`file:///…`)
    #[arg(long, alias = "allow-file-load", env = "TRELLIS_ALLOW_FILE")]
    pub allow_file: bool,
    /// Fetch from registries what changes under its name: references with the tag `latest`, or without tag and digest
    #[arg(long, env = "TRELLIS_ALLOW_LATEST")]
    pub allow_latest: bool,
    /// Registry that is spoken to over plain HTTP, as references name it, with its port; may be repeated
    #[arg(
        long = "insecure-registry",
        alias = "allowed-insecure",
        env = "TRELLIS_INSECURE_REGISTRIES",
        value_name = "REGISTRY",
        value_delimiter = ','
    )]
    pub insecure_registries: Vec<String>,
    /// Registry that the user and the password are for; those of others come with `wash` or from a control client
    #[arg(
        long,
        env = "TRELLIS_OCI_REGISTRY",
        value_name = "REGISTRY",
        requires = "oci_user",
        requires = "oci_password"
    )]
    pub oci_registry: Option<String>,
    /// User at that registry
    #[arg(
        long,
        env = "TRELLIS_OCI_USER",
        value_name = "USER",
        requires = "oci_registry"
    )]
    pub oci_user: Option<String>,
    /// Password at that registry; every process of this machine can read flags, so set the variable
    #[arg(
        long,
        env = "TRELLIS_OCI_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "oci_registry"
    )]
    pub oci_password: Option<String>,
    /// File of root certificates (PEM) to believe registries by, beside the system's; may be repeated
    #[arg(
        long,
        env = "TRELLIS_OCI_CA",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub oci_ca: Vec<PathBuf>,
    /// Directory of what was fetched; several hosts of this user can share one [default: <state dir>/artifacts]
    #[arg(long, env = "TRELLIS_ARTIFACT_CACHE", value_name = "DIR")]
    pub artifact_cache: Option<PathBuf>,
    /// Size that the cache is kept below, in MiB; what was not used for the longest time goes first [default: 4096]
    #[arg(
        long,
        env = "TRELLIS_ARTIFACT_CACHE_SIZE",
        value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=1_048_576)
    )]
    pub artifact_cache_size: Option<u64>,
    /// Name of the provider, built in or in the directory of providers, that a reference without its tag stands for here;
    /// wins over the table of published ones; may be repeated
    #[arg(
        long = "provider-alias",
        env = "TRELLIS_PROVIDER_ALIASES",
        value_name = "REFERENCE=NAME",
        value_delimiter = ','
    )]
    pub provider_aliases: Vec<String>,
}

impl std::fmt::Debug for ArtifactArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArtifactArgs")
            .field("allow_file", &self.allow_file)
            .field("allow_latest", &self.allow_latest)
            .field("insecure_registries", &self.insecure_registries)
            .field("oci_registry", &self.oci_registry)
            .field("oci_ca", &self.oci_ca)
            .field("artifact_cache", &self.artifact_cache)
            .field("provider_aliases", &self.provider_aliases)
            .finish_non_exhaustive()
    }
}

impl ArtifactArgs {
    /// Takes the flags over into the host's options, and tells each mistake.
    pub fn apply(&self, options: &mut HostOptions, mistake: &mut dyn FnMut(String)) {
        let artifacts = &mut options.artifacts;
        artifacts.allow_file = self.allow_file;
        artifacts.allow_latest = self.allow_latest;
        for registry in given(&self.insecure_registries) {
            if registry.contains("://") || registry.contains('/') {
                mistake(format!(
                    "--insecure-registry: `{registry}` is no registry; give its name as references do, such as `localhost:5000`"
                ));
            }
            artifacts.insecure_registries.push(registry.to_owned());
        }
        for alias in given(&self.provider_aliases) {
            let pair = alias.rsplit_once('=');
            match pair.filter(|(reference, name)| !reference.is_empty() && !name.is_empty()) {
                Some((reference, name)) => {
                    let known = without_tag(reference).to_owned();
                    options.provider_aliases.insert(known, name.to_owned());
                }
                None => mistake(format!(
                    "--provider-alias: `{alias}` is no alias; write `registry.example/name=http-server`"
                )),
            }
        }
        for file in &self.oci_ca {
            if let Err(error) = std::fs::File::open(file) {
                mistake(format!("--oci-ca: cannot read {}: {error}", file.display()));
            }
        }
        artifacts.ca_files.clone_from(&self.oci_ca);
        artifacts.cache_dir.clone_from(&self.artifact_cache);
        artifacts.cache_bytes_max = self
            .artifact_cache_size
            .map_or(CACHE_BYTES_MAX, |mib| mib.saturating_mul(MIB));
        if let (Some(registry), Some(user), Some(password)) =
            (&self.oci_registry, &self.oci_user, &self.oci_password)
        {
            let credential = RegistryCredential {
                username: Some(user.clone()),
                password: Some(password.clone()),
                token: None,
                registry_type: "oci".to_owned(),
            };
            options.registries.0.insert(registry.clone(), credential);
        }
    }
}

/// What a list really names: a variable that is set to nothing names nothing.
fn given(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter()
        .map(|entry| entry.trim())
        .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use trellis_claims::{KeyKind, SigningKey};
    use trellis_lattice::connection::LatticeOptions;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        artifacts: ArtifactArgs,
    }

    fn applied(list: &[&str]) -> (HostOptions, Vec<String>) {
        let flags = Flags::try_parse_from([&["test"], list].concat()).unwrap();
        let key = Arc::new(SigningKey::generate(KeyKind::Host));
        let mut options = HostOptions::new(LatticeOptions::default(), "/nowhere", key);
        let mut mistakes = Vec::new();
        flags
            .artifacts
            .apply(&mut options, &mut |mistake| mistakes.push(mistake));
        (options, mistakes)
    }

    #[test]
    fn nothing_is_allowed_that_was_not_asked_for() {
        let (options, mistakes) = applied(&[]);
        assert!(mistakes.is_empty());
        assert!(!options.artifacts.allow_file && !options.artifacts.allow_latest);
        assert!(options.artifacts.insecure_registries.is_empty());
        assert_eq!(options.artifacts.cache_bytes_max, CACHE_BYTES_MAX);
        assert!(options.registries.0.is_empty());
    }

    #[test]
    fn flags_of_wasmcloud_mean_the_same_here() {
        let (options, mistakes) = applied(&[
            "--allow-file-load",
            "--allow-latest",
            "--allowed-insecure",
            "localhost:5000,10.0.0.1:5000",
            "--oci-registry",
            "r.example",
            "--oci-user",
            "u",
            "--oci-password",
            "hidden",
            "--artifact-cache-size",
            "2",
        ]);
        assert_eq!(mistakes, Vec::<String>::new());
        assert!(options.artifacts.allow_file && options.artifacts.allow_latest);
        assert_eq!(options.artifacts.insecure_registries.len(), 2);
        assert_eq!(options.artifacts.cache_bytes_max, 2 * MIB);
        let credential = &options.registries.0["r.example"];
        assert_eq!(credential.password.as_deref(), Some("hidden"));
        assert!(!format!("{options:?}").contains("hidden"));
    }

    #[test]
    fn an_alias_stands_for_a_reference_whatever_its_tag() {
        let (options, mistakes) = applied(&[
            "--provider-alias",
            "oci://r.example:5000/web:2=http-server,r.example/kv=keyvalue-redis",
            "--provider-alias",
            "nothing",
            "--provider-alias",
            "=http-server",
        ]);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        let aliases = &options.provider_aliases;
        assert_eq!(aliases["r.example:5000/web"], "http-server");
        assert_eq!(aliases["r.example/kv"], "keyvalue-redis");
        assert_eq!(aliases.len(), 2);
    }

    #[test]
    fn a_registry_without_its_user_and_what_is_none_are_mistakes() {
        assert!(Flags::try_parse_from(["test", "--oci-registry", "r"]).is_err());
        let (_, mistakes) = applied(&[
            "--insecure-registry",
            "http://r",
            "--oci-ca",
            "/nowhere/ca.pem",
        ]);
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("--insecure-registry"));
        assert!(mistakes[1].starts_with("--oci-ca"));
    }
}
