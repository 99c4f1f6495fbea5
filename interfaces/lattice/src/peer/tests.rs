//! Two or more hosts over a real nats-server: calls, streams, endings, and every attack that the front page names.

mod attacks;
mod calls;
mod endings;
mod fixture;
mod handler;
mod rosters;
mod streams;
