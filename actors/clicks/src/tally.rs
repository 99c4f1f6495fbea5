//! Counters in the store, one for each code.

use crate::click::Code;

/// What a counter's key begins with. Not as `shortlink`'s own counters do: both may be given one bucket.
const PREFIX: &str = "seen.";

/// Most counters that one listing reads. Each costs a call to the store.
pub(crate) const LISTED_MAX: usize = 100;

/// An open bucket of counters.
pub(crate) trait Counters {
    /// Adds `delta` to the counter at `key`, atomically, and returns the sum.
    fn increment(&self, key: &str, delta: u64) -> Result<u64, String>;

    /// One page of keys, and where the next begins.
    fn keys(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String>;
}

/// Codes with their clicks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Top {
    /// The most clicks first.
    pub(crate) codes: Vec<(String, u64)>,
    /// Whether these are all that there are.
    pub(crate) complete: bool,
}

/// Counts a click, and says which of its code it was.
pub(crate) fn count(counters: &impl Counters, code: &Code) -> Result<u64, String> {
    counters.increment(&key(code), 1)
}

/// The clicks of a code so far.
pub(crate) fn clicks(counters: &impl Counters, code: &Code) -> Result<u64, String> {
    // How a counter is stored is the provider's own affair: it is read by adding nothing.
    counters.increment(&key(code), 0)
}

/// The codes with the most clicks, of those that one listing reads.
pub(crate) fn top(counters: &impl Counters) -> Result<Top, String> {
    let (mut found, mut cursor) = (Vec::new(), None);
    let complete = loop {
        let (keys, next) = counters.keys(cursor)?;
        found.extend(
            keys.iter()
                .filter_map(|key| key.strip_prefix(PREFIX))
                .filter_map(Code::parse),
        );
        if found.len() > LISTED_MAX {
            break false;
        }
        // A cursor that does not move would never end.
        if next.is_none() || next == cursor {
            break true;
        }
        cursor = next;
    };
    found.truncate(LISTED_MAX);
    let mut codes = found
        .iter()
        .map(|code| Ok((code.as_str().to_owned(), clicks(counters, code)?)))
        .collect::<Result<Vec<_>, String>>()?;
    codes.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    Ok(Top { codes, complete })
}

fn key(code: &Code) -> String {
    format!("{PREFIX}{}", code.as_str())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// Counters in memory, listed two at a time.
    #[derive(Default)]
    pub(crate) struct Fake {
        pub(crate) counters: RefCell<BTreeMap<String, u64>>,
        pub(crate) refusing: Option<&'static str>,
    }

    impl Counters for Fake {
        fn increment(&self, key: &str, delta: u64) -> Result<u64, String> {
            if let Some(reason) = self.refusing {
                return Err(reason.to_owned());
            }
            let mut counters = self.counters.borrow_mut();
            let counter = counters.entry(key.to_owned()).or_default();
            *counter += delta;
            Ok(*counter)
        }

        fn keys(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
            let counters = self.counters.borrow();
            let from = usize::try_from(cursor.unwrap_or(0)).map_err(|e| e.to_string())?;
            let page: Vec<_> = counters.keys().skip(from).take(2).cloned().collect();
            let next = from + page.len();
            Ok((page, (next < counters.len()).then_some(next as u64)))
        }
    }

    fn code(text: &str) -> Code {
        Code::parse(text).expect("the test uses valid codes")
    }

    #[test]
    fn each_click_counts_once_for_its_code() {
        let fake = Fake::default();
        assert_eq!(count(&fake, &code("a")), Ok(1));
        assert_eq!(count(&fake, &code("a")), Ok(2));
        assert_eq!(count(&fake, &code("b")), Ok(1));
        assert_eq!(clicks(&fake, &code("a")), Ok(2));
        assert_eq!(clicks(&fake, &code("never")), Ok(0));
    }

    #[test]
    fn the_most_clicked_come_first_and_other_keys_are_passed_over() {
        let fake = Fake::default();
        for text in ["b", "c", "c", "a", "c", "a"] {
            assert!(count(&fake, &code(text)).is_ok());
        }
        for key in ["clicks.a", "link.a", "seen.", "seen.a.b"] {
            fake.counters.borrow_mut().insert(key.to_owned(), 99);
        }
        let expected = [("c", 3), ("a", 2), ("b", 1)];
        let expected = expected.map(|(code, clicks)| (code.to_owned(), clicks));
        assert_eq!(
            top(&fake),
            Ok(Top {
                codes: expected.to_vec(),
                complete: true
            })
        );
    }

    #[test]
    fn a_hundred_are_listed_and_more_are_said_to_be_there() {
        let fake = Fake::default();
        for number in 0..LISTED_MAX {
            assert!(count(&fake, &code(&format!("c{number}"))).is_ok());
        }
        assert!(top(&fake).is_ok_and(|top| top.complete && top.codes.len() == LISTED_MAX));
        assert!(count(&fake, &code("onemore")).is_ok());
        assert!(top(&fake).is_ok_and(|top| !top.complete && top.codes.len() == LISTED_MAX));
    }
}
