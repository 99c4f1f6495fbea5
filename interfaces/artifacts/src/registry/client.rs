//! Single requests: connections, authorisation, time limits, and what a refusal means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, Url};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use trellis_protocol::control::{RegistryCredential, RegistryCredentials};
use url::Host;

use super::auth::{Action, Challenge, Tokens};
use super::reason::{chain, is_nonsense, reason_in, shortened, tls_error};
use crate::error::{OpenError, RegistryError};
use crate::options::{ArtifactOptions, Timeouts};
use crate::reference::OciReference;

/// Most redirects of one request. Registries send clients to their storage by one or two.
const REDIRECTS_MAX: usize = 5;

/// Longest body of an error that is read, in bytes.
const REASON_BYTES_MAX: usize = 16 * 1024;

/// The registry of references that begin with `docker.io`.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Most registries whose credentials are kept. What `registry.put` sends beyond that is left out with a warning.
const REGISTRIES_MAX: usize = 1024;

/// All registries: connections, credentials, tokens.
pub(crate) struct Registries {
    client: Client,
    /// For registries of this machine: past the proxies that the environment names, which have a loopback of their own.
    direct: Client,
    insecure: Vec<String>,
    pub(super) timeouts: Timeouts,
    credentials: RwLock<BTreeMap<String, RegistryCredential>>,
    pub(super) tokens: Mutex<Tokens>,
}

/// One repository, for what is done to it now.
#[derive(Debug)]
pub(crate) struct Repository<'a> {
    pub(super) registries: &'a Registries,
    /// The registry as the reference names it: for people.
    pub(super) registry: &'a str,
    pub(super) name: String,
    base: Url,
    pub(super) action: Action,
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries")
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

impl Registries {
    pub(crate) fn new(options: &ArtifactOptions) -> Result<Self, OpenError> {
        let broken = |reason: String| OpenError::Client { reason };
        let provider = CryptoProvider::get_default()
            .ok_or_else(|| {
                broken("this process has chosen no provider of cryptography".to_owned())
            })?
            .clone();
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(error.to_string()))?
            .with_root_certificates(roots(options)?)
            .with_no_client_auth();
        let client = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(redirects())
                .referer(false)
                .connect_timeout(options.timeouts.connect)
                .user_agent(concat!("trellis/", env!("CARGO_PKG_VERSION")))
        };
        let build = |client: ClientBuilder| client.build().map_err(|error| broken(chain(&error)));
        Ok(Self {
            client: build(client())?,
            direct: build(client().no_proxy())?,
            insecure: options.insecure_registries.clone(),
            timeouts: options.timeouts,
            credentials: RwLock::default(),
            tokens: Mutex::default(),
        })
    }

    pub(crate) fn set_credentials(&self, new: &RegistryCredentials) {
        let mut credentials = self
            .credentials
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0_usize;
        for (registry, credential) in &new.0 {
            if credentials.len() < REGISTRIES_MAX || credentials.contains_key(registry) {
                credentials.insert(registry.clone(), credential.clone());
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "credentials of {REGISTRIES_MAX} registries are kept, and these were not"
            );
        }
        // Tokens were given to whoever we were before.
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens = Tokens::default();
    }

    pub(super) fn credential(&self, registry: &str) -> Option<RegistryCredential> {
        self.credentials
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(registry)
            .cloned()
    }

    /// The repository that a reference is in.
    pub(crate) fn repository<'a>(
        &'a self,
        reference: &'a OciReference,
        action: Action,
    ) -> Result<Repository<'a>, RegistryError> {
        let registry = reference.registry();
        let is_insecure = self.insecure.iter().any(|insecure| insecure == registry);
        let scheme = if is_insecure { "http" } else { "https" };
        let (host, name) = match registry == DOCKER_HUB.0 {
            true if !reference.repository().contains('/') => {
                (DOCKER_HUB.1, format!("library/{}", reference.repository()))
            }
            true => (DOCKER_HUB.1, reference.repository().to_owned()),
            false => (registry, reference.repository().to_owned()),
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{name}/")).map_err(|error| {
            RegistryError::Unreachable {
                registry: registry.to_owned(),
                reason: error.to_string(),
            }
        })?;
        Ok(Repository {
            registries: self,
            registry,
            name,
            base,
            action,
        })
    }
}

/// Who sees to it that an exchange gets on.
#[derive(Clone, Copy)]
enum Watch {
    Here,
    Caller,
}

/// Counts redirects, and follows none from TLS to plain text. Authorisation stays behind where one leads elsewhere.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let was_tls = attempt
            .previous()
            .last()
            .is_some_and(|previous| previous.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("it redirects in circles")
        } else if was_tls && attempt.url().scheme() != "https" {
            attempt.error("it redirects from TLS to plain text")
        } else {
            attempt.follow()
        }
    })
}

/// Whether a URL is of this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The system's roots, and those that were given.
fn roots(options: &ArtifactOptions) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    // A system without any still reaches registries over the given roots, or without TLS.
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    for path in &options.ca_files {
        let refuse = |reason: String| OpenError::Certificates {
            path: path.clone(),
            reason,
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(error.to_string()))?;
        if certificates.is_empty() {
            return Err(refuse("it holds none in PEM".to_owned()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
        }
    }
    Ok(roots)
}

impl Repository<'_> {
    pub(super) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base
            .join(path)
            .map_err(|error| self.misbehaved(format_args!("no address: {error}")))
    }

    /// Whether a URL is of this registry, so that it may see credentials.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    pub(super) const fn timeouts(&self) -> &Timeouts {
        &self.registries.timeouts
    }

    /// Sends a request, and sends it again with a token where the registry asks for one. An answer that is neither success
    /// nor a redirect is an error.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        what: &'static str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.exchange(method, url, what, Watch::Here, with).await
    }

    /// As [`Self::send`], for a body that takes its time: the caller watches whether it gets on.
    pub(super) async fn send_watched(
        &self,
        method: Method,
        url: Url,
        what: &'static str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.exchange(method, url, what, Watch::Caller, with).await
    }

    async fn exchange(
        &self,
        method: Method,
        url: Url,
        what: &'static str,
        watch: Watch,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let answer = async |request: RequestBuilder| match watch {
            Watch::Here => self.head(request, what).await,
            Watch::Caller => {
                let sent = request.send().await;
                sent.map_err(|error| self.failed(&error, what))
            }
        };
        let request = |authorization: Option<HeaderValue>| {
            let request = self.request(method.clone(), url.clone());
            let request = match authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            };
            with(request)
        };
        let is_ours = self.is_ours(&url);
        let known = if is_ours { self.known_token() } else { None };
        let response = answer(request(known)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_ours {
            return self.succeeded(response, what).await;
        }
        let Some(challenge) = Challenge::best(response.headers().get_all(WWW_AUTHENTICATE)) else {
            return self.succeeded(response, what).await;
        };
        drop(response);
        let Some(authorization) = self.authorize(&challenge).await? else {
            return Err(RegistryError::Refused {
                registry: self.registry.to_owned(),
                status: StatusCode::UNAUTHORIZED.as_u16(),
                reason: String::new(),
                remedy: NO_CREDENTIALS,
            });
        };
        // Once: a registry that goes on asking does not want us.
        let response = answer(request(Some(authorization))).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.forget_token();
        }
        self.succeeded(response, what).await
    }

    /// Sends a request of any kind and waits for the head of the answer.
    pub(super) async fn head(
        &self,
        request: RequestBuilder,
        what: &'static str,
    ) -> Result<Response, RegistryError> {
        let Timeouts { connect, head, .. } = *self.timeouts();
        match tokio::time::timeout(connect + head, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.failed(&error, what)),
            Err(_) => Err(self.silent(what, head)),
        }
    }

    pub(super) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let client = match is_loopback(&url) {
            true => &self.registries.direct,
            false => &self.registries.client,
        };
        client.request(method, url)
    }

    pub(super) async fn succeeded(
        &self,
        response: Response,
        what: &'static str,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // What it says about it is for people only: no more than some of it, and no matter if it does not come.
        let reason = match self.body(response, REASON_BYTES_MAX, what).await {
            Ok(body) => reason_in(&body),
            Err(_) => String::new(),
        };
        let registry = self.registry.to_owned();
        let code = status.as_u16();
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::Missing {
                registry,
                what: format!("{what} in `{}`", self.name),
                reason,
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Refused {
                registry,
                status: code,
                reason,
                remedy: match self.registries.credential(self.registry) {
                    Some(_) => OTHER_CREDENTIALS,
                    None => NO_CREDENTIALS,
                },
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => RegistryError::Failing {
                registry,
                status: code,
                reason,
            },
            status if status.is_server_error() => RegistryError::Failing {
                registry,
                status: code,
                reason,
            },
            status if status.is_client_error() => RegistryError::Refused {
                registry,
                status: code,
                reason,
                remedy: "look at what it says",
            },
            _ => self.misbehaved(format_args!("it answers with HTTP {code} for the {what}")),
        })
    }

    /// A whole body of at most so many bytes.
    pub(super) async fn body(
        &self,
        mut response: Response,
        max: usize,
        what: &'static str,
    ) -> Result<Bytes, RegistryError> {
        let too_large = || self.misbehaved(format_args!("its {what} has more than {max} bytes"));
        if response
            .content_length()
            .is_some_and(|bytes| bytes > max as u64)
        {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        let read = async {
            while let Some(piece) = self.piece(&mut response, what).await? {
                if body.len() + piece.len() > max {
                    return Err(too_large());
                }
                body.extend_from_slice(&piece);
            }
            Ok(())
        };
        // Small bodies have one limit for the whole: a byte now and then does not hold us.
        let within = self.timeouts().stall * 2;
        match tokio::time::timeout(within, read).await {
            Ok(Ok(())) => Ok(body.freeze()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.silent(what, within)),
        }
    }

    /// The next piece of a body.
    pub(super) async fn piece(
        &self,
        response: &mut Response,
        what: &'static str,
    ) -> Result<Option<Bytes>, RegistryError> {
        let stall = self.timeouts().stall;
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.failed(&error, what)),
            Err(_) => Err(self.silent(what, stall)),
        }
    }

    pub(super) fn silent(&self, what: &'static str, within: Duration) -> RegistryError {
        RegistryError::Timeout {
            registry: self.registry.to_owned(),
            what,
            within,
        }
    }

    pub(super) fn misbehaved(&self, reason: impl ToString) -> RegistryError {
        RegistryError::Misbehaved {
            registry: self.registry.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn failed(&self, error: &reqwest::Error, what: &'static str) -> RegistryError {
        let registry = self.registry.to_owned();
        let reason = chain(error);
        if let Some(tls) = tls_error(error) {
            return RegistryError::Untrusted {
                registry,
                reason: shortened(&tls.to_string()),
            };
        }
        if error.is_redirect() {
            return RegistryError::Misbehaved { registry, reason };
        }
        if error.is_timeout() {
            return self.silent("connection", self.timeouts().connect);
        }
        if error.is_connect() {
            return RegistryError::Unreachable { registry, reason };
        }
        if is_nonsense(error) {
            return RegistryError::Misbehaved { registry, reason };
        }
        RegistryError::Unreachable {
            registry,
            reason: format!("it broke off in the {what}: {reason}"),
        }
    }
}

const NO_CREDENTIALS: &str = "give it credentials with `--oci-registry`, `--oci-user` and `--oci-password`, or by `registry.put`";
const OTHER_CREDENTIALS: &str = "look whether its credentials are right and allow this";
