//! Streams with credit: the flow control that calls between hosts and calls to provider processes share.
