//! Is it an executable of this machine, and all of it? By the header of ELF or Mach-O.

use std::io::{self, Read, Seek, SeekFrom};

use trellis_claims::provider::Platform;

use crate::error::ContentError;
use crate::looks::Looks;

/// The header of ELF for 64 bits, in bytes. No executable is shorter.
const ELF_HEADER_BYTES: usize = 64;

/// One program header of ELF for 64 bits, in bytes.
const PROGRAM_HEADER_BYTES: usize = 56;

/// Most program headers that are looked at. Ordinary programs have a dozen.
const PROGRAM_HEADERS_MAX: u16 = 1024;

/// A segment that is loaded from the file.
const PT_LOAD: u32 = 1;

/// Machines by ELF's numbers, as Rust names them.
const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (43, "sparc64"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// What a file is to be run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A program for this machine.
    Native,
    /// A script, whose first line says by what it is run.
    Script,
}

/// Checks that a file can be executed on `here`. `Ok(Err(…))` is a file that cannot.
pub(crate) fn check(
    file: &mut (impl Read + Seek),
    here: &Platform,
) -> io::Result<Result<Form, ContentError>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(512);
    file.by_ref().take(512).read_to_end(&mut head)?;
    Ok(match &head[..] {
        [] => Err(ContentError::Empty),
        [b'#', b'!', ..] => Ok(Form::Script),
        [0x7f, b'E', b'L', b'F', ..] => elf(file, &head, length, here)?,
        [0xcf, 0xfa, 0xed, 0xfe, ..] => mach_o(&head, here),
        [0xca, 0xfe, 0xba, 0xbe, ..] if here.os() == "macos" => Ok(Form::Native),
        [b'M', b'Z', ..] => Err(foreign("windows", here)),
        [0xca, 0xfe, 0xba, 0xbe, ..] => Err(foreign("macos", here)),
        _ => Err(ContentError::NotAProvider {
            found: Looks::of(&head).words(),
        }),
    })
}

fn foreign(found: impl ToString, here: &Platform) -> ContentError {
    ContentError::ForeignExecutable {
        found: found.to_string(),
        platform: here.to_string(),
    }
}

fn elf(
    file: &mut (impl Read + Seek),
    head: &[u8],
    length: u64,
    here: &Platform,
) -> io::Result<Result<Form, ContentError>> {
    let truncated = || Err(ContentError::Truncated { offset: length });
    if here.os() != "linux" {
        return Ok(Err(foreign("linux", here)));
    }
    if head.len() < ELF_HEADER_BYTES {
        return Ok(truncated());
    }
    let (is_64, is_little) = (head[4] == 2, head[5] == 1);
    let number = |at: usize| match is_little {
        true => u16::from_le_bytes([head[at], head[at + 1]]),
        false => u16::from_be_bytes([head[at], head[at + 1]]),
    };
    let machine = number(18);
    let name = MACHINES
        .iter()
        .find_map(|(number, name)| (*number == machine).then_some(*name));
    if name != Some(here.arch()) {
        let found = match name {
            Some(name) => format!("{name}-linux"),
            None => format!("machine {machine} of ELF"),
        };
        return Ok(Err(foreign(found, here)));
    }
    // 2 is an executable, 3 one that can be loaded anywhere (or a library, which the kernel refuses by itself).
    if !matches!(number(16), 2 | 3) {
        return Ok(Err(ContentError::NotAProvider {
            found: "an object file of ELF",
        }));
    }
    // Other widths and orders are those of machines on which nobody has run this yet.
    if !is_64 || !is_little {
        return Ok(Ok(Form::Native));
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| head[at + index]));
    // Nothing needs the table of sections to run, but it stands last in the file.
    let sections = u64::from(number(58)) * u64::from(number(60));
    if word(40)
        .checked_add(sections)
        .is_none_or(|end| end > length)
    {
        return Ok(truncated());
    }
    let (entry_bytes, count) = (number(54), number(56).min(PROGRAM_HEADERS_MAX));
    if usize::from(entry_bytes) != PROGRAM_HEADER_BYTES || count == 0 {
        return Ok(truncated());
    }
    let table = u64::from(count) * u64::from(entry_bytes);
    let at = word(32);
    if at.checked_add(table).is_none_or(|end| end > length) {
        return Ok(truncated());
    }
    file.seek(SeekFrom::Start(at))?;
    let mut headers = vec![0; usize::from(count) * PROGRAM_HEADER_BYTES];
    file.read_exact(&mut headers)?;
    for header in headers.chunks_exact(PROGRAM_HEADER_BYTES) {
        let word = |at: usize| -> u64 {
            u64::from_le_bytes(std::array::from_fn(|index| header[at + index]))
        };
        let kind = u32::from_le_bytes(std::array::from_fn(|index| header[index]));
        let is_there = word(8)
            .checked_add(word(32))
            .is_some_and(|end| end <= length);
        if kind == PT_LOAD && !is_there {
            return Ok(truncated());
        }
    }
    Ok(Ok(Form::Native))
}

fn mach_o(head: &[u8], here: &Platform) -> Result<Form, ContentError> {
    let arch = match head.get(4..8) {
        Some([7, 0, 0, 1]) => "x86_64",
        Some([12, 0, 0, 1]) => "aarch64",
        _ => "another machine",
    };
    match (here.os(), here.arch()) {
        ("macos", machine) if machine == arch => Ok(Form::Native),
        _ => Err(foreign(format_args!("{arch}-macos"), here)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs::File;
    use std::io::Cursor;

    use super::*;

    fn checked(bytes: &[u8]) -> Result<Form, ContentError> {
        check(
            &mut Cursor::new(bytes),
            &Platform::new("x86_64", "linux").unwrap(),
        )
        .unwrap()
    }

    /// A program of one segment, which is the whole file.
    fn program(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 3;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 1;
        bytes[64 + 32] = 200;
        bytes
    }

    #[test]
    fn this_very_program_can_be_executed() {
        let mut file = File::open(std::env::current_exe().unwrap()).unwrap();
        let form = check(&mut file, &Platform::here()).unwrap().unwrap();
        assert_eq!(form, Form::Native);
    }

    #[test]
    fn a_program_of_another_machine_is_refused_with_both_names() {
        assert_eq!(checked(&program(62)).unwrap(), Form::Native);
        for (bytes, found) in [
            (program(183), "aarch64-linux"),
            (program(9999), "machine 9999"),
            (b"MZ\x90\0".to_vec(), "windows"),
            (b"\xcf\xfa\xed\xfe\x0c\0\0\x01".to_vec(), "aarch64-macos"),
        ] {
            let error = checked(&bytes).unwrap_err();
            assert_eq!(error.code(), "platform-missing");
            let text = error.to_string();
            assert!(
                text.contains(found) && text.contains("x86_64-linux"),
                "{text}"
            );
        }
    }

    #[test]
    fn one_that_is_cut_short_anywhere_is_refused() {
        let whole = program(62);
        for length in 0..whole.len() {
            assert!(checked(&whole[..length]).is_err(), "{length}");
        }
        let mut file = File::open(std::env::current_exe().unwrap()).unwrap();
        let mut half = Vec::new();
        file.read_to_end(&mut half).unwrap();
        half.truncate(half.len() / 2);
        assert!(
            check(&mut Cursor::new(half), &Platform::here())
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn scripts_run_and_other_things_do_not() {
        assert_eq!(checked(b"#!/bin/sh\n").unwrap(), Form::Script);
        assert_eq!(checked(b"").unwrap_err().code(), "artifact-empty");
        let wasm = checked(b"\0asm\x0d\0\x01\0").unwrap_err();
        assert!(
            wasm.to_string().contains("a WebAssembly component"),
            "{wasm}"
        );
        assert_eq!(wasm.code(), "not-a-provider");
    }

    #[test]
    fn whatever_the_bytes_nothing_panics() {
        let whole = program(62);
        for index in 0..120 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] = value;
                let _ = checked(&bytes);
            }
        }
    }
}
