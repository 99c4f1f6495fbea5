//! Names that Rust would stumble over, types from interfaces that are not listed, and every kind of function.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use client::{Bytes, ClientInterface, Crate, Many, Nothing, Record, Share, Unit, Wide};
use trellis_protocol::value::{ByteList, NestedOption};
use trellis_provider_sdk::harness::Harness;
use trellis_provider_sdk::{Call, Link, LinkEnd, LinkError, LinkKey, Provider, Refusal};

trellis_provider_sdk::interfaces!({
    path: ["tests/wit/names.wit"],
    interfaces: ["test:names/client@1.2.3"],
});

struct Echo;

#[trellis_provider_sdk::__macro::async_trait]
impl ClientInterface for Echo {
    async fn new_box(&self, _: &Call, size: u64) -> Result<client::Box_, Refusal> {
        Ok(client::Box_(size))
    }

    async fn box_make(&self, _: &Call, call_: String) -> Result<client::Box_, Refusal> {
        Ok(client::Box_(call_.len() as u64))
    }

    async fn box_clone(&self, _: &Call, self_: client::Box_) -> Result<client::Box_, Refusal> {
        Ok(self_)
    }

    async fn box_type(&self, _: &Call, _: client::Box_, self2: Many) -> Result<Bytes, Refusal> {
        Ok(ByteList(vec![self2.len() as u8]))
    }

    async fn new(&self, _: &Call, _: client::Client, provider: Record) -> Result<Record, Refusal> {
        Ok(provider)
    }

    async fn r#async(
        &self,
        _: &Call,
        share: Share,
        unit: Unit,
        nothing: Nothing,
    ) -> Result<(Share, Unit, Nothing), Refusal> {
        Ok((share, unit, nothing))
    }

    async fn dispatch(
        &self,
        _: &Call,
        _: client::Box_,
        crate_: Crate,
        wide: Wide,
    ) -> Result<Result<Many, Crate>, Refusal> {
        Ok(match wide == Wide::all() {
            true => Ok(vec![NestedOption(Some(None)), NestedOption(None)]),
            false => Err(crate_),
        })
    }

    async fn drop_box(&self, _: &Call, _: client::Box_) -> Result<(), Refusal> {
        Ok(())
    }
}

#[trellis_provider_sdk::__macro::async_trait]
impl Provider for Echo {
    async fn link_put(&self, _: Link) -> Result<(), LinkError> {
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

    async fn invoke(&self, call: Call) -> Result<bytes::Bytes, Refusal> {
        client::dispatch(self, &call).await
    }

    async fn shutdown(&self, _: std::time::Duration) {}
}

#[tokio::test]
async fn every_function_is_reached_whatever_its_name() {
    let provider: std::sync::Arc<dyn Provider> = std::sync::Arc::new(Echo);
    // The type `client` has taken the names of the trait and of the client.
    let client = client::ClientProxy(Harness::new("echo").caller(&provider, "app"));
    let seven = client.new_box(7).await.unwrap();
    assert_eq!(seven, client::Box_(7));
    assert_eq!(client.box_make("abc").await.unwrap(), client::Box_(3));
    assert_eq!(client.box_clone(seven).await.unwrap(), seven);
    let many = [
        NestedOption(None),
        NestedOption(Some(Some(ByteList::default()))),
    ];
    assert_eq!(
        client.box_type(seven, &many).await.unwrap(),
        ByteList(vec![2])
    );
    let record = Record {
        r#type: 1,
        self_: Some("s".to_owned()),
        ratio: 0.5,
    };
    assert_eq!(client.new("c", &record).await.unwrap(), record);
    let share = (0.25, -1);
    let unit = Unit { symbol: 'm' };
    assert_eq!(
        client.r#async(&share, &unit, &Nothing {}).await.unwrap(),
        (share, unit, Nothing {})
    );
    assert_eq!(
        client
            .dispatch(seven, Crate::Self_, Wide::B31 | Wide::B00)
            .await
            .unwrap(),
        Err(Crate::Self_)
    );
    assert_eq!(
        client
            .dispatch(seven, Crate::TwoWords, Wide::all())
            .await
            .unwrap(),
        Ok(vec![NestedOption(Some(None)), NestedOption(None)])
    );
    client.drop_box(seven).await.unwrap();
}

#[test]
fn flags_are_a_small_set() {
    let mut wide = Wide::empty();
    assert!(!wide.contains(Wide::B01));
    wide |= Wide::from_name("b01").unwrap() | Wide::B31;
    assert!(wide.contains(Wide::B01) && !wide.contains(Wide::B01 | Wide::B02));
    assert_eq!(wide.names().collect::<Vec<_>>(), ["b01", "b31"]);
    assert_eq!(format!("{wide:?}"), r#"{"b01", "b31"}"#);
    assert_eq!(Wide::from_name("b32"), None);
}
