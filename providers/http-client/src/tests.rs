//! The provider against real servers on this machine, through the SDK's harness.

mod destination;
mod fault;
mod pool;
mod server;
mod stream;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use trellis_provider_sdk::harness::{Harness, ProviderCaller};
use trellis_provider_sdk::http::empty;
use trellis_provider_sdk::{
    HttpRequest, HttpResponse, LinkError, OutgoingError, OutgoingErrorCode, Provider,
    ProviderFactory, ProviderSetup, StartError,
};

use crate::provider::HttpClient;
use crate::resolve::{Resolver, SystemResolver};

/// Each name's answers: one for each look-up, the last one for all that follow.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Names {
    fn of(names: &[(&str, &[&str])]) -> Arc<Self> {
        let answers = |texts: &[&str]| {
            let answer = |text: &str| text.split(' ').map(|a| a.parse().unwrap()).collect();
            texts.iter().rev().map(|text| answer(text)).collect()
        };
        let names = names
            .iter()
            .map(|(name, a)| ((*name).to_owned(), answers(a)));
        Arc::new(Self(Mutex::new(names.collect())))
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let answer = answers.last().cloned().unwrap_or_default();
        if answers.len() > 1 {
            answers.pop();
        }
        Ok(answer)
    }
}

/// Starts the provider with another resolver.
struct Resolving(Arc<dyn Resolver>);

#[async_trait]
impl ProviderFactory for Resolving {
    fn name(&self) -> &'static str {
        "http-client"
    }

    fn serves(&self) -> &'static [&'static str] {
        crate::Factory.serves()
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        Ok(Arc::new(
            HttpClient::start(&setup, Arc::clone(&self.0)).await?,
        ))
    }
}

/// A provider with one link of the actor `app`.
struct Linked {
    harness: Harness,
    provider: Arc<dyn Provider>,
}

impl Linked {
    async fn new(config: &[(&str, &str)]) -> Self {
        Self::resolving(Arc::new(SystemResolver::new()), config).await
    }

    async fn resolving(resolver: Arc<dyn Resolver>, config: &[(&str, &str)]) -> Self {
        let harness = Harness::new("out");
        let provider = harness.start(&Resolving(resolver)).await.unwrap();
        let linked = Self { harness, provider };
        linked.put(config).await.unwrap();
        linked
    }

    /// A link to servers on this machine, by whatever method.
    async fn local(port: u16) -> Self {
        Self::local_with(port, &[]).await
    }

    async fn local_with(port: u16, more: &[(&str, &str)]) -> Self {
        let host = format!("http://127.0.0.1:{port}");
        let config = [
            &[
                ("allowed_hosts", host.as_str()),
                ("allowed_addresses", "127.0.0.1"),
                ("allowed_methods", "*"),
            ],
            more,
        ]
        .concat();
        Self::new(&config).await
    }

    async fn put(&self, config: &[(&str, &str)]) -> Result<(), LinkError> {
        let config = config.iter().copied();
        let link = self
            .harness
            .link_from("app", "wasi:http", &["outgoing-handler"], config);
        self.provider.link_put(link).await
    }

    fn caller(&self) -> ProviderCaller {
        self.harness.caller(&self.provider, "app")
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OutgoingError> {
        OutgoingError::check(self.caller().http(request).await.unwrap())
    }

    async fn get(&self, uri: &str) -> Result<HttpResponse, OutgoingError> {
        self.send(get(uri)).await
    }

    /// The code of a request that must fail.
    async fn code(&self, uri: &str) -> OutgoingErrorCode {
        match self.get(uri).await {
            Ok(response) => panic!("{uri} was answered with {}", response.status()),
            Err(error) => error.code,
        }
    }
}

fn get(uri: &str) -> HttpRequest {
    http::Request::get(uri).body(empty()).unwrap()
}

async fn text(response: HttpResponse) -> String {
    String::from_utf8(bytes(response).await.to_vec()).unwrap()
}

async fn bytes(response: HttpResponse) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Waits until something holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "{what}");
}
