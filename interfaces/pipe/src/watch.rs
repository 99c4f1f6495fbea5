//! The task that sees that cancelled calls are ended by the other end.

use std::sync::Arc;

use crate::CANCEL_WAIT;
use crate::error::PipeEnd;
use crate::shared::Shared;

pub(crate) async fn run(shared: Arc<Shared>) {
    let watching = watch(&shared);
    if let Some(end) = shared.ended.run_until_cancelled(watching).await {
        shared.end(end);
    }
}

async fn watch(shared: &Shared) -> PipeEnd {
    loop {
        let Some(since) = shared.calls().cancelled_since() else {
            shared.cancelled.notified().await;
            continue;
        };
        if since.elapsed() >= CANCEL_WAIT {
            return PipeEnd::CancelUnanswered(CANCEL_WAIT);
        }
        // Whatever was cancelled later is due later.
        tokio::time::sleep_until((since + CANCEL_WAIT).into()).await;
    }
}
