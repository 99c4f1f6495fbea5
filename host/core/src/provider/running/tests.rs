//! What a provider is told of its links, and which calls that lets in.

use std::sync::Mutex;

use async_trait::async_trait;
use trellis_protocol::LinkName;

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
        id: trellis_protocol::InvocationId::random(),
        source: EntityId::new("actor").unwrap(),
        target: EntityId::new("kv").unwrap(),
        operation: trellis_protocol::Operation::new("wasi:keyvalue/store@0.2.0-draft", "open"),
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
    let notes = Arc::new(Notes::default());
    let running = RunningProvider::of_built_in(
        EntityId::new("kv").unwrap(),
        Arc::clone(&notes) as Arc<dyn Provider>,
    );
    let code = |running: &RunningProvider| {
        let checked = running.check_link(0, &invocation());
        checked.err().map(|refusal| refusal.code)
    };
    assert_eq!(code(&running), Some(RefusalCode::Overloaded));
    let missing = || {
        Err(LinkError::Config {
            key: "shop".to_owned(),
            reason: "this named configuration does not exist".to_owned(),
        })
    };
    assert_eq!(running.apply(wanted(missing())).await.len(), 1);
    assert_eq!(code(&running), Some(RefusalCode::ProviderFailed));
    assert!(
        running.apply(wanted(missing())).await.is_empty(),
        "it is told once"
    );
    assert!(notes.0.lock().unwrap().is_empty());
    assert_eq!(running.apply(wanted(Ok(()))).await.len(), 1);
    assert_eq!(code(&running), None);
    assert_eq!(*notes.0.lock().unwrap(), [1]);
}
