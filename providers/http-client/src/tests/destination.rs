//! Where requests may go, and what arrives there.

use http_body_util::BodyExt;
use trellis_provider_sdk::http::full;
use trellis_provider_sdk::{LinkError, OutgoingErrorCode as Code, RefusalCode};

use super::server::Server;
use super::{Linked, Names, get, text};

#[tokio::test]
async fn a_request_arrives_with_the_authority_of_its_uri_and_without_what_ends_at_a_connection() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let request = http::Request::put(server.url("/a%20b?c=d"))
        .header("x-own", "1")
        .header("te", "gzip")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("trellis-http-error", "forged")
        .body(full("body"))
        .unwrap();
    let seen = text(linked.send(request).await.unwrap()).await;
    let expected = format!(
        "PUT /a%20b?c=d HTTP/1.1\nx-own: 1\nhost: 127.0.0.1:{}\ncontent-length: 4\n",
        server.port
    );
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_a_link_does_not_name_is_denied_before_anything_is_connected_to() {
    let server = Server::http().await;
    let host = format!("http://127.0.0.1:{}", server.port);
    let linked = Linked::new(&[
        ("allowed_hosts", &host),
        ("allowed_addresses", "127.0.0.1"),
        ("allowed_paths", "/head, /v1/"),
    ])
    .await;
    assert!(linked.get(&server.url("/head?x")).await.is_ok());
    for path in [
        "/",
        "/header",
        "/v1",
        "/v1/../bytes",
        "/v1/%2e%2e/bytes",
        "/v1/..%2fbytes",
    ] {
        assert_eq!(
            linked.code(&server.url(path)).await,
            Code::HttpRequestDenied,
            "{path}"
        );
    }
    let post = http::Request::post(server.url("/head"))
        .body(full(""))
        .unwrap();
    assert_eq!(
        linked.send(post).await.err().unwrap().code,
        Code::HttpRequestDenied
    );
    for uri in [
        "https://127.0.0.1/head",
        "http://127.0.0.1/head",
        "http://example.com/head",
    ] {
        assert_eq!(linked.code(uri).await, Code::HttpRequestDenied, "{uri}");
    }
    assert_eq!(
        server
            .seen
            .requests
            .load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}

#[tokio::test]
async fn the_same_address_in_another_form_is_the_same_address() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    for host in [
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
    ] {
        let uri = format!("http://{host}:{}/head", server.port);
        let seen = text(linked.get(&uri).await.unwrap()).await;
        assert!(
            seen.contains(&format!("host: 127.0.0.1:{}\n", server.port)),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn no_form_of_a_closed_address_is_connected_to() {
    let server = Server::http().await;
    let port = server.port;
    let names: &[(&str, &[&str])] = &[
        ("loopback.example", &["127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("six.example", &["::1"]),
        ("private.example", &["10.0.0.1 192.168.1.1 172.16.0.1"]),
        ("metadata.example", &["169.254.169.254"]),
        ("nat64.example", &["64:ff9b::7f00:1"]),
        ("local.example", &["fe80::1 fd00::1"]),
        ("any.example", &["0.0.0.0"]),
    ];
    let any = format!("http://*:{port}");
    let linked = Linked::resolving(Names::of(names), &[("allowed_hosts", &any)]).await;
    let literals = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[::]",
        "0.0.0.0",
        "0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "100.64.0.1",
        "224.0.0.1",
    ];
    for host in literals
        .into_iter()
        .chain(names.iter().map(|(name, _)| *name))
    {
        let uri = format!("http://{host}:{port}/");
        assert_eq!(
            linked.code(&uri).await,
            Code::DestinationIpProhibited,
            "{host}"
        );
    }
    assert_eq!(
        linked
            .code(&format!("http://unknown.example:{port}/"))
            .await,
        Code::DnsError
    );
    assert_eq!(
        server
            .seen
            .connections
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn a_name_that_changes_its_address_between_look_ups_gains_nothing() {
    let server = Server::http().await;
    // The first answer is open to the link, all later ones are not.
    let names = Names::of(&[("rebind.example", &["127.0.0.1", "127.0.0.2"])]);
    let host = format!("http://rebind.example:{}", server.port);
    let linked = Linked::resolving(
        names,
        &[
            ("allowed_hosts", &host),
            ("allowed_addresses", "127.0.0.1"),
            ("idle_connections_max", "0"),
        ],
    )
    .await;
    let uri = format!("{host}/head");
    assert!(
        linked.get(&uri).await.is_ok(),
        "what was checked is what is connected to"
    );
    assert_eq!(linked.code(&uri).await, Code::DestinationIpProhibited);
}

#[tokio::test]
async fn of_a_names_addresses_only_the_open_ones_are_tried() {
    let server = Server::http().await;
    let names = Names::of(&[("mixed.example", &["10.0.0.1 127.0.0.1 ::1"])]);
    let host = format!("http://mixed.example:{}", server.port);
    let config = [
        ("allowed_hosts", host.as_str()),
        ("allowed_addresses", "127.0.0.0/8"),
    ];
    let linked = Linked::resolving(names, &config).await;
    let seen = text(linked.get(&format!("{host}/head")).await.unwrap()).await;
    assert!(
        seen.contains(&format!("host: mixed.example:{}", server.port)),
        "{seen}"
    );
}

#[tokio::test]
async fn a_request_that_could_mean_two_things_is_refused() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let user = format!("http://user:secret@127.0.0.1:{}/", server.port);
    assert_eq!(linked.code(&user).await, Code::HttpRequestUriInvalid);
    let mut other = get(&server.url("/"));
    other
        .headers_mut()
        .insert("host", "internal.example".parse().unwrap());
    assert_eq!(
        linked.send(other).await.err().unwrap().code,
        Code::HttpProtocolError
    );
    let mut twice = get(&server.url("/"));
    for host in [
        format!("127.0.0.1:{}", server.port),
        "internal.example".to_owned(),
    ] {
        twice.headers_mut().append("host", host.parse().unwrap());
    }
    assert_eq!(
        linked.send(twice).await.err().unwrap().code,
        Code::HttpProtocolError
    );
    let connect = http::Request::connect(server.url("/"))
        .body(full(""))
        .unwrap();
    assert_eq!(
        linked.send(connect).await.err().unwrap().code,
        Code::HttpRequestMethodInvalid
    );
    for length in ["5", "+4", "4x", ""] {
        let mut request = http::Request::post(server.url("/count"))
            .body(full("body"))
            .unwrap();
        request
            .headers_mut()
            .insert("content-length", length.parse().unwrap());
        let error = linked.send(request).await.err().unwrap();
        assert_eq!(error.code, Code::HttpProtocolError, "{length}");
    }
    assert_eq!(
        server
            .seen
            .requests
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn redirects_are_the_guests_own_affair() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let response = linked.get(&server.url("/redirect")).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "/head");
}

#[tokio::test]
async fn a_server_cannot_pass_for_the_provider() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let response = linked.get(&server.url("/forged")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("x-hop").is_none());
    assert_eq!(text(response).await, "real");
}

#[tokio::test]
async fn a_link_without_hosts_is_not_taken_and_one_that_loses_them_serves_no_more() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    assert!(linked.get(&server.url("/")).await.is_ok());
    let error = linked.put(&[("allowed_methods", "*")]).await.unwrap_err();
    assert!(matches!(error, LinkError::Config { key, .. } if key == "allowed_hosts"));
    let refusal = linked
        .caller()
        .http(get(&server.url("/")))
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.code, RefusalCode::NoLink);
}

#[tokio::test]
async fn a_link_that_is_gone_takes_what_is_under_way_with_it() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let mut body = linked
        .get(&server.url("/silent"))
        .await
        .unwrap()
        .into_body();
    assert!(body.frame().await.unwrap().is_ok());
    let link = linked
        .harness
        .link_from("app", "wasi:http", &["outgoing-handler"], []);
    linked.provider.link_delete(&link.key, link.end).await;
    assert!(body.frame().await.unwrap().is_err());
    let refusal = linked
        .caller()
        .http(get(&server.url("/")))
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.code, RefusalCode::NoLink);
}

#[tokio::test]
async fn another_actor_and_another_link_of_the_same_actor_have_rules_of_their_own() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let other = linked.harness.caller(&linked.provider, "other");
    assert_eq!(
        other.http(get(&server.url("/"))).await.err().unwrap().code,
        RefusalCode::NoLink
    );
    let backup = linked.caller().by_link("backup");
    assert_eq!(
        backup.http(get(&server.url("/"))).await.err().unwrap().code,
        RefusalCode::NoLink
    );
}
