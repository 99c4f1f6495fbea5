//! Where a setting can come from: a flag, a context that is named, the environment, the default context.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;
use trellis_claims::KeyKind;
use trellis_lattice::connection::TlsOptions;
use zeroize::Zeroizing;

use super::{Origin, server_url};
use crate::cli::Global;
use crate::context::{Context, ContextError, Contexts};
use crate::environment::{self, Environment, Variable};
use crate::exit::Failure;

/// Largest file with a JWT, in bytes.
const JWT_BYTES_MAX: u64 = 64 * 1024;

/// The context, and how it came to count.
pub(super) struct Sources {
    /// Where it was named: its values win over the environment.
    named: Option<(String, Context)>,
    /// Where it was not, the default one.
    default: Option<(String, Context)>,
}

/// As whom to go to NATS.
#[derive(Default)]
pub(super) struct Login {
    pub(super) creds: Option<PathBuf>,
    pub(super) nkey_seed: Option<Zeroizing<String>>,
    pub(super) file: Option<Arc<NamedTempFile>>,
}

impl Sources {
    pub(super) fn of(global: &Global, environment: &mut Environment) -> Result<Self, Failure> {
        let name = global
            .context
            .clone()
            .or_else(|| environment.text(environment::CONTEXT));
        let contexts = match Contexts::of(None, environment) {
            Ok(contexts) => contexts,
            // Who has no home has no contexts, and needs none.
            Err(ContextError::NoDirectory) if name.is_none() => {
                return Ok(Self {
                    named: None,
                    default: None,
                });
            }
            Err(error) => return Err(Failure::local_error(&error)),
        };
        let load = |name: String| -> Result<_, Failure> {
            let context = contexts.load(&name)?;
            Ok((name, context))
        };
        Ok(match name {
            Some(name) => Self {
                named: Some(load(name)?),
                default: None,
            },
            None => Self {
                named: None,
                default: contexts.default_name()?.map(load).transpose()?,
            },
        })
    }

    /// The first value there is, and where it came from, for people.
    pub(super) fn value(
        &self,
        (name, flag): (&str, Option<String>),
        of_context: impl Fn(&Context) -> Option<String>,
        variable: Variable,
        environment: &mut Environment,
    ) -> Option<(String, String)> {
        let in_context = |context: &Option<(String, Context)>| {
            let (name, context) = context.as_ref()?;
            Some((of_context(context)?, format!("the context {name}")))
        };
        flag.map(|value| (value, name.to_owned()))
            .or_else(|| in_context(&self.named))
            .or_else(|| {
                let value = environment.text(variable)?;
                Some((value, variable.name.to_owned()))
            })
            .or_else(|| in_context(&self.default))
    }

    /// The servers, as they were written.
    pub(super) fn nats_url(
        &self,
        global: &Global,
        environment: &mut Environment,
    ) -> (Option<String>, Option<Origin>) {
        let flag = global.nats_url.clone().or_else(|| {
            (global.ctl_host.is_some() || global.ctl_port.is_some()).then(|| {
                let host = global.ctl_host.as_deref().unwrap_or("127.0.0.1");
                server_url(
                    host,
                    global.ctl_port.unwrap_or(crate::cli::NATS_PORT_DEFAULT),
                )
            })
        });
        if flag.is_some() {
            return (flag, None);
        }
        let in_context = |context: &Option<(String, Context)>| {
            let (name, context) = context.as_ref()?;
            Some((context.nats_url.clone()?, Origin::Context(name.clone())))
        };
        in_context(&self.named)
            .or_else(|| {
                let (url, variables) = environment.nats_url()?;
                Some((url, Origin::Variable(variables)))
            })
            .or_else(|| in_context(&self.default))
            .unzip()
    }

    /// TLS beyond what the URLs ask for.
    pub(super) fn tls(
        &self,
        global: &Global,
        environment: &mut Environment,
    ) -> Result<TlsOptions, Failure> {
        let text = |path: &Option<PathBuf>| path.as_deref().map(path_text);
        let mut path = |flag, of_context: fn(&Context) -> &Option<PathBuf>, variable| {
            self.value(
                ("", text(flag)),
                |context| text(of_context(context)),
                variable,
                environment,
            )
            .map(|(path, _)| PathBuf::from(path))
        };
        let ca = path(&global.nats_ca, |c| &c.nats_ca, environment::NATS_CA);
        let cert = path(&global.nats_cert, |c| &c.nats_cert, environment::NATS_CERT);
        let key = path(&global.nats_key, |c| &c.nats_key, environment::NATS_KEY);
        if cert.is_some() != key.is_some() {
            return Err(Failure::usage(
                "a client certificate for NATS needs its key, and the other way round: give --nats-cert and --nats-key",
            ));
        }
        let first = self.value(
            (
                "--nats-tls-first",
                global.nats_tls_first.map(|first| first.to_string()),
            ),
            |context| context.nats_tls_first.map(|first| first.to_string()),
            environment::NATS_TLS_FIRST,
            environment,
        );
        let first = match first.as_ref().map(|(text, origin)| (text.as_str(), origin)) {
            None | Some(("false" | "0" | "", _)) => false,
            Some(("true" | "1", _)) => true,
            Some((other, origin)) => {
                return Err(Failure::usage(format!(
                    "{origin}: {other:?} is neither `true` nor `false`"
                )));
            }
        };
        Ok(TlsOptions {
            ca,
            cert,
            key,
            first,
        })
    }

    /// As whom to go to NATS: a credentials file, or a seed with or without a JWT.
    pub(super) fn login(
        &self,
        global: &Global,
        environment: &mut Environment,
    ) -> Result<Login, Failure> {
        // What the command line says of the login is all of it: a seed there is not mixed with a file from elsewhere.
        let by_flag = global.creds.is_some() || global.nats_seed.is_some();
        let creds = self.value(
            ("--creds", global.creds.as_deref().map(path_text)),
            |context| context.creds.as_deref().map(path_text),
            environment::CREDS,
            environment,
        );
        if let Some((creds, _)) = creds
            && (!by_flag || global.creds.is_some())
        {
            return Ok(Login {
                creds: Some(creds.into()),
                ..Login::default()
            });
        }
        let seed = self.value(
            ("--nats-seed", global.nats_seed.clone()),
            |context| context.nats_seed.clone(),
            environment::NATS_SEED,
            environment,
        );
        let jwt = self.value(
            ("--nats-jwt", global.nats_jwt.clone()),
            |context| context.nats_jwt.clone(),
            environment::NATS_JWT,
            environment,
        );
        let Some((seed, seed_origin)) = seed else {
            return match jwt {
                Some((_, origin)) => Err(Failure::usage(format!(
                    "{origin}: a JWT for NATS needs the seed of its user; give --nats-seed or {}",
                    environment::NATS_SEED.name
                ))),
                None => Ok(Login::default()),
            };
        };
        let key = crate::seed::read(
            &seed,
            global.nats_seed.is_some(),
            &seed_origin,
            KeyKind::User,
            environment,
        )?;
        let seed = Zeroizing::new(key.seed().to_string());
        let Some((jwt, _)) = jwt else {
            return Ok(Login {
                nkey_seed: Some(seed),
                ..Login::default()
            });
        };
        let file = credentials_file(&jwt_text(&jwt, environment)?, &seed)?;
        Ok(Login {
            creds: Some(file.path().to_owned()),
            nkey_seed: None,
            file: Some(Arc::new(file)),
        })
    }
}

/// A token, a file with one, or a variable that holds one.
fn jwt_text(text: &str, environment: &Environment) -> Result<String, Failure> {
    if let Some(name) = text.strip_prefix("env:") {
        return environment
            .raw(name)
            .map(|value| value.to_string_lossy().into_owned())
            .ok_or_else(|| Failure::local(format!("the variable {name} holds no JWT for NATS")));
    }
    if text.split('.').count() == 3 && !Path::new(text).exists() {
        return Ok(text.to_owned());
    }
    let failed =
        |fault: String| Failure::local(format!("cannot read the JWT for NATS in {text}: {fault}"));
    let bytes = std::fs::metadata(text)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > JWT_BYTES_MAX {
        return Err(failed(format!(
            "it has {bytes} bytes, at most {JWT_BYTES_MAX} are accepted"
        )));
    }
    std::fs::read_to_string(text).map_err(|error| failed(error.to_string()))
}

/// A file as NATS's own tools write them, readable by nobody else.
fn credentials_file(jwt: &str, seed: &str) -> Result<NamedTempFile, Failure> {
    let text = Zeroizing::new(format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
        jwt.trim()
    ));
    let written = NamedTempFile::new().and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.flush()?;
        Ok(file)
    });
    written.map_err(|error| {
        Failure::local(format!(
            "cannot put JWT and seed for NATS into a temporary file: {error}"
        ))
    })
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
