//! TLS: whom a link trusts, and which version of HTTP is spoken.

use trellis_provider_sdk::{LinkError, OutgoingErrorCode as Code};

use super::server::{Authority, Server};
use super::{Linked, Names, text};

async fn linked(server: &Server, authority: Option<&Authority>) -> (Linked, String) {
    let host = format!("https://server.example:{}", server.port);
    let file = authority.map(Authority::file);
    let mut config = vec![
        ("allowed_hosts", host.as_str()),
        ("allowed_addresses", "127.0.0.1"),
    ];
    if let Some(file) = &file {
        config.push(("ca_files", file.to_str().unwrap()));
    }
    let names = Names::of(&[("server.example", &["127.0.0.1"])]);
    (Linked::resolving(names, &config).await, host)
}

#[tokio::test]
async fn a_link_trusts_the_authorities_that_it_names_and_speaks_the_newest_version() {
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let authority = Authority::new();
        let server = Server::https(&authority, &["server.example"], alpn).await;
        let (linked, host) = linked(&server, Some(&authority)).await;
        let seen = text(linked.get(&format!("{host}/head?a")).await.unwrap()).await;
        assert!(seen.contains(version), "{seen}");
        if version == "HTTP/2.0" {
            assert!(seen.starts_with(&format!("GET {host}/head?a ")), "{seen}");
            assert!(!seen.contains("host:"), "{seen}");
        } else {
            assert!(
                seen.contains(&format!("host: server.example:{}", server.port)),
                "{seen}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_or_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = Server::https(&authority, &["server.example"], &["h2"]).await;
    for trusted in [None, Some(&Authority::new())] {
        let (linked, host) = linked(&server, trusted).await;
        assert_eq!(
            linked.code(&format!("{host}/")).await,
            Code::TlsCertificateError
        );
    }
    let other = Server::https(&authority, &["other.example"], &["h2"]).await;
    let (linked, host) = linked(&other, Some(&authority)).await;
    assert_eq!(
        linked.code(&format!("{host}/")).await,
        Code::TlsCertificateError
    );
}

#[tokio::test]
async fn what_is_no_tls_is_told_as_that() {
    let server = Server::http().await;
    let (linked, host) = linked(&server, None).await;
    assert_eq!(
        linked.code(&format!("{host}/")).await,
        Code::TlsProtocolError
    );
}

#[tokio::test]
async fn a_file_that_holds_no_authority_is_told_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.pem");
    std::fs::write(&path, "").unwrap();
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    for path in [path, directory.path().join("missing.pem")] {
        let path = path.to_str().unwrap();
        let error = linked
            .put(&[("allowed_hosts", "a.example"), ("ca_files", path)])
            .await
            .unwrap_err();
        let LinkError::Config { key, reason } = error else {
            panic!("{error}");
        };
        assert_eq!(key, "ca_files");
        assert!(reason.contains(path), "{reason}");
    }
}
