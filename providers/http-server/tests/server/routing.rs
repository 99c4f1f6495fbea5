//! Which link answers.

use trellis_http_server::HttpServer;
use trellis_provider_sdk::{LinkError, Provider};

use crate::actors::{Answer, link, ok, refused, server};
use crate::wire::{ask, get};
use trellis_provider_sdk::{HttpRequest, OutboundCall};

/// Answers with the actor's and the link's name and the path.
async fn name(call: OutboundCall, request: HttpRequest) -> Answer {
    ok(format!(
        "{} {} {}",
        call.target,
        call.link,
        request.uri().path()
    ))
}

async fn named(config: &[(&str, &str)]) -> std::sync::Arc<HttpServer> {
    server(config, name).await
}

#[tokio::test]
async fn in_address_mode_each_link_has_its_own_address() {
    let server = named(&[]).await;
    assert_eq!(server.addresses(), []);
    server.link_put(link("a", 1, &[])).await.unwrap();
    server.link_put(link("b", 1, &[])).await.unwrap();
    for actor in ["a", "b"] {
        let address = server.address_of(&crate::actors::key(actor)).unwrap();
        assert_eq!(
            ask(address, get("/x")).await.body,
            format!("{actor} {actor} /x")
        );
    }
}

#[tokio::test]
async fn in_path_mode_the_longest_prefix_answers_and_the_path_stays() {
    let server = named(&[("routing_mode", "path")]).await;
    let address = server.addresses()[0];
    for (actor, path) in [("api", "/api"), ("deep", "/api/deep/"), ("other", "/other")] {
        server
            .link_put(link(actor, 1, &[("path", path)]))
            .await
            .unwrap();
    }
    for (path, actor) in [
        ("/api", "api"),
        ("/api/x", "api"),
        ("/api/deep", "deep"),
        ("/api/deep/x", "deep"),
        ("/other/", "other"),
    ] {
        assert_eq!(
            ask(address, get(path)).await.body,
            format!("{actor} {actor} {path}")
        );
    }
    for path in ["/apix", "/", "/ap", "/API"] {
        let reply = ask(address, get(path)).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (404, "no-such-route"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn in_path_mode_a_slash_takes_what_nobody_else_wants() {
    let server = named(&[("routing_mode", "path")]).await;
    server
        .link_put(link("all", 1, &[("path", "/")]))
        .await
        .unwrap();
    server
        .link_put(link("api", 1, &[("path", "/api")]))
        .await
        .unwrap();
    assert_eq!(
        ask(server.addresses()[0], get("/apix")).await.body,
        "all all /apix"
    );
    assert_eq!(
        ask(server.addresses()[0], get("/api?q")).await.body,
        "api api /api"
    );
}

#[tokio::test]
async fn in_host_mode_names_are_compared_without_case_and_port() {
    let server = named(&[("routing_mode", "host")]).await;
    server
        .link_put(link("a", 1, &[("host", "A.example")]))
        .await
        .unwrap();
    server
        .link_put(link("b", 1, &[("host", "b.example")]))
        .await
        .unwrap();
    let address = server.addresses()[0];
    for (host, status) in [
        ("a.example", 200),
        ("a.EXAMPLE:8000", 200),
        ("a.example.", 200),
        ("c.example", 404),
        ("xa.example", 404),
    ] {
        let reply = ask(address, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(reply.status, status, "{host}");
    }
    let reply = ask(
        address,
        "GET http://b.example/ HTTP/1.1\r\nhost: a.example\r\n\r\n",
    )
    .await;
    assert_eq!(reply.body, "b b /");
}

#[tokio::test]
async fn in_host_mode_another_field_can_hold_the_name() {
    let server = named(&[("routing_mode", "host"), ("header", "x-forwarded-host")]).await;
    server
        .link_put(link("a", 1, &[("host", "a.example")]))
        .await
        .unwrap();
    let address = server.addresses()[0];
    let with = "GET / HTTP/1.1\r\nhost: proxy\r\nx-forwarded-host: A.example:443\r\n\r\n";
    assert_eq!(ask(address, with).await.status, 200);
    let without = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
    assert_eq!(ask(address, without).await.status, 404);
}

#[tokio::test]
async fn two_links_cannot_have_the_same_path_host_or_address() {
    for (mode, key, value) in [("path", "path", "/a"), ("host", "host", "a")] {
        let server = named(&[("routing_mode", mode)]).await;
        server
            .link_put(link("a", 1, &[(key, value)]))
            .await
            .unwrap();
        let error = refused(&server, link("b", 1, &[(key, value)])).await;
        assert!(
            matches!(&error, LinkError::Conflict { holder, resource } if holder.as_str() == "a" && resource.contains(value)),
            "{error}"
        );
    }
    let server = named(&[]).await;
    server.link_put(link("a", 1, &[])).await.unwrap();
    let taken = server.addresses()[0];
    for wanted in [taken.to_string(), format!("0.0.0.0:{}", taken.port())] {
        let error = refused(&server, link("b", 1, &[("address", &wanted)])).await;
        assert!(
            matches!(&error, LinkError::Conflict { holder, .. } if holder.as_str() == "a"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_address_that_another_program_has_is_refused_in_words() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let server = named(&[]).await;
    let error = refused(&server, link("a", 1, &[("address", &taken)])).await;
    assert_eq!(
        error.to_string(),
        format!("backend: {taken} is in use by another program")
    );
}

#[tokio::test]
async fn an_unknown_key_of_a_link_is_a_mistake() {
    let server = named(&[]).await;
    let error = refused(&server, link("a", 1, &[("adress", "127.0.0.1:0")])).await;
    assert!(
        matches!(&error, LinkError::Config { key, .. } if key == "adress"),
        "{error}"
    );
    assert!(error.to_string().contains("address"), "{error}");
}
