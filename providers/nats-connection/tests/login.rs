//! Logins against a real nats-server: the client library reads none from a URL, so this crate has to hand them over.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use tempfile::TempDir;
use trellis_nats_connection::Server;
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};

fn start(config: &str) -> (Running, TempDir) {
    let explicit = explicit_path();
    let found = locate(explicit.as_deref(), &cache_dir().unwrap()).unwrap();
    let store = TempDir::new().unwrap();
    let launch = Launch::new(&found.path, store.path())
        .without_jetstream()
        .extra_config(config);
    (launch.start().unwrap(), store)
}

async fn connects(nats: &Running, login: &str) -> bool {
    let address = nats.url().strip_prefix("nats://").unwrap();
    let uris = format!("nats://{login}{address}");
    let config = BTreeMap::from([("cluster_uris".to_owned(), uris)]);
    let server = Server::read(&config).unwrap().unwrap();
    let options = server.options("a test").unwrap();
    match options.connect(server.addresses.as_slice()).await {
        Ok(client) => client.flush().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_user_and_a_password_in_the_url_are_what_the_server_gets() {
    let (nats, _store) =
        start("authorization { users = [ { user: \"u@x\", password: \"p:/w%\" } ] }");
    assert!(connects(&nats, "u%40x:p%3A%2Fw%25@").await);
    assert!(!connects(&nats, "u%40x:other@").await);
    assert!(!connects(&nats, "").await);
}

#[tokio::test]
async fn a_token_in_the_url_is_what_the_server_gets() {
    let (nats, _store) = start("authorization { token: \"t0ken\" }");
    assert!(connects(&nats, "t0ken@").await);
    assert!(!connects(&nats, "other@").await);
}
