//! Two or more hosts over a real nats-server: calls, streams, endings, and every attack that the front page names.

mod attacks;
mod by_hand;
mod calls;
mod endings;
mod fixture;
mod halfway;
mod handler;
mod knocks;
mod rosters;
mod streams;
