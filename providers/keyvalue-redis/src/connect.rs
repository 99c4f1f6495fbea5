//! Making one connection: the way to the server, TLS, and the first words.
//!
//! The first words are spoken here and not by the `redis` crate, before it gets the connection: a server that has no
//! room for another client says so unasked and hangs up, and that must not be mistaken for a lost connection.

use std::future::Future;
use std::io;
use std::pin::Pin;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::connection::Fault;
use crate::error::shortened;
use crate::server::{Address, Target};

/// Longest first answer, in bytes: one line.
const LINE_BYTES_MAX: u64 = 1024;

/// The name by which this program shows in the server's list of clients.
const CLIENT_NAME: &str = "trellis";

/// What drives a connection: it lives as long as this is polled.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a connection runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects, and gives back the connection with what drives it.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    target: &Target,
    tls: Option<&TlsConnector>,
) -> Result<(MultiplexedConnection, Driver), Fault> {
    let mut stream = open(&target.address, tls)
        .await
        .map_err(|error| Fault::Unreachable(shortened(error.to_string())))?;
    greet(&mut stream, target).await?;
    // Everything is said already; nothing is left to the crate's own greeting.
    let said = RedisConnectionInfo::default().set_skip_set_lib_name();
    // Each question has its own time, which the asking call sets.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    match MultiplexedConnection::new_with_config(&said, stream, config).await {
        Ok((connection, driver)) => Ok((connection, Box::pin(driver))),
        Err(error) => Err(Fault::Unreachable(shortened(error.to_string()))),
    }
}

async fn open(address: &Address, tls: Option<&TlsConnector>) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = tls else {
                return Ok(Box::new(stream));
            };
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Box::new(tls.connect(name, stream).await?))
        }
    }
}

/// Says who is there and waits until the server is ready for commands.
async fn greet(stream: &mut Box<dyn Stream>, target: &Target) -> Result<(), Fault> {
    let mut words = Pipeline::new();
    if let Some(password) = &target.password {
        let auth = words.cmd("AUTH");
        // Servers before version 6 know no users.
        if let Some(user) = &target.user {
            auth.arg(user);
        }
        auth.arg(password);
    }
    if target.database != 0 {
        words.cmd("SELECT").arg(target.database);
    }
    words.cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME);
    words.cmd("PING");
    let lost = |error: io::Error| Fault::Unreachable(shortened(error.to_string()));
    // Not an error yet: what the server said before it hung up is still to be read.
    let written = stream.write_all(&words.get_packed_pipeline()).await;
    let _ = stream.flush().await;
    let mut reader = BufReader::new(stream);
    for command in words.cmd_iter() {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await;
        match (read, &written) {
            (Ok(_), _) if line.ends_with(b"\r\n") => {}
            (_, Err(error)) => return Err(lost(io::Error::new(error.kind(), error.to_string()))),
            (Err(error), _) => return Err(lost(error)),
            (Ok(_), _) => {
                return Err(Fault::Unreachable(
                    "it closed the connection before its first answer".to_owned(),
                ));
            }
        }
        let line = String::from_utf8_lossy(&line);
        let name = command.args_iter().next();
        let is_name =
            |known: &[u8]| matches!(name, Some(redis::Arg::Simple(name)) if name == known);
        check(line.trim_end(), is_name(b"CLIENT") || is_name(b"PING"))?;
    }
    match reader.buffer().is_empty() {
        true => Ok(()),
        false => Err(Fault::Unreachable("it says more than was asked".to_owned())),
    }
}

/// Judges one of the first answers. What a user may not say (`CLIENT`, `PING`) is no reason to go without the rest.
fn check(line: &str, is_courtesy: bool) -> Result<(), Fault> {
    let Some(error) = line.strip_prefix('-') else {
        return match line.starts_with('+') {
            true => Ok(()),
            false => Err(Fault::Unreachable(
                "it does not speak as Redis does".to_owned(),
            )),
        };
    };
    let said = || shortened(error.to_owned());
    match error.split(' ').next().unwrap_or_default() {
        _ if error.contains("max number of clients") => Err(Fault::Full),
        "NOPERM" if is_courtesy => Ok(()),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Err(Fault::Denied(said())),
        "LOADING" | "MASTERDOWN" | "BUSY" => Err(Fault::Unreachable(said())),
        // Before version 6, and where a password is given that nobody asked for.
        "ERR" if error.contains("invalid password") || error.contains("AUTH") => {
            Err(Fault::Denied(said()))
        }
        _ if is_courtesy => Ok(()),
        _ => Err(Fault::Unreachable(said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_first_words_are_understood() {
        assert_eq!(check("+OK", false), Ok(()));
        assert_eq!(check("+PONG", true), Ok(()));
        assert_eq!(
            check("-ERR max number of clients reached", true),
            Err(Fault::Full)
        );
        for denied in [
            "-NOAUTH Authentication required.",
            "-WRONGPASS invalid username-password pair or user is disabled.",
            "-ERR AUTH <password> called without any password configured for the default user.",
            "-ERR invalid password",
        ] {
            assert!(
                matches!(check(denied, false), Err(Fault::Denied(_))),
                "{denied}"
            );
        }
        assert_eq!(
            check(
                "-NOPERM this user has no permissions to run the 'ping' command",
                true
            ),
            Ok(())
        );
        for not_now in [
            "-LOADING Redis is loading the dataset in memory",
            "-ERR DB index is out of range",
            "HTTP/1.1 400 Bad Request",
            "",
        ] {
            assert!(
                matches!(check(not_now, false), Err(Fault::Unreachable(_))),
                "{not_now}"
            );
        }
    }
}
