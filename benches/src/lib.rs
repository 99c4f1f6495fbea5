//! What the programs that `cargo xtask bench` runs beside the hosts have in common.
//!
//! | program | what it is |
//! | --- | --- |
//! | `bench-load` | asks over HTTP, as fast as answers come or at a fixed rate, and measures |
//! | `bench-bare` | the floor: hyper alone, or with the bare client of a backend behind it |
//! | `bench-nats` | the floor of a call between hosts: request and reply over NATS, nothing else |
//! | `bench-control` | an operator who starts and stops actors without a process for each command |
//! | `trellis-bench-echo` | a provider that gives back what it is given, as a process |

pub mod histogram;
pub mod load;
