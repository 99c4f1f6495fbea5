//! Fetching: manifests, and content that goes on where it broke off.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};
use trellis_claims::provider::Platform;

use super::client::Repository;
use super::image::{ACCEPTED, Layer, Parsed, Unusable, choose, layer};
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::kind::Kind;

/// Largest manifest, in bytes: what registries themselves accept.
pub(crate) const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

const MANIFEST: &str = "manifest";
const CONTENT: &str = "content";

/// Content on its way.
#[derive(Debug)]
pub(crate) struct Body {
    response: Response,
    /// Where it begins, in bytes: 0, or where it was asked to go on.
    pub(crate) offset: u64,
}

impl Repository<'_> {
    /// A manifest by tag or digest, and its digest. What a digest was asked for has that digest.
    pub(crate) async fn manifest(&self, tag: &str) -> Result<(Bytes, Digest), RegistryError> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let response = self
            .send(Method::GET, url, MANIFEST, |request| {
                request.header(ACCEPT, ACCEPTED)
            })
            .await?;
        // It says what it believes to send. Where that is other than what comes, somebody in between is to blame.
        let announced = response
            .headers()
            .get("docker-content-digest")
            .and_then(|digest| digest.to_str().ok()?.parse::<Digest>().ok());
        let body = self.body(response, MANIFEST_BYTES_MAX, MANIFEST).await?;
        let actual = Digest::of(&body);
        for expected in [tag.parse().ok(), announced].into_iter().flatten() {
            if actual != expected {
                return Err(RegistryError::DigestMismatch {
                    registry: self.registry.to_owned(),
                    what: MANIFEST,
                    expected,
                    actual,
                });
            }
        }
        Ok((body, actual))
    }

    /// The manifest to fetch by, where an index stands for several.
    pub(crate) fn chosen(
        &self,
        manifest: &[u8],
        kind: Option<Kind>,
        here: &Platform,
    ) -> Result<Option<Digest>, RegistryError> {
        match Parsed::read(manifest).map_err(|error| self.unusable(error))? {
            Parsed::Image(_) => Ok(None),
            Parsed::Index(index) => choose(&index, kind, here)
                .map(Some)
                .map_err(|error| self.unusable(error)),
        }
    }

    /// The layer to fetch.
    pub(crate) fn layer(
        &self,
        manifest: &[u8],
        kind: Option<Kind>,
        max: impl Fn(&str) -> u64,
    ) -> Result<Layer, RegistryError> {
        match Parsed::read(manifest).map_err(|error| self.unusable(error))? {
            Parsed::Image(image) => layer(&image, kind, max).map_err(|error| self.unusable(error)),
            Parsed::Index(_) => Err(self.misbehaved("its index leads to another index")),
        }
    }

    fn unusable(&self, error: Unusable) -> RegistryError {
        match error {
            Unusable::Nonsense(reason) => self.misbehaved(reason),
            Unusable::Other(error) => error,
        }
    }

    /// Content from an offset on, if the registry can; else from its beginning.
    pub(crate) async fn content(&self, layer: &Layer, offset: u64) -> Result<Body, RegistryError> {
        let url = self.url(&format!("blobs/{}", layer.digest))?;
        let response = self
            .send(Method::GET, url, CONTENT, |request| match offset {
                0 => request,
                offset => request.header(RANGE, format!("bytes={offset}-")),
            })
            .await?;
        let offset = match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), offset) => offset,
            StatusCode::PARTIAL_CONTENT => {
                return Err(
                    self.misbehaved("it sent another part of the content than it was asked for")
                );
            }
            _ => 0,
        };
        if let Some(announced) = response.content_length()
            && offset.saturating_add(announced) != layer.bytes
        {
            let actual = offset.saturating_add(announced);
            return Err(self.length_mismatch(layer.bytes, actual));
        }
        Ok(Body { response, offset })
    }

    pub(crate) fn length_mismatch(&self, expected: u64, actual: u64) -> RegistryError {
        RegistryError::LengthMismatch {
            registry: self.registry.to_owned(),
            expected,
            actual,
        }
    }

    pub(crate) fn mismatch(&self, expected: Digest, actual: Digest) -> RegistryError {
        RegistryError::DigestMismatch {
            registry: self.registry.to_owned(),
            what: CONTENT,
            expected,
            actual,
        }
    }

    /// The next piece of content.
    pub(crate) async fn next(&self, body: &mut Body) -> Result<Option<Bytes>, RegistryError> {
        self.piece(&mut body.response, CONTENT).await
    }
}

/// Whether `Content-Range: bytes 5-9/10` begins where it was asked to.
fn begins_at(headers: &HeaderMap, offset: u64) -> bool {
    headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
        .and_then(|(first, _)| first.parse::<u64>().ok())
        == Some(offset)
}
