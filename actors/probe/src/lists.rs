//! Ordinary values of a wished length: into a key-value store and back, and to another instance of this actor and back.

use crate::bindings::exports::trellis::probe::lists::Guest;
use crate::bindings::trellis::probe::lists;
use crate::bindings::wasi::keyvalue::store;

/// Where `/kept` keeps its value.
const KEY: &str = "kept";

/// What another instance does when it is called: nothing at all.
impl Guest for crate::Probe {
    fn bytes(content: Vec<u8>) -> Vec<u8> {
        content
    }

    fn numbers(content: Vec<u64>) -> Vec<u64> {
        content
    }

    fn text(content: String) -> String {
        content
    }
}

/// Sends `count` elements of one kind there and back. Nothing where there is no such kind.
///
/// # Errors
/// What the store said, or how what came back differs.
pub(crate) fn there_and_back(path: &str, count: usize) -> Option<Result<(), String>> {
    let done = match path {
        "/kept" => keep(&letters(count)),
        "/lists/bytes" => same(letters(count).as_slice(), lists::bytes),
        "/lists/numbers" => {
            let numbers: Vec<_> = (0..count as u64).map(|number| !number).collect();
            same(numbers.as_slice(), lists::numbers)
        }
        "/lists/text" => same("x".repeat(count).as_str(), lists::text),
        _ => return None,
    };
    Some(done)
}

fn letters(count: usize) -> Vec<u8> {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvw";
    ALPHABET.iter().copied().cycle().take(count).collect()
}

fn same<T: PartialEq + ?Sized, U: AsRef<T>>(
    sent: &T,
    call: impl FnOnce(&T) -> U,
) -> Result<(), String> {
    if call(sent).as_ref() == sent {
        Ok(())
    } else {
        Err("it came back changed".to_owned())
    }
}

fn keep(value: &[u8]) -> Result<(), String> {
    let said = |error| match error {
        store::Error::NoSuchStore => "no such store".to_owned(),
        store::Error::AccessDenied => "access denied".to_owned(),
        store::Error::Other(reason) => reason,
    };
    let bucket = store::open("").map_err(said)?;
    bucket.set(KEY, value).map_err(said)?;
    let got = bucket.get(KEY).map_err(said)?;
    if got.as_deref() == Some(value) {
        Ok(())
    } else {
        Err("it came back changed".to_owned())
    }
}
