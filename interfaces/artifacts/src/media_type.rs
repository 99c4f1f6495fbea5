//! Media types of layers and configurations in registries.

use crate::kind::Kind;

/// A component, as the CNCF's guidance for WebAssembly artifacts has it. What is pushed.
pub const WASM: &str = "application/wasm";

/// A component, as wasmCloud 1.x pushes it.
pub const WASM_CONTENT_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

/// A layer of an image. wasmCloud 1.x pushed components and archives of providers under this name.
pub const IMAGE_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// An archive of a provider, see [`crate::archive`].
pub const PROVIDER_ARCHIVE: &str = "application/vnd.trellis.provider.archive.v1+tar";

/// The configuration that goes with a component.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The configuration that goes with an archive of a provider.
pub const PROVIDER_CONFIG: &str = "application/vnd.trellis.provider.config.v1+json";

/// An executable as it stands, from a file.
pub const EXECUTABLE: &str = "application/x-executable";

/// The media types of layers that are taken for artifacts of a kind, the best first.
#[must_use]
pub const fn accepted(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Component => &[WASM, WASM_CONTENT_LAYER, IMAGE_LAYER_TAR],
        Kind::Provider => &[PROVIDER_ARCHIVE, IMAGE_LAYER_TAR],
    }
}
