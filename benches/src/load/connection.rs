//! One connection with at most one request on its way.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::answer::{Seen, look};

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    /// What has been read of the answer.
    buffer: Vec<u8>,
    /// When the request on its way was due.
    asked: Option<Duration>,
}

/// What reading has brought.
#[derive(Debug, Clone, Copy)]
pub(super) enum Progress {
    /// Not the whole answer yet.
    Waiting,
    /// An answer to the request that was due at `since`.
    Answered { status: u16, since: Duration },
    /// The server closed a connection on which nothing was asked.
    ClosedIdle,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
            asked: None,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends a request that was due at `since`. It is short, so the socket takes it whole.
    pub(super) fn ask(&mut self, request: &[u8], since: Duration) -> io::Result<()> {
        self.asked = Some(since);
        self.socket.write_all(request)
    }

    pub(super) fn read(&mut self) -> io::Result<Progress> {
        let mut piece = [0; READ_BYTES];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) if self.asked.is_none() => return Ok(Progress::ClosedIdle),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let begun = !self.buffer.is_empty();
                    let read = &piece[..count];
                    if begun {
                        self.buffer.extend_from_slice(read);
                    }
                    // Nearly every answer comes whole, and is not copied.
                    let seen = look(if begun { &self.buffer } else { read });
                    match (seen, self.asked) {
                        (Seen::Whole { status }, Some(since)) => {
                            self.buffer.clear();
                            self.asked = None;
                            return Ok(Progress::Answered { status, since });
                        }
                        (Seen::Partly, Some(_)) => {
                            if !begun {
                                self.buffer.extend_from_slice(read);
                            }
                            if self.buffer.len() > ANSWER_BYTES_MAX {
                                return Err(io::Error::other("the answer has no end"));
                            }
                            // A full read says that there is more.
                            if count < READ_BYTES {
                                return Ok(Progress::Waiting);
                            }
                        }
                        _ => return Err(io::Error::other("no answer to what was asked")),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Waiting);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
