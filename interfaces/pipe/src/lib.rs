//! Calls between a host and one of its provider processes, over a local socket.
