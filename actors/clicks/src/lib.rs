//! Counts clicks that messages tell of: the other half of `shortlink`, which publishes one for each redirect.
//!
//! A message comes in at `component`, which knows the generated bindings; `click` reads what it says and `tally` counts
//! it in a key-value store. A request comes in there too, and `page` finds what to answer. Everything but `component`
//! knows the store as a trait and runs natively in tests.

mod click;
mod component;
mod page;
mod tally;
