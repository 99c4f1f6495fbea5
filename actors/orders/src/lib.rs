//! A small shop: orders are taken as long as there is stock, and never beyond it.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /orders` with `{"item", "quantity", "key"?}` | 201, `Location`, the order; 200 where the key was used for it before; 409 with what is left |
//! | `GET /orders?after=<id>&limit=<n>` | 200, `{"orders": […], "next": <id> or null}` |
//! | `GET /orders/<id>` | 200, the order |
//! | `POST /stock` with `{"item", "quantity"}` | 200, `{"item", "quantity"}` as it is now |
//! | `GET /stock/<item>` | 200, the same |
//!
//! Every refusal is a problem document (RFC 9457). A database that is away is a 503 whose `detail` holds the reason in
//! the words of whoever refused.
//!
//! A request comes in at `component`, which knows the generated bindings, and goes to `service` with a `World`: the
//! imports as a trait, so that everything but `component` runs natively in tests. `service` finds the route, reads the
//! body where there should be one, asks `shop` and turns what it says into a `Reply`. All SQL stands in `shop`, and
//! what clients send reaches it as parameters alone.

mod body;
mod component;
#[cfg(test)]
mod fake;
mod problem;
mod reply;
mod request;
mod route;
mod service;
mod shop;
mod world;
