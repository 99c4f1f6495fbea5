//! Reads where a machine gets Debian from, in both of apt's formats.
//!
//! One line each (`deb [options] URI suite component…`, in `.list` files) and stanzas of fields (`.sources` files); see
//! the manual page sources.list(5).

use std::fs;
use std::path::{Path, PathBuf};

/// The key that signs Debian's archive, from the package every Debian has.
const DEFAULT_KEY: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A Debian archive as a machine is configured to use it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Archive {
    uri: String,
    /// Path of the key that signs it.
    signed_by: String,
}

impl Archive {
    /// A source stanza for another suite of the same archive.
    pub(super) fn stanza(&self, suite: &str) -> String {
        format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {}\n",
            self.uri, self.signed_by
        )
    }
}

/// One configured source, whichever way it was written.
#[derive(Debug, Default)]
struct Entry {
    types: Vec<String>,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
    disabled: bool,
}

impl Entry {
    /// The archive, if the entry is Debian's own: it carries the running release under its codename, with `main`.
    /// Neither a security archive (another directory, without our suite) nor a third party's does that.
    fn archive(&self, codename: &str) -> Option<Archive> {
        let has = |list: &[String], word: &str| list.iter().any(|item| item == word);
        let suitable = !self.disabled
            && has(&self.types, "deb")
            && has(&self.components, "main")
            && has(&self.suites, codename);
        let uri = self.uris.first().filter(|_| suitable)?;
        // A key may also be given inline or by fingerprint; those can't be passed on as a path.
        let signed_by = self.signed_by.clone().filter(|key| key.starts_with('/'));
        Some(Archive {
            uri: uri.clone(),
            signed_by: signed_by.unwrap_or_else(|| DEFAULT_KEY.to_owned()),
        })
    }
}

/// The archive that apt's configuration directory names for a release.
pub(super) fn archive(configuration: &Path, codename: &str) -> Option<Archive> {
    files(configuration)
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            let entries = match path.extension()?.to_str()? {
                "sources" => stanzas(&text),
                _ => lines(&text),
            };
            entries.iter().find_map(|entry| entry.archive(codename))
        })
        .next()
}

/// `sources.list` first, then the files beside it in the order apt reads them.
fn files(configuration: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = fs::read_dir(configuration.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "list" || extension == "sources")
        })
        .collect();
    parts.sort();
    parts.insert(0, configuration.join("sources.list"));
    parts
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<Entry> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Entry> {
    let text = text.split('#').next()?.trim();
    let (kind, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut rest = words(rest).into_iter();
    Some(Entry {
        types: words(kind),
        uris: vec![rest.next()?],
        suites: vec![rest.next()?],
        components: rest.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
        disabled: false,
    })
}

fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = vec![Entry::default()];
    let mut field = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            entries.push(Entry::default());
            field.clear();
            continue;
        }
        let value = if line.starts_with([' ', '\t']) {
            line
        } else if let Some((name, value)) = line.split_once(':') {
            field = name.to_ascii_lowercase();
            value
        } else {
            continue;
        };
        let Some(entry) = entries.last_mut() else {
            continue;
        };
        match field.as_str() {
            "types" => entry.types.extend(words(value)),
            "uris" => entry.uris.extend(words(value)),
            "suites" => entry.suites.extend(words(value)),
            "components" => entry.components.extend(words(value)),
            "signed-by" if entry.signed_by.is_none() => {
                entry.signed_by = words(value).into_iter().next();
            }
            "enabled" => entry.disabled = matches!(value.trim(), "no" | "false" | "0" | "off"),
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb
# http://an.old/address
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
";

    fn machine(files: &[(&str, &str)]) -> Option<Archive> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        archive(root.path(), "bookworm")
    }

    #[test]
    fn the_archive_is_found_among_stanzas() {
        let found = machine(&[("sources.list.d/debian.sources", STANZAS)]).unwrap();
        assert_eq!(found.uri, "http://mirror.example/debian");
        assert_eq!(
            found.stanza("trixie-backports"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn the_archive_is_found_among_lines() {
        let text = "# comment\n\
            deb-src http://mirror.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/keys/d.gpg] http://mirror.example/debian bookworm main contrib # ours\n";
        let found = machine(&[("sources.list", text)]).unwrap();
        assert_eq!(found.uri, "http://mirror.example/debian");
        assert_eq!(found.signed_by, "/keys/d.gpg");
    }

    #[test]
    fn a_key_given_inline_is_replaced_by_the_default_one() {
        let text = "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n x\n";
        let found = machine(&[("sources.list.d/debian.sources", text)]).unwrap();
        assert_eq!(found.signed_by, DEFAULT_KEY);
    }

    #[test]
    fn security_third_parties_disabled_entries_and_other_files_are_passed_over() {
        assert_eq!(
            machine(&[
                (
                    "sources.list",
                    "deb http://m/debian-security bookworm-security main\n"
                ),
                (
                    "sources.list.d/vendor.list",
                    "deb http://vendor.example/apt stable main\n"
                ),
                (
                    "sources.list.d/off.sources",
                    "Enabled: no\nTypes: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main\n"
                ),
                ("sources.list.d/debian.sources.disabled", STANZAS),
                (
                    "sources.list.d/half.list",
                    "deb\ndeb [unclosed http://x y\n"
                ),
            ]),
            None
        );
    }

    #[test]
    fn without_any_configuration_there_is_no_archive() {
        assert_eq!(archive(Path::new("/no/such/directory"), "bookworm"), None);
    }
}
