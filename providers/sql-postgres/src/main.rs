//! `trellis-sql-postgres`: the provider as a process of its own, started by a host.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The process's one implementation of TLS's cryptography. An error would say that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    trellis_provider_sdk::process::main(trellis_sql_postgres::Factory)
}
