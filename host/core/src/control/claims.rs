//! What is public of everything signed in the lattice.

use std::sync::Arc;

use trellis_lattice::state::Bucket;
use trellis_protocol::control::Envelope;

use super::config::CAUGHT_UP_WAIT;
use super::{Answer, Asked};

pub(super) fn list(asked: &Asked<'_>) -> Answer {
    let shared = Arc::clone(asked.shared);
    Answer::Later(Box::pin(async move {
        let state = &shared.state;
        state.caught_up(Bucket::LatticeData, CAUGHT_UP_WAIT).await;
        let view = state.view();
        let claims: Vec<_> = view.claims().map(|claims| claims.to_map()).collect();
        Envelope::answer(claims).to_bytes()
    }))
}
