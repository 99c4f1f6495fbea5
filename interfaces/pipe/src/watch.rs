//! The task that sees that cancelled calls are ended by the other end.

use std::sync::Arc;

use crate::CANCEL_WAIT;
use crate::error::PipeEnd;
use crate::exchange::Exchange;

pub(crate) async fn run(exchange: Arc<Exchange>) {
    let watching = watch(&exchange);
    if let Some(end) = exchange.ended.run_until_cancelled(watching).await {
        exchange.end(end);
    }
}

async fn watch(exchange: &Exchange) -> PipeEnd {
    loop {
        let Some(since) = exchange.calls().cancelled_since() else {
            exchange.cancelled.notified().await;
            continue;
        };
        if since.elapsed() >= CANCEL_WAIT {
            return PipeEnd::CancelUnanswered(CANCEL_WAIT);
        }
        // Whatever was cancelled later is due later.
        tokio::time::sleep_until((since + CANCEL_WAIT).into()).await;
    }
}
