//! Two ends, or one end and a socket to write to by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use trellis_protocol::frame::Frame;
use trellis_protocol::pipe::{Control, Hello, PIPE_VERSION, PipeFrame, read_length, write_length};
use trellis_protocol::{
    EntityId, InvocationHead, InvocationId, Lease, LinkName, Operation, Refusal,
};

use super::handler::TestHandler;
use crate::{Pipe, PipeBody, PipeHandler, PipeLimits};

pub(super) const SOON: Duration = Duration::from_secs(20);

/// Which end calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    HostCalls,
    ProviderCalls,
}

pub(super) const BOTH_WAYS: [Way; 2] = [Way::HostCalls, Way::ProviderCalls];

/// Two ends.
pub(super) struct Ends {
    pub(super) caller: Pipe,
    pub(super) callee: Pipe,
    /// What serves the calls.
    pub(super) handler: Arc<TestHandler>,
}

pub(super) fn hello(calls_max: u32) -> Hello {
    Hello {
        version: PIPE_VERSION,
        name: "test".to_owned(),
        serves: vec!["t:t/t".to_owned()],
        calls: vec![],
        calls_max,
    }
}

pub(super) async fn ends(way: Way) -> Ends {
    ends_with(way, 256, PipeLimits::default()).await
}

/// The limits are those of both ends.
pub(super) async fn ends_with(way: Way, calls_max: u32, limits: PipeLimits) -> Ends {
    let (host, provider) = UnixStream::pair().unwrap();
    let handler = Arc::new(TestHandler::default());
    let of = |serves: bool| -> Arc<dyn PipeHandler> {
        if serves {
            Arc::clone(&handler) as Arc<dyn PipeHandler>
        } else {
            Arc::new(TestHandler::default())
        }
    };
    let (host_serves, provider_serves) = match way {
        Way::HostCalls => (false, true),
        Way::ProviderCalls => (true, false),
    };
    let (host, provider) = tokio::join!(
        Pipe::host_end(host, limits.clone(), of(host_serves), SOON),
        Pipe::provider_end(provider, hello(calls_max), limits, of(provider_serves)),
    );
    let (host, provider) = (host.unwrap().0, provider.unwrap());
    let (caller, callee) = match way {
        Way::HostCalls => (host, provider),
        Way::ProviderCalls => (provider, host),
    };
    Ends {
        caller,
        callee,
        handler,
    }
}

pub(super) fn head(function: &str) -> InvocationHead {
    InvocationHead {
        id: InvocationId::random(),
        source: EntityId::new("a").unwrap(),
        target: EntityId::new("b").unwrap(),
        operation: Operation::new("t:t/t", function),
        link: LinkName::default(),
        deadline_ms: 1000,
        depth: 0,
        type_hash: 1,
        idempotent: false,
        lease: Lease {
            host: Arc::from("N"),
            instance: 1,
        },
        chain: vec![],
        traceparent: None,
        state_sequence: 0,
    }
}

pub(super) fn soon() -> Instant {
    Instant::now() + SOON
}

pub(super) async fn invoke(
    pipe: &Pipe,
    function: &str,
    payload: impl Into<Bytes>,
) -> Result<Bytes, Refusal> {
    let cancel = CancellationToken::new();
    pipe.invoke(head(function), payload.into(), soon(), &cancel)
        .await
}

pub(super) async fn http(
    pipe: &Pipe,
    path: &str,
    body: PipeBody,
) -> Result<http::Response<PipeBody>, Refusal> {
    let request = http::Request::post(format!("http://h{path}"))
        .body(body)
        .unwrap();
    let cancel = CancellationToken::new();
    pipe.http(head(""), soon(), &cancel, request).await
}

pub(super) fn full(bytes: impl Into<Bytes>) -> PipeBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An end that says what a test wants it to say.
pub(super) struct ByHand {
    pub(super) socket: UnixStream,
}

impl ByHand {
    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        // The other end may have hung up at the first half.
        let _ = self.socket.write_all(bytes).await;
    }

    pub(super) async fn frame(&mut self, frame: &[u8]) {
        let length = write_length(frame.len()).unwrap();
        self.bytes(&[&length, frame].concat()).await;
    }

    pub(super) async fn say(&mut self, frame: &Frame) {
        self.frame(&frame.encode().unwrap()).await;
    }

    pub(super) async fn tell(&mut self, control: &Control) {
        self.frame(&control.encode().unwrap()).await;
    }

    pub(super) async fn hear(&mut self) -> Option<PipeFrame> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).await.ok()?;
        let mut frame = vec![0; read_length(length).unwrap()];
        self.socket.read_exact(&mut frame).await.ok()?;
        Some(PipeFrame::decode(&frame.into()).unwrap())
    }

    pub(super) async fn hear_call(&mut self) -> Frame {
        match self.hear().await {
            Some(PipeFrame::Call(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }
}

/// A host, and its provider by hand.
pub(super) async fn host_and_hand(limits: PipeLimits) -> (Pipe, ByHand, Arc<TestHandler>) {
    let (host, provider) = UnixStream::pair().unwrap();
    let mut hand = ByHand { socket: provider };
    let handler = Arc::new(TestHandler::default());
    let serving = Arc::clone(&handler) as Arc<dyn PipeHandler>;
    hand.tell(&Control::Hello(hello(16))).await;
    let (pipe, _) = Pipe::host_end(host, limits, serving, SOON).await.unwrap();
    (pipe, hand, handler)
}

/// A provider, and its host by hand.
pub(super) async fn provider_and_hand() -> (Pipe, ByHand) {
    let (host, provider) = UnixStream::pair().unwrap();
    let mut hand = ByHand { socket: host };
    let handler = Arc::new(TestHandler::default());
    let pipe = Pipe::provider_end(provider, hello(16), PipeLimits::default(), handler);
    let pipe = pipe.await.unwrap();
    let Some(PipeFrame::Control(_)) = hand.hear().await else {
        panic!("no hello");
    };
    (pipe, hand)
}
