//! The task that writes: as many frames as there are in one call of the system.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::unix::OwnedWriteHalf;

use crate::STALLED_AFTER;
use crate::error::PipeEnd;
use crate::exchange::Exchange;
use crate::outbox::Message;

/// Up to so many calls under way, a frame is written at once; beyond, after a round of the tasks that are ready.
const CALLS_ALONE_MAX: usize = 2;

pub(crate) async fn run(exchange: Arc<Exchange>, socket: OwnedWriteHalf) {
    let writing = write(&exchange, &socket);
    let Some(end) = exchange.ended.run_until_cancelled(writing).await else {
        return;
    };
    if end == PipeEnd::Eof {
        // What the other end said before it went is still to be read, and its reader finds the end behind it.
        let _ = tokio::time::timeout(STALLED_AFTER, exchange.ended.cancelled()).await;
    }
    exchange.end(end);
}

async fn write(exchange: &Exchange, socket: &OwnedWriteHalf) -> PipeEnd {
    let mut batch = Vec::new();
    loop {
        exchange.outbox.take(&mut batch);
        if batch.is_empty() {
            exchange.outbox.filled().await;
            if exchange.calls_under_way() > CALLS_ALONE_MAX {
                // Other tasks that are ready now have something to say as well, and one write can take it all.
                tokio::task::yield_now().await;
            }
            continue;
        }
        if let Err(end) = write_all(socket, &batch).await {
            return end;
        }
        exchange.strays.earn(batch.len());
        batch.clear();
    }
}

/// Writes a batch whole. It is small, so an end that takes a byte now and then is as stalled as one that takes none.
pub(crate) async fn write_all(socket: &OwnedWriteHalf, batch: &[Message]) -> Result<(), PipeEnd> {
    let slices = batch
        .iter()
        .flat_map(|message| [IoSlice::new(&message.length), IoSlice::new(&message.frame)]);
    let mut slices: Vec<_> = slices.collect();
    let mut left = slices.as_mut_slice();
    let mut stalled_at = None;
    while !left.is_empty() {
        match socket.try_write_vectored(left) {
            Ok(0) => return Err(PipeEnd::Eof),
            Ok(written) => {
                IoSlice::advance_slices(&mut left, written);
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    let at = *stalled_at.get_or_insert_with(|| Instant::now() + STALLED_AFTER);
                    let writable = tokio::time::timeout_at(at.into(), socket.writable()).await;
                    match writable {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(io(&error)),
                        Err(_) => return Err(PipeEnd::Stalled(STALLED_AFTER)),
                    }
                }
                ErrorKind::Interrupted => {}
                _ => return Err(io(&error)),
            },
        }
    }
    Ok(())
}

pub(crate) fn io(error: &std::io::Error) -> PipeEnd {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => PipeEnd::Eof,
        _ => PipeEnd::Io {
            reason: error.to_string(),
        },
    }
}
