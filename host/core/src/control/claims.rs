//! What is public of everything signed in the lattice.

use super::{Answer, Asked, answer};

pub(super) fn list(asked: &Asked<'_>) -> Answer {
    let view = asked.shared.state.view();
    let claims: Vec<_> = view.claims().map(|claims| claims.to_map()).collect();
    answer(claims)
}
