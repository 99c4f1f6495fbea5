//! What a provider is told of its links, and which calls that lets in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{InvocationId, Lease, LinkName, Operation};

use super::*;

/// Notes the generations of the links that it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<u64>>);

#[async_trait]
impl Provider for Notes {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        self.0.lock().unwrap().push(link.generation);
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

    async fn shutdown(&self, _: Duration) {}
}

fn wanted(usable: Result<(), LinkError>) -> HashMap<LinkPlace, WantedLink> {
    let key = LinkKey {
        source_id: EntityId::new("actor").unwrap(),
        name: LinkName::default(),
        wit_namespace: "wasi".to_owned(),
        wit_package: "keyvalue".to_owned(),
    };
    let link = Link {
        key: key.clone(),
        target: EntityId::new("kv").unwrap(),
        interfaces: vec!["wasi:keyvalue/store".to_owned()],
        end: LinkEnd::Target,
        config: BTreeMap::new(),
        generation: 1,
    };
    let place = LinkPlace {
        key,
        end: End::Target,
        target: link.target.clone(),
    };
    [(place, WantedLink { link, usable })].into()
}

fn invocation() -> Invocation {
    Invocation {
        id: InvocationId::random(),
        source: EntityId::new("actor").unwrap(),
        target: EntityId::new("kv").unwrap(),
        operation: Operation::new("wasi:keyvalue/store@0.2.0-draft", "open"),
        link: LinkName::default(),
        deadline: Instant::now() + Duration::from_secs(1),
        depth: 1,
        type_hash: 0,
        idempotent: false,
        lease: Lease {
            host: Arc::from("N"),
            instance: 1,
        },
        chain: Arc::default(),
        traceparent: None,
        cancel: CancellationToken::new(),
        payload: Bytes::new(),
    }
}

#[tokio::test]
async fn a_link_whose_configuration_is_missing_is_refused_by_that_reason_until_it_is_there() {
    let notes = Notes::default();
    let table = LinkTable::new(EntityId::new("kv").unwrap());
    let code = || {
        let checked = table.check(0, &invocation());
        checked.err().map(|refusal| refusal.code)
    };
    let apply = |usable| table.apply(&notes, 0, wanted(usable));
    assert_eq!(code(), Some(RefusalCode::Overloaded));
    let missing = || {
        Err(LinkError::Config {
            key: "shop".to_owned(),
            reason: "this named configuration does not exist".to_owned(),
        })
    };
    assert_eq!(apply(missing()).await.len(), 1);
    assert_eq!(code(), Some(RefusalCode::ProviderFailed));
    assert!(apply(missing()).await.is_empty(), "it is told once");
    assert!(notes.0.lock().unwrap().is_empty());
    assert_eq!(apply(Ok(())).await.len(), 1);
    assert_eq!(code(), None);
    assert_eq!(*notes.0.lock().unwrap(), [1]);
}
