//! Commands as a shell reads them.

/// A `wash` command of these words.
pub(super) fn command_line(words: &[String]) -> String {
    let mut line = "wash".to_owned();
    for word in words {
        line.push(' ');
        line.push_str(&quoted(word));
    }
    line
}

/// A comment of these words, on one line.
pub(super) fn comment(text: &str) -> String {
    format!("# {}", crate::output::printable(text))
}

/// Refuses words of others that begin as flags do: a key `--creds` of somebody's configuration is not one of ours.
///
/// # Errors
/// A sentence that names the first of them.
pub(super) fn check_no_flags<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    match words.into_iter().find(|word| word.starts_with('-')) {
        None => Ok(()),
        Some(word) => Err(format!(
            "`{}` begins as a flag does, and a command would take it for one",
            crate::output::printable(word)
        )),
    }
}

/// A word that means itself to a POSIX shell. What was written by others may hold anything.
fn quoted(word: &str) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '=' | ',' | '+')
    };
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        // `printf` gives back what a terminal must not be shown.
        // Its last line breaks are lost on the way, and stand behind it as they are.
        let text = word.trim_end_matches('\n');
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        let breaks = match &word[text.len()..] {
            "" => String::new(),
            breaks => format!("'{breaks}'"),
        };
        return format!("\"$(printf '{escaped}')\"{breaks}");
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(word: &str) -> String {
        command_line(&[word.to_owned()])
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        assert_eq!(line("a=b/c:1@sha256,-_."), "wash a=b/c:1@sha256,-_.");
    }

    #[test]
    fn nothing_of_another_lattice_is_run_by_the_shell() {
        assert_eq!(line(""), "wash ''");
        assert_eq!(line("$(rm -rf ~)"), "wash '$(rm -rf ~)'");
        assert_eq!(line("it's; `x`"), r"wash 'it'\''s; `x`'");
        assert_eq!(line("a\nb"), r#"wash "$(printf '\141\012\142')""#);
        assert_eq!(comment("a\nrm -rf ~"), "# a\\u{a}rm -rf ~");
    }

    #[test]
    fn what_is_quoted_is_read_back_by_a_shell() {
        for word in [
            "a b",
            "it's",
            "tab\there",
            "\u{1b}[2J",
            "\"q\" $HOME `x` \\",
            "größer",
            "\n",
            "two\nlines\n\n",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .expect("a shell can be run");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }
}
