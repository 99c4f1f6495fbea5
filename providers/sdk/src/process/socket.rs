//! The socket that a provider's process inherits.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::FdFlags;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The descriptor under which the socket is inherited.
const SOCKET_FD: RawFd = 3;

/// Why the process cannot serve a host.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "this program is a provider and is started by a Trellis host, which hands it a socket: {reason}. \
     To run it, put it into the host's provider directory, or name it as `file:///absolute/path`, and \
     `wash start provider <name or file> <id>`"
)]
pub struct NoHost {
    reason: String,
}

/// Takes the socket from descriptor 3, and keeps it from programs that the provider may start. Called once, before
/// anything else is opened.
///
/// # Errors
/// [`NoHost`] where the descriptor is none, or no stream socket of this machine.
pub(super) fn from_host() -> Result<UnixStream, NoHost> {
    let none = |reason: &str| NoHost {
        reason: reason.to_owned(),
    };
    #[expect(
        unsafe_code,
        reason = "an inherited descriptor is known by its number alone"
    )]
    // SAFETY: the borrow is used for questions about the number, which fail where nothing is open under it. Nothing in
    // this process has opened or closed anything yet, so nobody else owns it.
    let inherited = unsafe { BorrowedFd::borrow_raw(SOCKET_FD) };
    let kind = socket_type(inherited).map_err(|_| none("descriptor 3 is no socket"))?;
    let family = socket_domain(inherited).map_err(|_| none("descriptor 3 is no socket"))?;
    if kind != SocketType::STREAM || family != AddressFamily::UNIX {
        return Err(none("descriptor 3 is another kind of socket"));
    }
    let failed = |error: rustix::io::Errno| none(&format!("descriptor 3 cannot be used: {error}"));
    rustix::io::fcntl_setfd(inherited, FdFlags::CLOEXEC).map_err(failed)?;
    fcntl_setfl(inherited, OFlags::NONBLOCK).map_err(failed)?;
    #[expect(unsafe_code, reason = "taking over what was inherited")]
    // SAFETY: it is open (it was asked a line above), was inherited for this purpose, and nothing else in this process
    // owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(SOCKET_FD) };
    Ok(owned.into())
}
