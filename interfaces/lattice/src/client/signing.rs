//! Signing what operators ask: each command, and each link that they put or delete (D1).
//!
//! Questions are not signed, since every host answers them; see [`is_question`]. A client without a signer sends what any
//! tool of the control interface sends.

use std::time::SystemTime;

use async_nats::HeaderMap;
use trellis_claims::{CommandSigner, LinkStatement, PublicKey};
use trellis_protocol::Link;
use trellis_protocol::control::proof::{SIGNATURE_HEADER, is_question};
use trellis_protocol::control::{DeleteLink, LinkProof, ListedLink, SignedDeletion, SignedLink};

use super::{ClientError, ControlClient, TRACEPARENT, To};

impl ControlClient {
    /// Signs every command, and every link that it puts or deletes.
    #[must_use]
    pub fn with_signer(mut self, signer: Option<CommandSigner>) -> Self {
        self.signer = signer;
        self
    }

    /// In whose name it signs, where it does.
    #[must_use]
    pub fn account(&self) -> Option<&PublicKey> {
        self.signer.as_ref().map(CommandSigner::account)
    }

    /// Puts a link, signed where this client has a signer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_link(&self, link: &Link) -> Result<String, ClientError> {
        let signed = SignedLink {
            link: link.clone(),
            proof: self.prove("link put", &link.statement())?,
        };
        self.command(To::Any, "link", "put", &signed).await
    }

    /// Deletes a link, signed where this client has a signer. Deleting one that is not there succeeds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn del_link(&self, link: &DeleteLink) -> Result<String, ClientError> {
        let signed = SignedDeletion {
            key: link.clone(),
            proof: self.prove("link del", &link.deletion())?,
        };
        self.command(To::Any, "link", "del", &signed).await
    }

    /// The lattice's links, and of each whether the host that answers believes its signature.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn listed_links(&self) -> Result<Vec<ListedLink>, ClientError> {
        self.answer(To::Any, "link", "get", Vec::new()).await
    }

    fn prove(
        &self,
        request: &str,
        statement: &LinkStatement,
    ) -> Result<Option<LinkProof>, ClientError> {
        let Some(signer) = &self.signer else {
            return Ok(None);
        };
        let lattice = self.subjects.lattice().as_str();
        let signature = signer
            .sign_link(lattice, statement, SystemTime::now())
            .map_err(|source| unsigned(request, source))?;
        Ok(Some(LinkProof { signature }))
    }

    /// The headers of a request: trace context, and the signature of a command.
    pub(super) fn headers(
        &self,
        noun: &str,
        verb: &str,
        subject: &str,
        body: &[u8],
    ) -> Result<Option<HeaderMap>, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(traceparent) = self.traceparent.as_deref() {
            headers.insert(TRACEPARENT, traceparent);
        }
        if let Some(signer) = &self.signer
            && !is_question(noun, verb)
        {
            let lattice = self.subjects.lattice().as_str();
            let signature = signer
                .sign_command(lattice, subject, body, SystemTime::now())
                .map_err(|source| unsigned(&format!("{noun} {verb}"), source))?;
            headers.insert(SIGNATURE_HEADER, signature);
        }
        Ok((!headers.is_empty()).then_some(headers))
    }
}

fn unsigned(request: &str, source: trellis_claims::SignError) -> ClientError {
    ClientError::Signing {
        request: request.to_owned(),
        source,
    }
}
