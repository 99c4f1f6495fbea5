//! [`Looks`]: what some content seems to be by its first bytes. A guess that decides which check comes next, and what to
//! call content that is not what was wanted; nothing is believed for it.

/// What some content seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    Empty,
    Component,
    /// WebAssembly that is no component.
    Wasm,
    Elf,
    Gzip,
    Zstd,
    Zip,
    Windows,
    MacOs,
    Script,
    Markup,
    Json,
    Tar,
    /// WebAssembly as text.
    Wat,
    Unknown,
}

impl Looks {
    /// Judges by the first bytes; some 300 are enough to tell everything that is told apart.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        /// Where tar has its own magic, in bytes.
        const USTAR_AT: usize = 257;
        match bytes {
            [] => Self::Empty,
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', ..] => Self::Wasm,
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            [b'M', b'Z', ..] => Self::Windows,
            [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => Self::MacOs,
            [b'#', b'!', ..] => Self::Script,
            [b'<', ..] => Self::Markup,
            [b'{' | b'[', ..] => Self::Json,
            _ if bytes.get(USTAR_AT..USTAR_AT + 5) == Some(b"ustar") => Self::Tar,
            _ if bytes.starts_with(b"(module") || bytes.starts_with(b"(component") => Self::Wat,
            _ => Self::Unknown,
        }
    }

    /// The same for people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Component => "a WebAssembly component",
            Self::Wasm => "WebAssembly",
            Self::Elf => "an ELF executable",
            Self::Gzip => "a gzip file",
            Self::Zstd => "a zstd file",
            Self::Zip => "a zip file",
            Self::Windows => "a Windows program",
            Self::MacOs => "a macOS program",
            Self::Script => "a script",
            Self::Markup => "a page of HTML or XML",
            Self::Json => "JSON",
            Self::Tar => "a tar file",
            Self::Wat => "WebAssembly as text",
            Self::Unknown => "something unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_told_by_its_beginning_however_short_it_is() {
        let mut tar = vec![b'n'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, looks) in [
            (&b""[..], Looks::Empty),
            (b"\0asm\x0d\0\x01\0", Looks::Component),
            (b"\0asm\x01\0\0\0", Looks::Wasm),
            (b"\0as", Looks::Unknown),
            (b"#!/bin/sh", Looks::Script),
            (b"(component", Looks::Wat),
            (&tar, Looks::Tar),
            (&tar[..261], Looks::Unknown),
        ] {
            assert_eq!(Looks::of(bytes), looks, "{bytes:?}");
        }
    }
}
