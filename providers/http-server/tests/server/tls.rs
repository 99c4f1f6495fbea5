//! TLS with a link's own certificate.

use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use trellis_provider_sdk::LinkError;

use crate::actors::{link, linked, ok, refused, server};

struct Files {
    directory: tempfile::TempDir,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Files {
    fn new() -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(
            directory.path().join("key.pem"),
            certificate.signing_key.serialize_pem(),
        )
        .unwrap();
        std::fs::write(directory.path().join("empty.pem"), "").unwrap();
        Self {
            directory,
            certificate,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    async fn connect(
        &self,
        address: std::net::SocketAddr,
        protocols: &[&[u8]],
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config))
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn http_1_and_2_are_agreed_on_in_the_handshake() {
    let files = Files::new();
    let config = [
        ("tls_cert_file", files.path("cert.pem")),
        ("tls_priv_key_file", files.path("key.pem")),
    ];
    let config: Vec<(&str, &str)> = config.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (_server, address) = linked(&[], &config, |_, request| async move {
        ok(format!("{:?} {}", request.version(), request.uri()))
    })
    .await;
    let request = |uri: &str| {
        Request::get(uri)
            .header("host", "localhost")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap()
    };

    let stream = files.connect(address, &[b"h2", b"http/1.1"]).await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let response = client
        .send_request(request("https://localhost/a"))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "HTTP/2.0 https://localhost/a");

    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = files.connect(address, protocols).await;
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = client.send_request(request("/b")).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "HTTP/1.1 https://localhost/b");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_empty_or_of_another_kind_is_named() {
    let files = Files::new();
    let server = server(&[], |_, _| async { ok("") }).await;
    for (certificate, key, wrong) in [
        ("missing.pem", "key.pem", "tls_cert_file"),
        ("empty.pem", "key.pem", "tls_cert_file"),
        ("cert.pem", "missing.pem", "tls_priv_key_file"),
        ("cert.pem", "cert.pem", "tls_priv_key_file"),
    ] {
        let config = [
            ("tls_cert_file", files.path(certificate)),
            ("tls_priv_key_file", files.path(key)),
        ];
        let config: Vec<(&str, &str)> = config.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let error = refused(&server, link("a", 1, &config)).await;
        assert!(
            matches!(&error, LinkError::Config { key, .. } if key == wrong),
            "{error}"
        );
    }
}
