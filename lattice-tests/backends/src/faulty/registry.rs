//! A registry of artifacts with one artifact, and one fault.
//!
//! It speaks as much of the distribution protocol as a client needs to get at the fault: manifests by any tag or digest,
//! content, tokens, uploads. Each connection serves one request.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What is written at once, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// A token that is accepted.
const TOKEN: &str = "good-token";

/// What the registry has: as it would come from an honest one.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The manifest, sent for every tag and digest.
    pub manifest: Vec<u8>,
    /// Its digest, `sha256:…`.
    pub manifest_digest: String,
    /// The content of its layer, sent for every digest.
    pub content: Vec<u8>,
}

/// A step of a pull or push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `GET …/manifests/…`
    Manifest,
    /// `GET …/blobs/…`
    Content,
    /// `GET /token`
    Token,
    /// `POST …/blobs/uploads/`
    Upload,
    /// `PUT` of content.
    Put,
    /// `PUT …/manifests/…`
    PutManifest,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Reads the request for a step, and never answers.
    Hang(Step),
    /// Sends so many bytes of the content, and then nothing.
    Stall(usize),
    /// Ends every connection after so many bytes of content. Goes on where it is asked to.
    Cut(usize),
    /// The same, but always begins again.
    CutWithoutRanges(usize),
    /// Answers a step so many times with a status before it is right.
    Status(Step, u16, usize),
    /// Sends another manifest than it names in its headers.
    ManifestDigest,
    /// Sends other content of the same length.
    ContentBytes,
    /// Sends so many bytes fewer, and says so.
    ContentShort(usize),
    /// Sends so many bytes more, without saying how many there are.
    ContentLong(usize),
    /// Sends so many bytes fewer, without saying how many there are.
    ContentShortSilently(usize),
    /// Sends a body for a step that never ends.
    Endless(Step),
    /// Announces a body of 2 GiB for a step.
    Huge(Step),
    /// Sends headers that never end.
    EndlessHead,
    /// Sends something that is no HTTP.
    Garbage,
    /// Answers a step with a page for browsers, and success.
    Page(Step),
    /// Leads each request in circles.
    RedirectLoop,
    /// Leads content to another place.
    Redirect(String),
    /// Wants a token each time, and never likes one.
    TokenLoop,
    /// Wants a password each time, and never likes one.
    PasswordLoop,
    /// Wants a token, and gives one with this text for the answer.
    TokenAnswer(String),
    /// Names this as the place of an upload.
    Location(String),
}

/// The registry.
#[derive(Debug)]
pub struct FaultyRegistry {
    address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Mutex<Vec<String>>,
    statuses: Mutex<usize>,
}

struct Request {
    line: String,
    head: String,
}

impl FaultyRegistry {
    /// Listens on a free port.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn start(image: Image, fault: Fault) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let log = Arc::new(Log::default());
        let image = Arc::new(image);
        let accepting = tokio::spawn({
            let log = log.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (image, fault, log) = (image.clone(), fault.clone(), log.clone());
                    connections.spawn(async move {
                        // A client that goes away in the middle is what some faults are for.
                        let _ = serve(stream, address, &image, &fault, &log).await;
                    });
                    while connections.try_join_next().is_some() {}
                }
            }
        });
        Ok(Self {
            address,
            log,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name in references: `127.0.0.1:<port>`.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far: method, path, and the header `Range` or `Authorization` where there was one.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.log.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Request {
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        Ok(Self { line, head })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn step(&self) -> Option<Step> {
        let (method, path) = self.line.split_once(' ')?;
        let has = |part| path.contains(part);
        Some(match method {
            "GET" if has("/manifests/") => Step::Manifest,
            "GET" if has("/blobs/") => Step::Content,
            "GET" if has("/token") => Step::Token,
            "POST" => Step::Upload,
            "PUT" if has("/manifests/") => Step::PutManifest,
            "PUT" => Step::Put,
            _ => return None,
        })
    }

    /// Reads the body and forgets it.
    async fn drain(&self, stream: &mut TcpStream) -> io::Result<()> {
        let bytes = self.header("content-length");
        let bytes = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let mut body = stream.take(bytes);
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        Ok(())
    }

    fn noted(&self) -> String {
        let mut noted = self.line.clone();
        for name in ["range", "authorization"] {
            if let Some(value) = self.header(name) {
                noted.push_str(&format!(" {name}={value}"));
            }
        }
        noted
    }
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    image: &Image,
    fault: &Fault,
    log: &Log,
) -> io::Result<()> {
    let request = Request::read(&mut stream).await?;
    log.requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.noted());
    let step = request.step();
    match fault {
        Fault::Hang(at) if step == Some(*at) => return hang().await,
        Fault::Garbage => return stream.write_all(b"NOISE\0\x01\x02 and more\r\n\r\n").await,
        Fault::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            return endless(&mut stream, b"x-more: and more and more and more\r\n").await;
        }
        Fault::RedirectLoop => {
            return redirect(&mut stream, "/v2/around/manifests/and-around").await;
        }
        Fault::Redirect(to) if step == Some(Step::Content) => {
            return redirect(&mut stream, to).await;
        }
        Fault::TokenLoop | Fault::TokenAnswer(_) if step != Some(Step::Token) => {
            let is_loop = *fault == Fault::TokenLoop;
            let is_known = request.header("authorization") == Some(&*format!("Bearer {TOKEN}"));
            if is_loop || !is_known {
                let challenge =
                    format!("Bearer realm=\"http://{address}/token\",service=\"tests\"");
                return unauthorized(&mut stream, &challenge).await;
            }
        }
        Fault::PasswordLoop => return unauthorized(&mut stream, "Basic realm=\"tests\"").await,
        Fault::Status(at, status, times) if step == Some(*at) => {
            let is_bad = {
                let mut sent = log.statuses.lock().unwrap_or_else(PoisonError::into_inner);
                *sent += 1;
                *sent <= *times
            };
            if is_bad {
                request.drain(&mut stream).await?;
                return answer(&mut stream, &format!("{status} Fault"), "", b"as was to be").await;
            }
        }
        Fault::Endless(at) if step == Some(*at) => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
                .await?;
            return endless(&mut stream, &[b' '; PIECE_BYTES]).await;
        }
        Fault::Huge(at) if step == Some(*at) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 2_u64 << 30);
            stream.write_all(head.as_bytes()).await?;
            return endless(&mut stream, &[b' '; PIECE_BYTES]).await;
        }
        Fault::Page(at) if step == Some(*at) => {
            let page = b"<!doctype html><title>Log in to the network</title>";
            return answer(&mut stream, "200 OK", "content-type: text/html\r\n", page).await;
        }
        _ => {}
    }
    honest(&mut stream, &request, step, address, image, fault).await
}

async fn honest(
    stream: &mut TcpStream,
    request: &Request,
    step: Option<Step>,
    address: SocketAddr,
    image: &Image,
    fault: &Fault,
) -> io::Result<()> {
    match step {
        Some(Step::Manifest) => {
            let mut manifest = image.manifest.clone();
            if *fault == Fault::ManifestDigest {
                manifest.push(b' ');
            }
            let headers = format!(
                "content-type: application/vnd.oci.image.manifest.v1+json\r\ndocker-content-digest: {}\r\n",
                image.manifest_digest
            );
            answer(stream, "200 OK", &headers, &manifest).await
        }
        Some(Step::Content) => content(stream, request, image, fault).await,
        Some(Step::Token) => {
            let token = format!("{{\"token\":\"{TOKEN}\",\"expires_in\":300}}");
            let text = match fault {
                Fault::TokenAnswer(text) if !text.is_empty() => text,
                _ => &token,
            };
            answer(stream, "200 OK", "", text.as_bytes()).await
        }
        Some(Step::Upload) => {
            let location = match fault {
                Fault::Location(location) => location.clone(),
                _ => format!("http://{address}/v2/upload/1"),
            };
            answer(
                stream,
                "202 Accepted",
                &format!("location: {location}\r\n"),
                b"",
            )
            .await
        }
        Some(Step::Put | Step::PutManifest) => {
            request.drain(stream).await?;
            let headers = format!("location: http://{address}/v2/done\r\n");
            answer(stream, "201 Created", &headers, b"").await
        }
        None => answer(stream, "404 Not Found", "", b"").await,
    }
}

async fn content(
    stream: &mut TcpStream,
    request: &Request,
    image: &Image,
    fault: &Fault,
) -> io::Result<()> {
    let mut content = image.content.clone();
    let asked = request.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let from = match fault {
        Fault::CutWithoutRanges(_) => 0,
        _ => asked.unwrap_or(0_usize).min(content.len()),
    };
    match fault {
        Fault::ContentBytes => content.iter_mut().for_each(|byte| *byte = !*byte),
        Fault::ContentShort(bytes) => content.truncate(content.len().saturating_sub(*bytes)),
        Fault::ContentShortSilently(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            let end = content.len().saturating_sub(*bytes);
            return stream.write_all(&content[..end]).await;
        }
        Fault::ContentLong(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            content.resize(content.len() + bytes, 0);
            return stream.write_all(&content).await;
        }
        _ => {}
    }
    let (status, range) = match from {
        0 => ("200 OK", String::new()),
        from => (
            "206 Partial Content",
            format!(
                "content-range: bytes {from}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            ),
        ),
    };
    let rest = &content[from..];
    let head = format!(
        "HTTP/1.1 {status}\r\n{range}content-length: {}\r\nconnection: close\r\n\r\n",
        rest.len()
    );
    stream.write_all(head.as_bytes()).await?;
    match fault {
        Fault::Stall(after) => {
            stream.write_all(&rest[..rest.len().min(*after)]).await?;
            hang().await
        }
        Fault::Cut(after) | Fault::CutWithoutRanges(after) => {
            stream.write_all(&rest[..rest.len().min(*after)]).await
        }
        _ => stream.write_all(rest).await,
    }
}

async fn answer(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

async fn redirect(stream: &mut TcpStream, to: &str) -> io::Result<()> {
    let header = format!("location: {to}\r\n");
    answer(stream, "307 Temporary Redirect", &header, b"").await
}

async fn unauthorized(stream: &mut TcpStream, challenge: &str) -> io::Result<()> {
    let header = format!("www-authenticate: {challenge}\r\n");
    answer(stream, "401 Unauthorized", &header, b"").await
}

/// Writes until nobody reads any more.
async fn endless(stream: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(piece).await?;
    }
}

async fn hang() -> io::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    async fn ask(registry: &FaultyRegistry, request: &str) -> String {
        let mut stream = TcpStream::connect(registry.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn it_goes_on_where_it_is_asked_to_and_cuts_where_it_was_told_to() {
        let image = Image {
            content: b"0123456789".to_vec(),
            ..Image::default()
        };
        let registry = FaultyRegistry::start(image, Fault::Cut(3)).await.unwrap();
        let first = ask(&registry, "GET /v2/a/blobs/x HTTP/1.1\r\n\r\n").await;
        assert!(first.contains("content-length: 10") && first.ends_with("\r\n\r\n012"));
        let request = "GET /v2/a/blobs/x HTTP/1.1\r\nRange: bytes=3-\r\n\r\n";
        let second = ask(&registry, request).await;
        assert!(second.starts_with("HTTP/1.1 206") && second.ends_with("345"));
        assert!(second.contains("content-range: bytes 3-9/10"));
        let noted = registry.requests();
        assert_eq!(noted[1], "GET /v2/a/blobs/x range=bytes=3-");
    }
}
