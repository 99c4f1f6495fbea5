//! From a target to a connection: look up, check each address, connect to what was checked, speak TLS.
//!
//! What is connected to is an address that has just been checked, never a name; there is no second look-up between the two.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use trellis_provider_sdk::{OutgoingError, OutgoingErrorCode as Code};

use crate::address::{AddressBlock, prohibited};
use crate::config::{ADDRESSES_MAX, NEXT_ADDRESS_AFTER};
use crate::fault;
use crate::resolve::Resolver;
use crate::target::{Scheme, Target};

/// Bytes in both directions, with TLS or without.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection, and what is spoken on it.
pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) version: Version,
}

/// Versions of HTTP, as the server chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Connects for one link.
pub(crate) struct Connector {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) allowed: Vec<AddressBlock>,
}

impl Connector {
    /// Connects until a time.
    ///
    /// # Errors
    /// What stood against it, as the code that says so.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        until: Instant,
    ) -> Result<Connected, OutgoingError> {
        let addresses = timeout_at(until, self.addresses(target))
            .await
            .map_err(|_| {
                let text = format!("the look-up of `{}` took too long", target.host);
                OutgoingError::new(Code::DnsTimeout, text)
            })??;
        let too_late = || {
            let text = format!("no connection to `{target}` in time");
            OutgoingError::new(Code::ConnectionTimeout, text)
        };
        let connect = async {
            let stream = first_of(&addresses)
                .await
                .map_err(|error| fault::of_connect(&error, target))?;
            // Small requests should not wait for company. A socket that does not know the option still works.
            let _ = stream.set_nodelay(true);
            match target.scheme {
                Scheme::Http => Ok(Connected {
                    stream: Box::new(stream),
                    version: Version::Http1,
                }),
                Scheme::Https => self.secure(target, stream).await,
            }
        };
        timeout_at(until, connect).await.map_err(|_| too_late())?
    }

    /// The addresses that may be connected to.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, OutgoingError> {
        let found = match target.address() {
            Some(address) => vec![address],
            None => {
                let name = target.host.to_string();
                self.resolver.resolve(&name).await.map_err(|error| {
                    let text = format!("`{name}` cannot be looked up: {error}");
                    OutgoingError::new(Code::DnsError, text)
                })?
            }
        };
        if found.is_empty() {
            let text = format!("`{}` has no address", target.host);
            return Err(OutgoingError::new(Code::DnsError, text));
        }
        let mut refused = None;
        let mut open = Vec::new();
        for address in found {
            match prohibited(address, &self.allowed) {
                None => open.push(SocketAddr::new(address, target.port)),
                Some(what) => refused = Some((address, what)),
            }
        }
        if let (true, Some((address, what))) = (open.is_empty(), refused) {
            return Err(OutgoingError::new(
                Code::DestinationIpProhibited,
                format!(
                    "`{target}` is at {address}, which is {what}; `allowed_addresses` of the link does not name it"
                ),
            ));
        }
        open.truncate(ADDRESSES_MAX);
        Ok(open)
    }

    async fn secure(&self, target: &Target, stream: TcpStream) -> Result<Connected, OutgoingError> {
        let name = match target.address() {
            Some(address) => ServerName::from(address),
            None => ServerName::try_from(target.host.to_string()).map_err(|_| {
                let text = format!("`{}` is no name that a certificate can have", target.host);
                OutgoingError::new(Code::HttpRequestUriInvalid, text)
            })?,
        };
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|error| fault::of_tls(&error, target))?;
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        };
        Ok(Connected {
            stream: Box::new(stream),
            version,
        })
    }
}

/// Connects to the first address that answers. Each further one is tried as soon as the former has failed, or has not
/// answered for a moment.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match rest.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let more = !rest.as_slice().is_empty();
        tokio::select! {
            biased;
            Some(outcome) = attempts.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}
