//! Whether the line to NATS still stands while a command waits for something.
//!
//! A client reconnects by itself for as long as it lives, so that a lost server would look like a host that takes its time.
//! Here a command is told instead: it waits a little, and then ends with what happened. Whatever it had asked for was
//! carried out or was not; every command can be given again.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;

use crate::exit::{Failure, FailureKind};
use crate::output;

/// Longest that a lost connection is waited for: time for a server that is started again, but not for one that is gone.
pub const LOST_MAX: Duration = Duration::from_secs(4);

/// How often the line is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

tokio::task_local! {
    static LINE: Rc<RefCell<Option<Line>>>;
}

/// The connection of the command under way.
struct Line {
    client: Client,
    servers: String,
}

/// Has this connection watched, where somebody does.
pub(super) fn watch(client: &Client, servers: String) {
    // Outside of `while_connected` nobody does.
    let _ = LINE.try_with(|line| {
        *line.borrow_mut() = Some(Line {
            client: client.clone(),
            servers,
        });
    });
}

/// Carries a conversation on for as long as the connection stands that it makes, or comes back within [`LOST_MAX`].
///
/// # Errors
/// Those of the conversation, and [`FailureKind::Unreachable`] once the connection is given up.
pub async fn while_connected<T>(
    conversation: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let line = Rc::new(RefCell::new(None));
    let watched = Rc::clone(&line);
    let conversation = LINE.scope(line, conversation);
    tokio::select! {
        biased;
        done = conversation => done,
        servers = lost(&watched) => Err(Failure::new(
            FailureKind::Unreachable,
            format!(
                "lost the connection to NATS at {servers}, and it did not come back within {} s; what was asked may have been done or not: once NATS is back, `wash get inventory` shows what runs, and the command can be given again",
                LOST_MAX.as_secs()
            ),
        )),
    }
}

/// Waits until the connection has been away for too long, and says where it led.
async fn lost(line: &RefCell<Option<Line>>) -> String {
    let mut since: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let line = line.borrow();
        let Some(line) = line.as_ref() else { continue };
        if line.client.connection_state() == State::Connected {
            if since.take().is_some() {
                output::note("note: the connection to NATS is back");
            }
            continue;
        }
        let began = *since.get_or_insert_with(|| {
            output::note(&format!(
                "note: lost the connection to NATS at {}; waiting for it",
                line.servers
            ));
            Instant::now()
        });
        if began.elapsed() >= LOST_MAX {
            return line.servers.clone();
        }
    }
}
