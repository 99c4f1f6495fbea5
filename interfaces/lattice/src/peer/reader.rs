//! The reader task: everything that arrives for this host from its peers, checked and handed on, never waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_flow::{Broken, Budget, Piece};
use trellis_protocol::RefusalCode;
use trellis_protocol::envelope::{EnvelopeError, Sealed};
use trellis_protocol::frame::{CallNumber, Frame, Stream};

use super::clock::Clock;
use super::courier::{self, REFUSALS_MAX};
use super::doorstep::Doorstep;
use super::exchange::Exchange;
use super::incoming::{self, Asked};
use super::outgoing::no_responders;
use super::remote::{Answer, Remote};
use super::{PeerHandler, PeerOptions, PeerRejection, PeerStartError};
use crate::connection::settle;
use crate::routes::LostHost;

pub(super) async fn start(
    options: PeerOptions,
    handler: Arc<dyn PeerHandler>,
) -> Result<Arc<Exchange>, PeerStartError> {
    let PeerOptions {
        client,
        subjects,
        key,
        incarnation,
        routes,
        limits,
    } = options;
    let own: Arc<str> = Arc::from(key.public().as_str());
    let inbox = client.new_inbox();
    let lost = routes.lost();
    let frames = subscribe(&client, subjects.rpc_of_host(&own)).await?;
    let bounced = subscribe(&client, format!("{inbox}.>")).await?;
    // Routes lead here as soon as this host's roster is out, and a peer that is faster than the subscription would be
    // told that nobody is here.
    let settled = settle(&client).await;
    settled.map_err(|error| PeerStartError::Subscribe {
        subject: subjects.rpc_of_host(&own),
        reason: error.to_string(),
    })?;
    let (signals, queue) = mpsc::unbounded_channel();
    let exchange = Arc::new(Exchange {
        clock: Clock::start(),
        budget: Budget::new(limits.budget_bytes),
        refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        incoming_permits: Arc::new(Semaphore::new(limits.incoming_calls)),
        outgoing_permits: Arc::new(Semaphore::new(limits.outgoing_calls)),
        rejected: crate::presence::tally::Tally::default(),
        draining: AtomicBool::new(false),
        next_call: AtomicU64::new(1),
        remotes: Mutex::new(HashMap::new()),
        tasks: TaskTracker::new(),
        calls: TaskTracker::new(),
        cancel: CancellationToken::new(),
        client,
        subjects,
        key,
        own,
        incarnation,
        routes,
        limits,
        handler,
        inbox,
        signals,
    });
    let cancel = exchange.cancel.clone();
    exchange
        .tasks
        .spawn(courier::run(Arc::clone(&exchange), queue, cancel.clone()));
    exchange
        .tasks
        .spawn(run(Arc::clone(&exchange), frames, bounced, lost, cancel));
    Ok(exchange)
}

async fn subscribe(
    client: &async_nats::Client,
    subject: String,
) -> Result<async_nats::Subscriber, PeerStartError> {
    client
        .subscribe(subject.clone())
        .await
        .map_err(|error| PeerStartError::Subscribe {
            subject,
            reason: error.to_string(),
        })
}

async fn run(
    exchange: Arc<Exchange>,
    mut frames: async_nats::Subscriber,
    mut bounced: async_nats::Subscriber,
    mut lost: broadcast::Receiver<LostHost>,
    cancel: CancellationToken,
) {
    let mut changed = exchange.routes.changed();
    let mut doorstep = Doorstep::new(Instant::now());
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            message = frames.next() => match message {
                Some(message) => {
                    let (subject, bytes) = (&message.subject, &message.payload);
                    if let Err(reason) = receive(&exchange, &mut doorstep, subject, bytes) {
                        exchange.rejected.count(reason);
                    }
                }
                None => break,
            },
            Ok(()) = changed.changed() => let_in(&exchange, &mut doorstep),
            () = patience(&doorstep) => {
                while let Some(reason) = doorstep.expire(Instant::now()) {
                    exchange.rejected.count(reason);
                }
            }
            Some(message) = bounced.next() => {
                if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                    nobody_listens(&exchange, &message.subject);
                }
            }
            news = lost.recv() => match news {
                Ok(host) => exchange.lost(&host),
                Err(RecvError::Lagged(_)) => exchange.lose_all_that_left(),
                // The routes ended, and with them the knowledge of whom to believe.
                Err(RecvError::Closed) => break,
            },
        }
    }
    tracing::error!(
        "the connection for calls between hosts is closed; no call of a peer is served any more"
    );
}

/// Until the next frame on the doorstep has waited long enough; for ever where there is none.
async fn patience(doorstep: &Doorstep) {
    match doorstep.next_end() {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Checks a message, the cheapest checks first, and hands its frame on.
fn receive(
    exchange: &Arc<Exchange>,
    doorstep: &mut Doorstep,
    subject: &str,
    bytes: &Bytes,
) -> Result<(), PeerRejection> {
    let sealed = Sealed::read(bytes).map_err(|error| match error {
        EnvelopeError::UnknownVersion { .. } => PeerRejection::UnknownVersion,
        _ => PeerRejection::Malformed,
    })?;
    if sealed.recipient != *exchange.own {
        return Err(PeerRejection::WrongRecipient);
    }
    if sealed.recipient_incarnation != exchange.incarnation {
        return Err(PeerRejection::WrongIncarnation);
    }
    // NATS permissions bind the subject's last token to its sender; that is worth something only if it is compared.
    if subject.rsplit('.').next() != Some(sealed.sender.as_str()) {
        return Err(PeerRejection::Misrouted);
    }
    let arrived_ms = exchange.clock.elapsed_ms();
    if doorstep.holds(&sealed.sender) {
        // The routes may have changed just now, and what came before goes before.
        let_in(exchange, doorstep);
    }
    match known(exchange, &sealed) {
        Ok(from) => hear(exchange, &from, sealed, arrived_ms),
        Err(unknown) if unknown.may_be_known_soon => {
            let kept = doorstep.keep(bytes, arrived_ms, unknown.reason, Instant::now())?;
            if let Some(knock) = kept {
                exchange.routes.knock(knock);
            }
            Ok(())
        }
        Err(unknown) => Err(unknown.reason),
    }
}

/// Hears those who have become known since they knocked.
fn let_in(exchange: &Arc<Exchange>, doorstep: &mut Doorstep) {
    for waiting in doorstep.take(|sealed| known(exchange, sealed).is_ok()) {
        let heard = known(exchange, &waiting.sealed)
            .map_err(|unknown| unknown.reason)
            .and_then(|from| hear(exchange, &from, waiting.sealed, waiting.arrived_ms));
        if let Err(reason) = heard {
            exchange.rejected.count(reason);
        }
    }
}

/// A sender that is not in the routes, or not in that run.
struct Unknown {
    reason: PeerRejection,
    may_be_known_soon: bool,
}

fn known(exchange: &Exchange, sealed: &Sealed) -> Result<Arc<Remote>, Unknown> {
    let Some(from) = exchange.remote(&sealed.sender) else {
        return Err(Unknown {
            reason: PeerRejection::Stranger,
            // This host is never in its own routes.
            may_be_known_soon: sealed.sender != *exchange.own,
        });
    };
    if from.host.incarnation == sealed.sender_incarnation {
        return Ok(from);
    }
    Err(Unknown {
        reason: PeerRejection::WrongIncarnation,
        may_be_known_soon: from.host.incarnation < sealed.sender_incarnation,
    })
}

/// Takes a message of a known sender that has come for this host.
fn hear(
    exchange: &Arc<Exchange>,
    from: &Arc<Remote>,
    sealed: Sealed,
    arrived_ms: u64,
) -> Result<(), PeerRejection> {
    if !from.is_new(sealed.sequence) {
        return Err(PeerRejection::Replayed);
    }
    let opened = sealed
        .open(&from.public)
        .map_err(|_| PeerRejection::Signature)?;
    let delay_ms = from
        .arrived(opened.sequence, arrived_ms, opened.sent_ms)
        .ok_or(PeerRejection::Replayed)?;
    // The time on the doorstep is no less lost to the caller than that on the way.
    let delay_ms = delay_ms.saturating_add(exchange.clock.elapsed_ms().saturating_sub(arrived_ms));
    match Frame::decode(&opened.frame) {
        Ok(frame) => dispatch(exchange, from, frame, delay_ms),
        Err(error) => {
            tracing::debug!(host = %from.host.key, %error, "a peer sent a frame that is none");
            if let Some(call) = Frame::refusable_call(&opened.frame) {
                exchange.refuse(from, call, error.to_refusal());
            }
            Err(PeerRejection::BadFrame)
        }
    }
}

/// Hands a frame to its call. A call that is not there has ended, which its peer may not know yet.
fn dispatch(
    exchange: &Arc<Exchange>,
    from: &Arc<Remote>,
    frame: Frame,
    delay_ms: u64,
) -> Result<(), PeerRejection> {
    match frame {
        Frame::Invoke {
            call,
            head,
            payload,
            rest,
        } => {
            let asked = Asked::Invoke { payload, rest };
            incoming::admit(exchange, from, call, head, asked, delay_ms);
        }
        Frame::HttpRequest {
            call,
            head,
            method,
            uri,
            fields,
            has_body,
        } => {
            let asked = Asked::Http {
                method,
                uri,
                fields,
                has_body,
            };
            incoming::admit(exchange, from, call, head, asked, delay_ms);
        }
        Frame::Reply { call, result, rest } => {
            answer(from, call, Answer::Reply { result, rest });
        }
        Frame::HttpResponse {
            call,
            status,
            fields,
            has_body,
        } => {
            answer(
                from,
                call,
                Answer::Http {
                    status,
                    fields,
                    has_body,
                },
            );
        }
        Frame::Refuse { call, refusal } => {
            if let Some(outgoing) = from.outgoing(call) {
                outgoing.end(&refusal);
            }
        }
        Frame::Data {
            call,
            stream,
            sequence,
            bytes,
            last,
            trailers,
        } => {
            let piece = Piece {
                bytes,
                last,
                trailers,
            };
            return data(from, call, stream, sequence, piece);
        }
        Frame::Credit {
            call,
            stream,
            bytes,
        } => match stream {
            Stream::ToCallee => {
                from.outgoing(call).inspect(|call| call.upload.grant(bytes));
            }
            Stream::ToCaller => {
                from.incoming(call)
                    .inspect(|call| call.download.grant(bytes));
            }
        },
        Frame::Abort {
            call,
            stream,
            refusal,
        } => match stream {
            Stream::ToCallee => {
                from.incoming(call)
                    .inspect(|call| call.upload.fail(refusal));
            }
            Stream::ToCaller => {
                from.outgoing(call)
                    .inspect(|call| call.download.fail(refusal));
            }
        },
        Frame::Stop { call, stream } => {
            let stopped = trellis_protocol::Refusal::new(
                RefusalCode::Cancelled,
                "the stream's reader wants no more",
            );
            match stream {
                Stream::ToCallee => {
                    from.outgoing(call)
                        .inspect(|call| call.upload.close(stopped));
                }
                Stream::ToCaller => {
                    from.incoming(call)
                        .inspect(|call| call.download.close(stopped));
                }
            }
        }
        Frame::Cancel { call } => {
            from.incoming(call).inspect(|call| call.end());
        }
        Frame::Release { lease } => incoming::release(exchange, from, lease),
    }
    Ok(())
}

fn answer(from: &Remote, call: CallNumber, answer: Answer) {
    if let Some(outgoing) = from.outgoing(call) {
        outgoing.answer(answer);
    }
}

fn data(
    from: &Remote,
    call: CallNumber,
    stream: Stream,
    sequence: u32,
    piece: Piece,
) -> Result<(), PeerRejection> {
    let pushed = match stream {
        Stream::ToCallee => from
            .incoming(call)
            .map(|call| call.upload.push(sequence, piece)),
        Stream::ToCaller => from
            .outgoing(call)
            .map(|call| call.download.push(sequence, piece)),
    };
    match pushed {
        // What comes after the end crossed a stop or a failure on its way.
        None | Some(Ok(()) | Err(Broken::Closed)) => Ok(()),
        Some(Err(Broken::Gap | Broken::Credit)) => Err(PeerRejection::BrokenStream),
    }
}

/// The server says, or somebody pretends it says, that nobody subscribes for a peer.
fn nobody_listens(exchange: &Exchange, subject: &str) {
    let Some(rest) = subject.strip_prefix(&exchange.inbox) else {
        return;
    };
    let mut tokens = rest.trim_start_matches('.').split('.');
    let (Some(host), Some(Ok(call))) = (tokens.next(), tokens.next().map(str::parse)) else {
        return;
    };
    let remote = exchange.remotes().get(host).cloned();
    if let Some(outgoing) = remote.and_then(|remote| remote.outgoing(call)) {
        let refusal = no_responders(exchange, host, outgoing.idempotent);
        // Who has answered listens, whatever is said here.
        if outgoing.answer(Answer::Refused(refusal.clone())) {
            outgoing.end(&refusal);
        }
    }
}
