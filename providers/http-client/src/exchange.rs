//! One request of one link: checked against its rules, sent on a connection of its pool, and the head of its response.

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_provider_sdk::{
    Body, HttpRequest, HttpResponse, OutgoingError, OutgoingErrorCode as Code, OutgoingTimeouts,
};

use crate::body::{Counted, Progress, RequestBody, ResponseBody};
use crate::config::{
    ANSWER_MARGIN, CONNECTION_BUFFER_BYTES, FIELDS, H2_PING_INTERVAL, H2_PING_TIMEOUT,
    H2_STREAM_WINDOW_BYTES, HEAD_BYTES, Limits,
};
use crate::connect::{self, Connector};
use crate::fault;
use crate::fields;
use crate::hold::{Hold, Upload, Used};
use crate::pool::{Connection, Lane, Pool, Single};
use crate::rule::Rules;
use crate::target::Target;

/// How often a request goes on to the next kept connection, where one was closed before it took anything.
const KEPT_ATTEMPTS_MAX: usize = 4;

/// How long an unused connection of HTTP/2 may take to close by itself.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What sends the requests of one link in one configuration.
pub(crate) struct LinkClient {
    pub(crate) rules: Rules,
    pub(crate) limits: Limits,
    pub(crate) connector: Connector,
    pub(crate) pool: Arc<Pool>,
    pub(crate) slots: Arc<Semaphore>,
    /// Connections, which end with the link.
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

impl LinkClient {
    /// Sends a request. The future ends with the head of the response, a moment before the deadline at the latest.
    ///
    /// # Errors
    /// Why there is no response.
    pub(crate) async fn send(
        &self,
        mut request: HttpRequest,
        deadline: StdInstant,
        counted: Counted,
    ) -> Result<HttpResponse, OutgoingError> {
        let now = Instant::now();
        let by = Instant::from_std(deadline.checked_sub(ANSWER_MARGIN).unwrap_or(deadline));
        let timeouts = OutgoingTimeouts::take(&mut request);
        let target = self.check(&request)?;
        let declared = declared_length(&request)?;
        if declared.is_some_and(|bytes| bytes > self.limits.request_bytes) {
            let text = "the request's body exceeds `request_bytes_max` of the link";
            return Err(OutgoingError::new(Code::HttpRequestBodySize, text)
                .with_number(self.limits.request_bytes));
        }
        fields::prepare_request(request.headers_mut());

        let progress = Progress::new();
        let (parts, body) = request.into_parts();
        let upload = Upload::new(body);
        let limit = self.limits.request_bytes;
        let body = RequestBody::new(upload.clone(), declared, limit, progress.clone());
        let request = Request::from_parts(parts, body);
        let connect_by = sooner(
            by,
            now,
            shorter(self.limits.connect_timeout, timeouts.connect),
        );
        let wait = shorter(self.limits.response_timeout, timeouts.first_byte);
        let (response, hold) = self
            .exchange(request, &upload, &target, connect_by, |connected| {
                sooner(by, connected, wait)
            })
            .await
            .map_err(|error| progress.fault().unwrap_or(error))?;
        self.finish(response, &target, progress, (hold, counted))
    }

    /// Holds a request to the rules of HTTP and of the link.
    fn check(&self, request: &HttpRequest) -> Result<Target, OutgoingError> {
        if request.method() == Method::CONNECT {
            let text = "`CONNECT` is never sent";
            return Err(OutgoingError::new(Code::HttpRequestMethodInvalid, text));
        }
        let target = Target::of(request.uri())?;
        target.check_host_field(request.headers())?;
        self.rules
            .check(request.method(), &target, request.uri().path())?;
        Ok(target)
    }

    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        upload: &Upload,
        target: &Target,
        connect_by: Instant,
        respond_by: impl Fn(Instant) -> Instant,
    ) -> Result<(Response<Incoming>, Hold), OutgoingError> {
        let mut attempts = 0;
        loop {
            let kept = (attempts < KEPT_ATTEMPTS_MAX)
                .then(|| self.pool.take(target))
                .flatten();
            attempts += 1;
            let is_kept = kept.is_some();
            let connection = match kept {
                Some(connection) => connection,
                None => self.open(target, connect_by).await?,
            };
            let respond_by = respond_by(Instant::now());
            let sent = timeout_at(
                respond_by,
                self.send_on(connection, request, upload, target),
            );
            let outcome = sent.await.map_err(|_| {
                let text = format!("no response of `{target}` in time");
                OutgoingError::new(Code::HttpResponseTimeout, text)
            })?;
            match outcome {
                Ok(answered) => return Ok(answered),
                Err(mut error) => match error.take_message() {
                    // The server closed a connection that it had kept for us, and has not seen a byte of the request.
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(fault::of_exchange(error.error(), target)),
                },
            }
        }
    }

    /// Sends a request on one connection, and gives the connection back when it can take another.
    async fn send_on(
        &self,
        connection: Connection,
        mut request: Request<RequestBody>,
        upload: &Upload,
        target: &Target,
    ) -> Result<(Response<Incoming>, Hold), TrySendError<Request<RequestBody>>> {
        let hold = |used| Hold::new(used, Arc::clone(&self.pool), upload.clone());
        // The hold is there before the request is sent: this future is dropped when the time is over.
        let (hold, sent) = match connection {
            Connection::Http1(mut single) => {
                to_http1(&mut request, target);
                let hold = hold(Used::Http1(single.close.clone()));
                let sent = single.sender.try_send_request(request).await;
                if sent.is_ok() {
                    self.keep_when_read(single, target.clone());
                }
                (hold, sent)
            }
            Connection::Http2(mut lane) => {
                to_http2(&mut request, target);
                let hold = hold(Used::Http2(lane.clone()));
                (hold, lane.sender.try_send_request(request).await)
            }
        };
        match sent {
            Ok(response) => Ok((response, hold)),
            Err(error) => {
                if error.message().is_some() {
                    hold.unsent();
                }
                Err(error)
            }
        }
    }

    /// Gives a connection back when the response's body has been read. It is closed where that is dropped before.
    fn keep_when_read(&self, mut single: Single, target: Target) {
        let (pool, cancel) = (Arc::clone(&self.pool), self.cancel.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                ready = single.sender.ready() => if ready.is_ok() {
                    pool.keep(target, single);
                },
                () = cancel.cancelled() => {}
            }
        });
    }

    async fn open(&self, target: &Target, until: Instant) -> Result<Connection, OutgoingError> {
        let connected = self.connector.connect(target, until).await?;
        let io = TokioIo::new(connected.stream);
        let handshake = async {
            match connected.version {
                connect::Version::Http1 => {
                    let (mut sender, connection) = http1::Builder::new()
                        .max_headers(FIELDS)
                        .max_buf_size(CONNECTION_BUFFER_BYTES)
                        .handshake(io)
                        .await?;
                    let close = CancellationToken::new();
                    self.drive(connection, close.clone().cancelled_owned());
                    sender.ready().await?;
                    Ok(Connection::Http1(Single { sender, close }))
                }
                connect::Version::Http2 => {
                    let (sender, connection) = http2::Builder::new(self.executor())
                        .timer(TokioTimer::new())
                        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
                        .initial_connection_window_size(self.connection_window())
                        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
                        .keep_alive_interval(H2_PING_INTERVAL)
                        .keep_alive_timeout(H2_PING_TIMEOUT)
                        .handshake(io)
                        .await?;
                    let close = CancellationToken::new();
                    let unused = close.clone().cancelled_owned();
                    self.drive(connection, async move {
                        // It says its farewell by itself, unless a request is stuck on it.
                        unused.await;
                        tokio::time::sleep(FAREWELL_MAX).await;
                    });
                    let lane = Lane::new(sender, close);
                    self.pool.share(target.clone(), lane.clone());
                    Ok(Connection::Http2(lane))
                }
            }
        };
        match timeout_at(until, handshake).await {
            Ok(connection) => {
                connection.map_err(|error: hyper::Error| fault::of_exchange(&error, target))
            }
            Err(_) => Err(OutgoingError::new(
                Code::ConnectionTimeout,
                format!("no connection to `{target}` in time"),
            )),
        }
    }

    /// Room for a full window of every request that the link may have, so that readers who pause do not stop the others.
    fn connection_window(&self) -> u32 {
        const MAX: u32 = (1 << 31) - 1;
        let requests = u32::try_from(self.limits.requests).unwrap_or(u32::MAX);
        H2_STREAM_WINDOW_BYTES.saturating_mul(requests).min(MAX)
    }

    fn executor(&self) -> Tracked {
        Tracked {
            tasks: self.tasks.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// Runs a connection until it ends by itself, or is closed.
    fn drive(
        &self,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
        closed: impl Future<Output = ()> + Send + 'static,
    ) {
        let drive = async move {
            tokio::select! {
                // Whoever has a request on it is told as well.
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error = fault::chain(&error), "a connection ended");
                },
                () = closed => {}
            }
        };
        hyper::rt::Executor::execute(&self.executor(), drive);
    }

    fn finish(
        &self,
        response: Response<Incoming>,
        target: &Target,
        progress: Progress,
        held: (Hold, Counted),
    ) -> Result<HttpResponse, OutgoingError> {
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let text = format!("`{target}` switches to a protocol that nobody asked for");
            return Err(OutgoingError::new(Code::HttpProtocolError, text));
        }
        fields::prepare_response(&mut parts.headers);
        if !fields::fit(&parts.headers) {
            let text = format!("the head of the response of `{target}` exceeds {HEAD_BYTES} bytes");
            return Err(
                OutgoingError::new(Code::HttpResponseHeaderSectionSize, text)
                    .with_number(HEAD_BYTES as u64),
            );
        }
        let limit = self.limits.response_bytes;
        if body.size_hint().lower() > limit {
            let text = "the response's body exceeds `response_bytes_max` of the link";
            return Err(OutgoingError::new(Code::HttpResponseBodySize, text).with_number(limit));
        }
        let idle = self.limits.body_idle_timeout;
        let body = ResponseBody::new(body, limit, idle, progress, held);
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        Ok(response)
    }
}

/// The length that a request's head declares.
///
/// # Errors
/// `HTTP-protocol-error` where it declares none that can be, two, or another than the body has: a server would take what
/// follows for the next request.
fn declared_length(request: &HttpRequest) -> Result<Option<u64>, OutgoingError> {
    let wrong = || {
        let text = "the `content-length` field is not the length of the body";
        OutgoingError::new(Code::HttpProtocolError, text)
    };
    let fields: &HeaderMap = request.headers();
    let mut values = fields.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let length = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(wrong)?;
    let actual = if request.body().is_end_stream() {
        Some(0)
    } else {
        request.body().size_hint().exact()
    };
    if values.next().is_some() || actual.is_some_and(|actual| actual != length) {
        return Err(wrong());
    }
    Ok(Some(length))
}

/// As HTTP/1.1 has it: the path in the request line, the authority in a field.
fn to_http1(request: &mut Request<RequestBody>, target: &Target) {
    // A host in its one spelling has no character that a field cannot have.
    if let Ok(host) = HeaderValue::from_str(&target.authority()) {
        request.headers_mut().insert(HOST, host);
    }
    let path = path_of(request.uri());
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
}

/// As HTTP/2 has it: all of the URI in pseudo fields.
fn to_http2(request: &mut Request<RequestBody>, target: &Target) {
    request.headers_mut().remove(HOST);
    let uri = Uri::builder()
        .scheme(target.scheme.as_str())
        .authority(target.authority())
        .path_and_query(path_of(request.uri()))
        .build();
    // It was read from one, so it makes one; were it not, the server would say that it misses the authority.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

fn path_of(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        // A query without a path.
        Some(path) => format!("/{path}")
            .parse()
            .unwrap_or_else(|_| PathAndQuery::from_static("/")),
        None => PathAndQuery::from_static("/"),
    }
}

fn shorter(limit: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(limit, |asked| limit.min(asked))
}

fn sooner(by: Instant, from: Instant, time: Duration) -> Instant {
    from.checked_add(time).map_or(by, |at| by.min(at))
}

/// Runs what belongs to a connection, until it ends or the link does.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = future => {}
                () = cancel.cancelled() => {}
            }
        });
    }
}
