//! Against a server that does as it is told.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use super::*;

/// Serves one connection; before answer number `stall.0` it waits for `stall.1`.
fn server(stall: (usize, Duration)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut piece = [0; 1024];
        for number in 0.. {
            if !matches!(socket.read(&mut piece), Ok(1..)) {
                return;
            }
            if number == stall.0 {
                thread::sleep(stall.1);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
            if socket.write_all(answer).is_err() {
                return;
            }
        }
    });
    address
}

fn load(address: SocketAddr, rate: Option<f64>) -> Load {
    Load {
        address,
        path: "/".to_owned(),
        connections: 1,
        duration: Duration::from_millis(400),
        rate,
        grace: Duration::from_secs(5),
    }
}

#[test]
fn a_closed_loop_asks_again_and_again() {
    let outcome = run(&load(server((usize::MAX, Duration::ZERO)), None)).unwrap();
    assert!(outcome.well.count() > 10, "{outcome:?}");
    assert_eq!(outcome.failures, 0);
    assert_eq!(outcome.statuses.keys().copied().collect::<Vec<_>>(), [200]);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let outcome = run(&load(server((usize::MAX, Duration::ZERO)), Some(200.0))).unwrap();
    assert_eq!(outcome.well.count() + outcome.unsent, 80);
}

#[test]
fn a_stall_is_charged_to_every_request_that_was_due_meanwhile() {
    let stall = Duration::from_millis(300);
    let outcome = run(&load(server((0, stall)), Some(100.0))).unwrap();
    // 30 requests were due while the first was stuck, and all but the last few of them waited long.
    assert_eq!(outcome.well.count(), 40);
    let median = Duration::from_nanos(outcome.well.at(0.5).unwrap());
    assert!(median > Duration::from_millis(50), "{median:?}");
}

#[test]
fn nobody_there_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(run(&load(address, None)).is_err());
}
