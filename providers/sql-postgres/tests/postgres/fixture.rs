//! A server for all tests that do not harm it, and the provider with one link.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use trellis_provider_sdk::Provider;
use trellis_provider_sdk::harness::{Harness, ProviderCaller};
use trellis_sql_postgres::Factory;
use trellis_sql_postgres::wit::types::{PgValue, QueryError, ResultRow};
use trellis_sql_postgres::wit::{prepared, query};
use trellis_test_backends::Postgres;

/// The server that tests of this binary share while any of them runs.
pub(crate) fn shared() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(postgres) = shared.upgrade() {
        return postgres;
    }
    let postgres = Arc::new(Postgres::start().unwrap());
    *shared = Arc::downgrade(&postgres);
    postgres
}

/// The provider, and how to give it links.
pub(crate) struct Fixture {
    pub(crate) harness: Harness,
    pub(crate) provider: Arc<dyn Provider>,
    port: u16,
    password: String,
}

impl Fixture {
    /// With a link of the actor `app`.
    pub(crate) async fn linked<'a>(
        postgres: &Postgres,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let fixture = Self::at(postgres.port(), postgres.password()).await;
        fixture.link("app", config, 1).await;
        fixture
    }

    pub(crate) async fn at(port: u16, password: &str) -> Self {
        let harness = Harness::new("sql");
        let provider = harness.start(&Factory).await.unwrap();
        Self {
            harness,
            provider,
            port,
            password: password.to_owned(),
        }
    }

    pub(crate) async fn link<'a>(
        &self,
        actor: &str,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) {
        let port = self.port.to_string();
        let server = [
            ("POSTGRES_HOST", "127.0.0.1"),
            ("POSTGRES_PORT", &port),
            ("POSTGRES_USERNAME", "postgres"),
            ("POSTGRES_PASSWORD", &self.password),
        ];
        // The same pairs for a shorter time, so that those of this function can stand beside them.
        let given: Vec<(&str, &str)> = config.into_iter().collect();
        let config = server.into_iter().chain(given.iter().copied());
        let interfaces = &["query", "prepared"];
        let mut link = self
            .harness
            .link_from(actor, "wasmcloud:postgres", interfaces, config);
        link.generation = generation;
        self.provider.link_put(link).await.unwrap();
    }

    pub(crate) fn caller(&self, actor: &str) -> ProviderCaller {
        self.harness.caller(&self.provider, actor)
    }

    pub(crate) fn client(&self) -> query::Client<ProviderCaller> {
        query::Client(self.caller("app"))
    }

    pub(crate) fn client_of(&self, actor: &str) -> query::Client<ProviderCaller> {
        query::Client(self.caller(actor))
    }

    pub(crate) fn prepared(&self) -> prepared::Client<ProviderCaller> {
        prepared::Client(self.caller("app"))
    }

    pub(crate) fn within(&self, within: Duration) -> query::Client<ProviderCaller> {
        query::Client(self.caller("app").within(within))
    }

    /// Runs a statement that works.
    pub(crate) async fn rows(&self, sql: &str, params: &[PgValue]) -> Vec<ResultRow> {
        self.client().query(sql, params).await.unwrap().unwrap()
    }

    /// The one value of a statement that works.
    pub(crate) async fn value(&self, sql: &str, params: &[PgValue]) -> PgValue {
        let mut rows = self.rows(sql, params).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
        rows.remove(0).remove(0).value
    }
}

pub(crate) fn invalid_query<T: Debug>(answer: Result<T, QueryError>) -> String {
    match answer {
        Err(QueryError::InvalidQuery(text)) => text,
        answer => panic!("expected an invalid query, got {answer:?}"),
    }
}

pub(crate) fn invalid_params<T: Debug>(answer: Result<T, QueryError>) -> String {
    match answer {
        Err(QueryError::InvalidParams(text)) => text,
        answer => panic!("expected invalid parameters, got {answer:?}"),
    }
}

pub(crate) fn unexpected<T: Debug>(answer: Result<T, QueryError>) -> String {
    match answer {
        Err(QueryError::Unexpected(text)) => text,
        answer => panic!("expected something unexpected, got {answer:?}"),
    }
}

pub(crate) fn text(text: &str) -> PgValue {
    PgValue::Text(text.to_owned())
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
