//! What a component imports and exports, by the names at its top level.

use wasmparser::{Parser, Payload};

/// Most names that are kept. A component with more is no actor of anybody's.
const NAMES_MAX: usize = 10_000;

/// The names at the top level of a component.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct World {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl World {
    /// Reads the names; what is nested is passed over.
    pub(super) fn of(component: &[u8]) -> Result<Self, String> {
        let mut world = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(|error| error.to_string())? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        let import = import.map_err(|error| error.to_string())?;
                        world.imports.push(import.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        let export = export.map_err(|error| error.to_string())?;
                        world.exports.push(export.name.name.to_owned());
                    }
                }
                _ => {}
            }
            if world.imports.len() + world.exports.len() > NAMES_MAX {
                return Err(format!(
                    "it imports and exports more than {NAMES_MAX} names"
                ));
            }
        }
        world.imports.sort();
        world.exports.sort();
        Ok(world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_of_nothing_needs_nothing() {
        assert_eq!(World::of(b"\0asm\x0d\0\x01\0"), Ok(World::default()));
    }

    #[test]
    fn what_is_cut_short_is_said() {
        assert!(World::of(b"\0asm\x0d\0\x01\0\x0b\x7f").is_err());
        assert!(World::of(b"not wasm at all").is_err());
    }
}
