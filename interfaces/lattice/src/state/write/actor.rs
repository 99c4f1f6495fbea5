//! What the state holds of an actor, written in one go: whose its id is, where it came from, and its public claims.
//!
//! Most starts are of an actor that the state knows already, and change nothing. Three questions to the leader at once
//! find that out in the time of one; only what differs is then written.

use serde_json::{Map, Value};
use trellis_protocol::EntityId;
use trellis_protocol::control::PublicClaims;
use trellis_protocol::subject::{claims_key, component_key, token_key};

use super::super::bucket::{self, Bucket, Read};
use super::super::content::Holder;
use super::super::{LatticeState, WRITE_TIMEOUT};
use super::{WriteError, encode};

impl LatticeState {
    /// Takes an id for an actor's subject key, or keeps it, and puts its token, its reference and its public claims.
    ///
    /// The id is taken before anything else is written, so an actor that may not have it changes nothing. When this
    /// returns, all of it was with the leader.
    ///
    /// # Errors
    /// As [`Self::put_token`], [`Self::put_component_url`] and [`Self::put_claims`].
    pub async fn put_actor(
        &self,
        id: &EntityId,
        url: &str,
        token: &str,
        claims: &PublicClaims,
    ) -> Result<(), WriteError> {
        // The copy only says whether asking is worth while: it may lag behind.
        let is_known = self.view().token(id) == Some(token);
        if is_known && self.holds_actor(id, url, token, claims).await {
            return Ok(());
        }
        self.put_token(id, &claims.subject, Some(token)).await?;
        // Neither is dropped halfway because the other failed.
        let (url, claims) = tokio::join!(self.put_component_url(id, url), self.put_claims(claims));
        url?;
        claims?;
        Ok(())
    }

    /// Whether the leader has exactly this. Where it cannot be asked, writing will say why.
    async fn holds_actor(
        &self,
        id: &EntityId,
        url: &str,
        token: &str,
        claims: &PublicClaims,
    ) -> bool {
        let (token_key, url_key) = (token_key(id), component_key(id));
        let claims_key = claims_key(&claims.subject);
        let reading = async {
            let data = self.store(Bucket::LatticeData);
            tokio::try_join!(
                bucket::read(self.store(Bucket::Trellis), &token_key),
                bucket::read(data, &url_key),
                bucket::read(data, &claims_key),
            )
        };
        let Ok(Ok((held, source, public))) = tokio::time::timeout(WRITE_TIMEOUT, reading).await
        else {
            return false;
        };
        let holder = Holder {
            subject: claims.subject.clone(),
            token: Some(token.to_owned()),
        };
        let (Ok(holder), Ok(claims)) = (encode(&token_key, &holder), encode(&claims_key, claims))
        else {
            return false;
        };
        is(&held, &holder) && is(&public, &claims) && is_from(&source, url)
    }
}

fn is(read: &Read, wanted: &[u8]) -> bool {
    read.value.as_deref() == Some(wanted)
}

/// Whether the value of a `COMPONENT_…` key names this reference, whatever else stands in it.
fn is_from(read: &Read, url: &str) -> bool {
    let source = read.value.as_deref().map(serde_json::from_slice);
    matches!(source, Some(Ok::<Map<String, Value>, _>(source))
        if source.get("url").and_then(Value::as_str) == Some(url))
}
