//! A world for tests: a store in memory, a code maker that follows orders, and a record of what was logged.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::{Bucket, CodeRefusal, LogLevel, MadeCode, StoreError, World};

/// What happens while the actor pauses: a place for other writers to act.
type Meanwhile = Box<dyn Fn(&FakeWorld)>;

type Maker = Box<dyn Fn(&str, Option<u8>, u32) -> Result<MadeCode, CodeRefusal>>;

/// Values and counters are apart, as they are for a store that writes numbers its own way.
pub(crate) struct FakeWorld {
    pub(crate) values: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(crate) counters: RefCell<BTreeMap<String, u64>>,
    pub(crate) config: Result<BTreeMap<&'static str, &'static str>, String>,
    pub(crate) maker: Maker,
    pub(crate) refusing: Option<&'static str>,
    pub(crate) meanwhile: Option<Meanwhile>,
    pub(crate) published: RefCell<Vec<(String, String)>>,
    pub(crate) broker: Result<(), String>,
    pub(crate) pauses: Cell<u32>,
    pub(crate) logged: RefCell<Vec<(LogLevel, String)>>,
}

impl FakeWorld {
    /// A world whose code maker makes `code0`, `code1`, … for each URL alike, so that URLs collide.
    pub(crate) fn new() -> Self {
        Self {
            values: RefCell::default(),
            counters: RefCell::default(),
            config: Ok(BTreeMap::new()),
            maker: Box::new(|_, _, attempt| Ok(made(&format!("code{attempt}")))),
            refusing: None,
            meanwhile: None,
            published: RefCell::default(),
            broker: Ok(()),
            pauses: Cell::new(0),
            logged: RefCell::default(),
        }
    }

    /// The same world, with a link.
    pub(crate) fn with_link(self, code: &str, url: &str) -> Self {
        self.put_link(code, url);
        self
    }

    /// Writes a link past the actor.
    pub(crate) fn put_link(&self, code: &str, url: &str) {
        self.values
            .borrow_mut()
            .insert(format!("link.{code}"), url.as_bytes().to_vec());
    }

    fn permit(&self, operation: &'static str) -> Result<(), StoreError> {
        match self.refusing {
            Some(reason) => Err(StoreError {
                operation,
                reason: reason.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// What a code maker sends for `text`.
pub(crate) fn made(text: &str) -> MadeCode {
    MadeCode {
        text: text.to_owned(),
        fingerprint: vec![0xab; 32],
    }
}

/// The bucket of a fake world, which shares its values.
pub(crate) struct FakeBucket<'a>(&'a FakeWorld);

impl<'a> World for &'a FakeWorld {
    type Bucket = FakeBucket<'a>;

    fn open(&self) -> Result<FakeBucket<'a>, StoreError> {
        self.permit("open the bucket")?;
        Ok(FakeBucket(self))
    }

    fn make_code(
        &self,
        url: &str,
        length: Option<u8>,
        attempt: u32,
    ) -> Result<MadeCode, CodeRefusal> {
        (self.maker)(url, length, attempt)
    }

    fn config(&self, key: &str) -> Result<Option<String>, String> {
        let config = self.config.as_ref().map_err(Clone::clone)?;
        Ok(config.get(key).map(|value| (*value).to_owned()))
    }

    fn publish(&self, subject: &str, body: Vec<u8>) -> Result<(), String> {
        self.broker.clone()?;
        let body = String::from_utf8(body).map_err(|error| error.to_string())?;
        self.published.borrow_mut().push((subject.to_owned(), body));
        Ok(())
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.logged.borrow_mut().push((level, message.to_owned()));
    }

    fn pause(&self, _: Duration) {
        self.pauses.set(self.pauses.get() + 1);
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile(self);
        }
    }
}

impl Bucket for FakeBucket<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.values.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.0
            .values
            .borrow_mut()
            .insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn increment(&self, key: &str, delta: u64) -> Result<u64, StoreError> {
        let mut counters = self.0.counters.borrow_mut();
        let counter = counters.entry(key.to_owned()).or_default();
        *counter += delta;
        Ok(*counter)
    }
}
