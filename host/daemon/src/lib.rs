//! trellis-host
