//! The server behind its other door: as a process speaks with its host, over a socket.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trellis_http_server::HttpServerFactory;
use trellis_pipe::{
    Failure, FailureKind, Hello, Pipe, PipeBody, PipeError, PipeHandler, PipeLimits, PipeLink,
    PipeLinkEnd, Question,
};
use trellis_protocol::InvocationHead;
use trellis_provider_sdk::{EntityId, Lease, LinkKey, LinkName, Refusal, RefusalCode, process};

use crate::wire::{Wire, get, soon};

/// A host whose one actor echoes bodies, or waits for its caller to go where the path is `/wait`.
struct Host {
    arrived: mpsc::UnboundedSender<InvocationHead>,
    cancelled: mpsc::UnboundedSender<()>,
}

#[async_trait]
impl PipeHandler for Host {
    async fn invoke(
        &self,
        _: InvocationHead,
        _: Bytes,
        _: Instant,
        _: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        Err(Refusal::new(RefusalCode::Internal, "no function is called"))
    }

    async fn http(
        &self,
        head: InvocationHead,
        _: Instant,
        cancel: CancellationToken,
        request: Request<PipeBody>,
    ) -> Result<Response<PipeBody>, Refusal> {
        self.arrived.send(head).unwrap();
        if request.uri().path() == "/wait" {
            cancel.cancelled().await;
            self.cancelled.send(()).unwrap();
        }
        Ok(Response::new(request.into_body()))
    }

    async fn release(&self, _: Lease) {}

    async fn release_host(&self, _: String) {}

    async fn answer(&self, _: Question) -> Result<(), Failure> {
        Err(Failure::new(FailureKind::Unsupported, "a host"))
    }
}

struct Process {
    pipe: Pipe,
    hello: Hello,
    address: SocketAddr,
    arrived: mpsc::UnboundedReceiver<InvocationHead>,
    cancelled: mpsc::UnboundedReceiver<()>,
    serving: JoinHandle<Result<(), PipeError>>,
}

/// A server behind a socket with one link, on a port that was free a moment ago.
async fn started() -> Process {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let factory = Arc::new(HttpServerFactory);
    let serving = tokio::spawn(process::serve(theirs, factory, std::future::pending()));
    let (arriving, arrived) = mpsc::unbounded_channel();
    let (cancelling, cancelled) = mpsc::unbounded_channel();
    let host = Arc::new(Host {
        arrived: arriving,
        cancelled: cancelling,
    });
    let (pipe, hello) = Pipe::host_end(ours, PipeLimits::default(), host, Duration::from_secs(5))
        .await
        .unwrap();
    let id = EntityId::new("http").unwrap();
    let start = Question::Start {
        id: id.clone(),
        lattice: "test".to_owned(),
        host: "NTEST".to_owned(),
        config: BTreeMap::new(),
    };
    pipe.ask(start).await.unwrap().unwrap();
    let mut tries = 0;
    let address = loop {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let link = PipeLink {
            key: LinkKey {
                source_id: id.clone(),
                name: LinkName::default(),
                wit_namespace: "wasi".to_owned(),
                wit_package: "http".to_owned(),
            },
            target: EntityId::new("actor").unwrap(),
            interfaces: vec!["wasi:http/incoming-handler".to_owned()],
            end: PipeLinkEnd::Source,
            config: BTreeMap::from([("address".to_owned(), address.to_string())]),
            generation: 1,
        };
        match pipe.ask(Question::LinkPut(link)).await.unwrap() {
            Ok(()) => break address,
            // Somebody else has taken the port meanwhile.
            Err(failure) => assert!(tries < 5, "{failure}"),
        }
        tries += 1;
    };
    Process {
        pipe,
        hello,
        address,
        arrived,
        cancelled,
        serving,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_stream_through_the_socket_and_back() {
    let mut process = started().await;
    assert_eq!(process.hello.name, "http-server");
    let mut wire = Wire::open(process.address).await;
    wire.send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    assert_eq!(wire.head().await.status, 200);
    assert_eq!(wire.bytes(8).await, b"3\r\nabc\r\n");
    wire.send("2\r\nde\r\n").await;
    assert_eq!(wire.bytes(7).await, b"2\r\nde\r\n");
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.bytes(5).await, b"0\r\n\r\n");
    let head = process.arrived.recv().await.unwrap();
    assert_eq!(head.target.as_str(), "actor");
    assert_eq!(&*head.operation.interface, "wasi:http/incoming-handler");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_through_both_ways() {
    const BYTES: usize = 8 * 1024 * 1024 + 1;
    let process = started().await;
    let mut wire = Wire::open(process.address).await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\nconnection: close\r\n\r\n"
    ))
    .await;
    let (mut reading, mut writing) = wire.stream.into_split();
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut writing, &vec![b'x'; BYTES])
            .await
            .unwrap();
        writing
    });
    let mut received = Vec::new();
    soon(tokio::io::AsyncReadExt::read_to_end(
        &mut reading,
        &mut received,
    ))
    .await
    .unwrap();
    soon(sending).await.unwrap();
    let echoed = received.iter().filter(|byte| **byte == b'x').count();
    assert!(echoed >= BYTES, "{echoed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_told_to_the_host() {
    let mut process = started().await;
    let mut wire = Wire::open(process.address).await;
    wire.send(get("/wait")).await;
    soon(process.arrived.recv()).await.unwrap();
    drop(wire);
    soon(process.cancelled.recv()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shuts_down_when_it_is_asked_and_ends_with_the_socket() {
    let process = started().await;
    let within = Duration::from_secs(5);
    process
        .pipe
        .ask(Question::Shutdown { within })
        .await
        .unwrap()
        .unwrap();
    assert!(
        tokio::net::TcpStream::connect(process.address)
            .await
            .is_err()
    );
    process.pipe.close("done");
    soon(process.serving).await.unwrap().unwrap();
}
