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
        let escaped: String = word.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        return format!("\"$(printf '{escaped}')\"");
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
