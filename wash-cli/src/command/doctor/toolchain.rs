//! What builds actors: cargo, and the standard library for the target.

use crate::artifact::{self, TARGET, Toolchain};

use super::finding::Findings;

const CHECK: &str = "toolchain.target";

pub(super) fn look(findings: &mut Findings) {
    match artifact::toolchain() {
        Toolchain::Ready { version } => {
            findings.ok(CHECK, format!("{version} builds for {TARGET}"));
        }
        Toolchain::TargetMissing { version } => findings.broken(
            CHECK,
            format!("{version} has no standard library for {TARGET}, so actors cannot be built"),
            artifact::TARGET_REMEDY,
        ),
        Toolchain::Missing => findings.warning(
            CHECK,
            "no Rust compiler can be run, so `wash build` can only sign what is built already",
            "install Rust from https://rustup.rs, then `rustup target add wasm32-wasip2`; or write actors in another language",
        ),
    }
}
