//! A link shortener, written the way a user of the lattice would write it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | 200, what this is, as JSON |
//! | `POST /links` with `{"url": "https://…"}` | 201, `Location`, `{"code", "url", "short_url"?}` |
//! | `GET /<code>` | 302 to the URL, and one more click |
//! | `GET /<code>/stats` | 200, `{"code", "url", "clicks"}` |
//!
//! A click is told to whoever listens, as a message on `shortlink.clicks` (see `click`). Nobody waits for that to succeed:
//! without a link for messages, or with a broker that is away, the redirect is as it would be.
//!
//! Every refusal is a problem document (RFC 9457). A capability that is refused or fails is a 503 whose `detail` holds
//! the reason in the words of whoever refused, so that the operator who tries it sees what to change.
//!
//! A request comes in at `component`, which knows the generated bindings, and goes to `service` with a `World`: the
//! imports as a trait, so that everything but `component` runs natively in tests. `service` finds the route, reads the
//! body where there should be one, asks `links` and turns what it says into a `Reply`.

mod body;
mod click;
mod code;
mod component;
#[cfg(test)]
mod fake;
mod links;
mod problem;
mod reply;
mod route;
mod service;
mod settings;
mod submission;
mod url;
mod world;
