//! A configuration in a file: JSON, TOML, or lines of keys and values. Flat, as configurations are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::exit::Failure;

/// Largest file that is read, in bytes. A host accepts less; this keeps a mistaken path from filling the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file by its suffix: `.json`, `.toml`, anything else as lines.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let failed = |fault: String| {
        Failure::local(format!(
            "cannot read the configuration in {}: {fault}",
            path.display()
        ))
    };
    let bytes = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > FILE_BYTES_MAX {
        return Err(failed(format!(
            "it has {bytes} bytes, at most {FILE_BYTES_MAX} are accepted"
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("json") => serde_json::from_str(&text)
            .map_err(|error| error.to_string())
            .and_then(|value| flat(&value)),
        Some("toml") => toml::from_str(&text)
            .map_err(|error| error.message().to_owned())
            .and_then(|value| flat(&value)),
        _ => lines(&text),
    }
    .map_err(failed)
}

/// Texts as they are, numbers and booleans as they are written.
fn flat(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let Value::Object(members) = value else {
        return Err("it holds no object at its top".to_owned());
    };
    members
        .iter()
        .map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                _ => {
                    return Err(format!(
                        "{key} is neither a text nor a number nor a boolean, and a configuration is flat"
                    ));
                }
            };
            Ok((key.clone(), text))
        })
        .collect()
}

/// `KEY=VALUE`, one a line; empty lines and those that begin with `#` are passed over, and quotes around a value go.
fn lines(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut map = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let (key, value) = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("line {number} is not KEY=VALUE"))?;
        let unquoted = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        let value = unquoted.unwrap_or(value).to_owned();
        if map.insert(key.to_owned(), value).is_some() {
            return Err(format!("line {number} gives {key} a second time"));
        }
    }
    Ok(map)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn lines_have_comments_quotes_and_one_value_for_each_key() {
        let map = lines("# a comment\n\n a = 1 \nb='x = y'\nc=\n").unwrap();
        let pairs: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x = y"), ("c", "")]);
        assert!(lines("a=1\na=2").unwrap_err().contains("line 2"));
        assert!(lines("novalue").unwrap_err().contains("line 1"));
    }

    #[test]
    fn what_is_not_flat_is_named() {
        let value = serde_json::json!({"a": {"b": 1}});
        assert!(flat(&value).unwrap_err().starts_with("a is neither"));
        assert!(flat(&serde_json::json!([])).is_err());
        let value = serde_json::json!({"n": 1.5, "t": true, "s": "x"});
        assert_eq!(flat(&value).unwrap()["n"], "1.5");
    }

    #[test]
    fn the_suffix_says_how_a_file_is_read() {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("c.json", r#"{"port": 8080}"#),
            ("c.toml", "port = 8080"),
            ("c.env", "port=8080"),
        ] {
            let path = home.path().join(name);
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap()["port"], "8080", "{name}");
        }
        let failure = read(Path::new("/nowhere/c.json")).unwrap_err();
        assert!(failure.message().contains("/nowhere/c.json"), "{failure}");
    }
}
