//! What is another thing at each run, shown as one.

/// Texts that stand for others: a path, a URL, a name.
#[derive(Debug, Default)]
pub(super) struct Masks {
    texts: Vec<(String, String)>,
}

/// Characters of a public key, and of those in base32 behind its first one.
const KEY_CHARS: usize = 56;

impl Masks {
    /// Shows `text` as `shown`. Longer texts are looked for first.
    pub(super) fn text(&mut self, text: &str, shown: &str) {
        self.texts.push((text.to_owned(), shown.to_owned()));
        self.texts.sort_by_key(|(text, _)| usize::MAX - text.len());
    }

    pub(super) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        let text = keys(&text);
        let text = numbers_behind(&text, &["127.0.0.1:"], "<port>");
        let text = numbers_behind(
            &text,
            &["\"uptime_seconds\":", "\"pid\":", "process "],
            "<n>",
        );
        let text = quoted_behind(&text, "\"uptime_human\":");
        // How long a connection was tried, to a tenth; whole seconds and milliseconds are what was asked for.
        let text = decimals_behind(&text, "within ");
        uptimes(&text)
    }
}

/// Public keys, by their first letter.
fn keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_uppercase() || ('2'..='7').contains(&c) {
            word.push(c);
            continue;
        }
        if word.len() == KEY_CHARS {
            shown.push_str(&word[..1]);
            shown.push('…');
        } else {
            shown.push_str(&word);
        }
        word.clear();
        shown.push(c);
    }
    shown.pop();
    shown
}

fn numbers_behind(text: &str, marks: &[&str], shown: &str) -> String {
    let mut text = text.to_owned();
    for mark in marks {
        let mut parts = text.split(mark);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str(mark);
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() < part.len() {
                masked.push_str(shown);
            }
            masked.push_str(rest);
        }
        text = masked;
    }
    text
}

fn decimals_behind(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(mark);
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if part[..part.len() - rest.len()].contains('.') {
            masked.push_str("<n>");
            masked.push_str(rest);
        } else {
            masked.push_str(part);
        }
    }
    masked
}

fn quoted_behind(text: &str, mark: &str) -> String {
    let mut parts = text.split(mark);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(mark);
        match part.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((_, rest)) => {
                masked.push_str("\"<time>\"");
                masked.push_str(rest);
            }
            None => masked.push_str(part),
        }
    }
    masked
}

/// `12s` and `1m 2s`, with the blanks that pad a table's cell behind them.
fn uptimes(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut shown = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, from) = rest.split_at(start);
            shown.push_str(before);
            let stands_alone = before
                .chars()
                .next_back()
                .or(shown.chars().next_back())
                .is_none_or(|c| c == ' ');
            let digits = from.len() - from.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, behind) = from.split_at(digits);
            let time = behind
                .strip_prefix('s')
                .filter(|behind| !behind.starts_with(|c: char| c.is_ascii_alphanumeric()));
            match time {
                Some(behind) if stands_alone => {
                    drop_minutes(&mut shown);
                    shown.push_str("<up>");
                    let padding = behind.len() - behind.trim_start_matches(' ').len();
                    if padding > 1 {
                        shown.push_str("  ");
                        rest = &behind[padding..];
                    } else {
                        rest = behind;
                    }
                }
                _ => {
                    shown.push_str(number);
                    rest = behind;
                }
            }
        }
        shown.push_str(rest);
        lines.push(shown);
    }
    lines.join("\n")
}

/// Takes `1m ` off the end, where it stands alone there.
fn drop_minutes(shown: &mut String) {
    let Some(head) = shown.strip_suffix("m ") else {
        return;
    };
    let before = head.trim_end_matches(|c: char| c.is_ascii_digit());
    if before.len() < head.len() && (before.is_empty() || before.ends_with(' ')) {
        shown.truncate(before.len());
    }
}

#[test]
fn what_differs_between_runs_is_masked_and_the_rest_is_not() {
    let mut masks = Masks::default();
    masks.text("/tmp/x", "~");
    let key = format!("N{}", "A".repeat(55));
    assert_eq!(
        masks.apply(&format!(
            "{key} at /tmp/x/y on 127.0.0.1:4711, up 12s, 5 MB\n{{\"pid\":12,\"uptime_human\":\"1 m\"}}\n3s      a=1\n"
        )),
        "N… at ~/y on 127.0.0.1:<port>, up <up>, 5 MB\n{\"pid\":<n>,\"uptime_human\":\"<time>\"}\n<up>  a=1\n"
    );
    assert_eq!(
        masks.apply("up 1m 2s, and 61m 0s  a=1, m 3s"),
        "up <up>, and <up>  a=1, m <up>"
    );
    assert_eq!(
        masks.apply("a12s 1.2.3 within 300 ms"),
        "a12s 1.2.3 within 300 ms"
    );
}
