//! The custom section `trellis-claims`: where a component carries its token.
//!
//! ```text
//! component = preamble section*        section = id:byte size:leb128 body[size]
//! ours:       id 0, body = name_len:leb128 "trellis-claims" token
//! ```
//!
//! Exactly one such section may stand in a component, at its top level. Two of them, or one inside a nested component or
//! module, would let two readers disagree about which token counts, so both are refused. Token sections of other makers
//! are ordinary bytes: kept, and covered by the hash.
//!
//! Only the framing of sections is read here. Bodies are not decoded and nothing is validated: whether the component is
//! a valid one is for the engine to say, after its claims have been believed. Nothing is copied but by [`embed`].

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::content_hash::ContentHash;
use crate::token::TOKEN_BYTES_MAX;

/// Name of the section that holds the token.
pub const SECTION_NAME: &str = "trellis-claims";

/// How deep components and modules may be nested in a component.
///
/// Composed components nest a few levels. The bound keeps a hostile file from exhausting the stack.
pub const NESTING_MAX: usize = 32;

const PREAMBLE_BYTES: usize = 8;
const MAGIC: &[u8] = b"\0asm";
/// Version 13 of the binary format, layer 1 (component-model, `Binary.md`).
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0, 1, 0];
/// Version 1, layer 0 (WebAssembly core specification).
const MODULE_VERSION: [u8; 4] = [1, 0, 0, 0];

/// The same number at the top of a component and of a module.
const CUSTOM_SECTION: u8 = 0;
const CORE_MODULE_SECTION: u8 = 1;
const COMPONENT_SECTION: u8 = 4;

/// Why a file's sections cannot be read, or its token cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SectionError {
    /// Not WebAssembly at all.
    #[error("cannot read the component: the file does not begin with WebAssembly's magic number")]
    NotWasm,
    /// WebAssembly, but a core module.
    #[error(
        "cannot read the component: the file is a core module; build it as a component (target wasm32-wasip2) or wrap it into one"
    )]
    CoreModule,
    /// WebAssembly of another version or layer.
    #[error(
        "cannot read the component: its binary format (version and layer {version:02x?}) is not the one of components"
    )]
    UnknownFormat {
        /// The four bytes behind the magic number.
        version: [u8; 4],
    },
    /// The file ends, or a section claims more bytes than there are.
    #[error("cannot read the component: it is cut short or damaged at byte {offset}")]
    Truncated {
        /// Where the missing bytes should begin.
        offset: usize,
    },
    /// A size that is no LEB128 number of 32 bits.
    #[error("cannot read the component: the size at byte {offset} is not a 32-bit LEB128 number")]
    BadSize {
        /// Where the size begins.
        offset: usize,
    },
    /// What should be a nested component or module does not begin as one.
    #[error("cannot read the component: what is nested at byte {offset} is no component or module")]
    BadNesting {
        /// Where the nested file begins.
        offset: usize,
    },
    /// Nested deeper than [`NESTING_MAX`].
    #[error("cannot read the component: it nests more than {NESTING_MAX} levels at byte {offset}")]
    TooDeep {
        /// Where the level too many begins.
        offset: usize,
    },
    /// More than one claims section.
    #[error(
        "refused the component: it has a second section `{SECTION_NAME}` at byte {offset}, and only one can count; sign the original component again"
    )]
    Duplicate {
        /// Where the second section begins.
        offset: usize,
    },
    /// A claims section that is not at the top level.
    #[error(
        "refused the component: a section `{SECTION_NAME}` at byte {offset} belongs to something nested in it; compose from unsigned parts and sign the whole"
    )]
    Nested {
        /// Where that section begins.
        offset: usize,
    },
    /// The token is larger than any token may be.
    #[error("refused the token: it has {len} bytes, at most {TOKEN_BYTES_MAX} are accepted")]
    TokenTooLarge {
        /// Length of the token, in bytes.
        len: usize,
    },
    /// The section's content is no text.
    #[error(
        "cannot read the token in section `{SECTION_NAME}`: it is not text; sign the component again"
    )]
    NotText,
}

impl SectionError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotWasm => "component-not-wasm",
            Self::CoreModule => "component-is-core-module",
            Self::UnknownFormat { .. } => "component-unknown-format",
            Self::Truncated { .. } => "component-truncated",
            Self::BadSize { .. } => "component-bad-size",
            Self::BadNesting { .. } => "component-bad-nesting",
            Self::TooDeep { .. } => "component-too-deep",
            Self::Duplicate { .. } => "claims-duplicate-section",
            Self::Nested { .. } => "claims-nested-section",
            Self::TokenTooLarge { .. } => "claims-token-too-large",
            Self::NotText => "claims-not-text",
        }
    }
}

/// The component with `token` as its only claims; one that it already has is replaced.
///
/// The token is not looked at: see [`NewActorToken::sign`](crate::NewActorToken::sign) for making one.
///
/// # Errors
/// [`SectionError`] if the component cannot be read, has more than one claims section, or the token is too large.
pub fn embed(component: &[u8], token: &str) -> Result<Vec<u8>, SectionError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(SectionError::TokenTooLarge { len: token.len() });
    }
    let Parts { before, after, .. } = Parts::of(component)?;
    let mut body = Vec::with_capacity(1 + SECTION_NAME.len() + token.len());
    push_leb128(&mut body, SECTION_NAME.len());
    body.extend_from_slice(SECTION_NAME.as_bytes());
    body.extend_from_slice(token.as_bytes());

    let mut signed = Vec::with_capacity(before.len() + after.len() + 6 + body.len());
    signed.extend_from_slice(before);
    signed.extend_from_slice(after);
    signed.push(CUSTOM_SECTION);
    push_leb128(&mut signed, body.len());
    signed.extend_from_slice(&body);
    Ok(signed)
}

/// The component's token, if it has one. Nothing about the token has been checked but its size.
///
/// # Errors
/// [`SectionError`] if the component cannot be read, or it cannot be told which token counts.
pub fn extract(component: &[u8]) -> Result<Option<&str>, SectionError> {
    Parts::of(component)?.token()
}

/// SHA-256 over the component less its claims section, header of the section included in what is left out.
///
/// Signed or not, and however often: the same component has the same hash.
///
/// # Errors
/// [`SectionError`] if the component cannot be read, or it cannot be told which section to leave out.
pub fn content_hash(component: &[u8]) -> Result<ContentHash, SectionError> {
    Ok(Parts::of(component)?.content_hash())
}

/// A component, cut at its claims section.
pub(crate) struct Parts<'a> {
    before: &'a [u8],
    token: Option<&'a [u8]>,
    after: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn of(component: &'a [u8]) -> Result<Self, SectionError> {
        if component.is_empty() || !MAGIC.starts_with(head(component, MAGIC.len())) {
            return Err(SectionError::NotWasm);
        }
        let Some(preamble) = component.first_chunk::<PREAMBLE_BYTES>() else {
            return Err(SectionError::Truncated {
                offset: component.len(),
            });
        };
        let [_, _, _, _, version @ ..] = *preamble;
        match version {
            COMPONENT_VERSION => {}
            MODULE_VERSION => return Err(SectionError::CoreModule),
            version => return Err(SectionError::UnknownFormat { version }),
        }

        let mut claims: Option<(Range<usize>, &[u8])> = None;
        for section in Sections::behind_preamble(component, 0) {
            let section = section?;
            match section.id {
                CUSTOM_SECTION => {
                    let Some(token) = section.claims(component)? else {
                        continue;
                    };
                    if claims.is_some() {
                        return Err(SectionError::Duplicate {
                            offset: section.whole.start,
                        });
                    }
                    claims = Some((section.whole, token));
                }
                CORE_MODULE_SECTION => {
                    refuse_claims_within(component, section.body, MODULE_VERSION, 1)?;
                }
                COMPONENT_SECTION => {
                    refuse_claims_within(component, section.body, COMPONENT_VERSION, 1)?;
                }
                _ => {}
            }
        }
        Ok(match claims {
            Some((section, token)) => Self {
                before: &component[..section.start],
                token: Some(token),
                after: &component[section.end..],
            },
            None => Self {
                before: component,
                token: None,
                after: &[],
            },
        })
    }

    pub(crate) fn token(&self) -> Result<Option<&'a str>, SectionError> {
        match self.token {
            None => Ok(None),
            Some(token) if token.len() > TOKEN_BYTES_MAX => {
                Err(SectionError::TokenTooLarge { len: token.len() })
            }
            Some(token) => std::str::from_utf8(token)
                .map(Some)
                .map_err(|_| SectionError::NotText),
        }
    }

    pub(crate) fn content_hash(&self) -> ContentHash {
        let mut hash = Sha256::new();
        hash.update(self.before);
        hash.update(self.after);
        ContentHash::from_bytes(hash.finalize().into())
    }
}

/// Refuses a claims section anywhere in the component or module that stands at `range` of `file`.
fn refuse_claims_within(
    file: &[u8],
    range: Range<usize>,
    version: [u8; 4],
    depth: usize,
) -> Result<(), SectionError> {
    let start = range.start;
    if depth > NESTING_MAX {
        return Err(SectionError::TooDeep { offset: start });
    }
    let nested = &file[..range.end];
    match nested[start..].first_chunk::<PREAMBLE_BYTES>() {
        Some(preamble) if preamble.starts_with(MAGIC) && preamble.ends_with(&version) => {}
        _ => return Err(SectionError::BadNesting { offset: start }),
    }
    for section in Sections::behind_preamble(nested, start) {
        let section = section?;
        match section.id {
            CUSTOM_SECTION if section.claims(nested)?.is_some() => {
                return Err(SectionError::Nested {
                    offset: section.whole.start,
                });
            }
            // In a module, 1 and 4 are types and tables.
            CORE_MODULE_SECTION if version == COMPONENT_VERSION => {
                refuse_claims_within(nested, section.body, MODULE_VERSION, depth + 1)?;
            }
            COMPONENT_SECTION if version == COMPONENT_VERSION => {
                refuse_claims_within(nested, section.body, COMPONENT_VERSION, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// One section; ranges count from the beginning of the whole file.
struct Section {
    id: u8,
    whole: Range<usize>,
    body: Range<usize>,
}

impl Section {
    /// The content behind the name, if this custom section is ours.
    fn claims<'a>(&self, file: &'a [u8]) -> Result<Option<&'a [u8]>, SectionError> {
        let body = &file[..self.body.end];
        let (name_len, name_at) = leb128(body, self.body.start)?;
        let name_end = end_of(body, name_at, name_len)?;
        Ok((&body[name_at..name_end] == SECTION_NAME.as_bytes()).then(|| &body[name_end..]))
    }
}

/// The sections of a component or module that ends where `file` ends. Stops at the first fault.
struct Sections<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Sections<'a> {
    /// The caller has checked that a preamble stands at `start`.
    fn behind_preamble(file: &'a [u8], start: usize) -> Self {
        Self {
            file,
            at: start + PREAMBLE_BYTES,
        }
    }

    fn read(&self, id: u8) -> Result<Section, SectionError> {
        let (size, start) = leb128(self.file, self.at + 1)?;
        let end = end_of(self.file, start, size)?;
        Ok(Section {
            id,
            whole: self.at..end,
            body: start..end,
        })
    }
}

impl Iterator for Sections<'_> {
    type Item = Result<Section, SectionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = *self.file.get(self.at)?;
        let section = self.read(id);
        self.at = section
            .as_ref()
            .map_or(self.file.len(), |section| section.whole.end);
        Some(section)
    }
}

fn head(bytes: &[u8], len: usize) -> &[u8] {
    &bytes[..len.min(bytes.len())]
}

/// Where `len` bytes from `start` end, if `file` has them.
fn end_of(file: &[u8], start: usize, len: u32) -> Result<usize, SectionError> {
    usize::try_from(len)
        .ok()
        .and_then(|len| start.checked_add(len))
        .filter(|end| *end <= file.len())
        .ok_or(SectionError::Truncated { offset: start })
}

/// The unsigned number at `offset`, and where the bytes behind it begin.
///
/// Padded numbers are valid WebAssembly: linkers reserve all five bytes and fill them in later.
fn leb128(file: &[u8], offset: usize) -> Result<(u32, usize), SectionError> {
    let mut number = 0_u32;
    for index in 0..5 {
        let at = offset + index;
        let byte = *file.get(at).ok_or(SectionError::Truncated { offset: at })?;
        if index == 4 && byte > 0x0f {
            break;
        }
        number |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((number, at + 1));
        }
    }
    Err(SectionError::BadSize { offset })
}

/// Writes `number` with as few bytes as it needs.
fn push_leb128(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests;
