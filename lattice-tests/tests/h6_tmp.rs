#![expect(missing_docs, reason = "temporary")]
mod lattice {
    mod wash;
}
