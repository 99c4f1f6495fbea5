//! `trellis-keyvalue-redis`: the provider as a process of its own, started by a host.

use std::process::ExitCode;

fn main() -> ExitCode {
    trellis_provider_sdk::process::main(trellis_keyvalue_redis::Factory)
}
