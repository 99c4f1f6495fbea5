//! Free ports for servers that cannot be asked which one they got.
//!
//! They are taken below the range from which the system gives ports to outgoing connections, so that no other
//! connection of a test can have taken one by the time it is needed.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Where ports are taken from.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on, and that no other caller in this process has been given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    loop {
        let port = rand::random_range(RANGE);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
