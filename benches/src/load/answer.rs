//! How far an HTTP/1.1 answer has come: as little of RFC 9112 as telling its end takes.

/// What bytes of an answer amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There is more to come.
    Partly,
    /// Exactly one answer.
    Whole {
        /// Its status.
        status: u16,
    },
    /// No answer, or more than one.
    Wrong,
}

/// Looks at all that has been read since the request.
pub fn look(bytes: &[u8]) -> Seen {
    let Some(head) = find(bytes, b"\r\n\r\n") else {
        return Seen::Partly;
    };
    let (head, body) = (&bytes[..head + 2], &bytes[head + 4..]);
    let status = head
        .get(9..12)
        .filter(|_| head.starts_with(b"HTTP/1.1 "))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let Some(status) = status else {
        return Seen::Wrong;
    };
    if status == 204 || status == 304 {
        return if body.is_empty() {
            Seen::Whole { status }
        } else {
            Seen::Wrong
        };
    }
    let complete = match length(head) {
        Some(Length::Counted(length)) => {
            if body.len() > length {
                return Seen::Wrong;
            }
            body.len() == length
        }
        // A piece that looks like the end inside a chunk's data would fool this; no server here sends one.
        Some(Length::Chunked) => body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"),
        None => return Seen::Wrong,
    };
    if complete {
        Seen::Whole { status }
    } else {
        Seen::Partly
    }
}

enum Length {
    Counted(usize),
    Chunked,
}

fn length(head: &[u8]) -> Option<Length> {
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            return std::str::from_utf8(value)
                .ok()?
                .parse()
                .ok()
                .map(Length::Counted);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked")
        {
            return Some(Length::Chunked);
        }
    }
    None
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_length_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
        for cut in 0..answer.len() {
            assert_eq!(look(&answer[..cut]), Seen::Partly, "at {cut}");
        }
        assert_eq!(look(answer), Seen::Whole { status: 200 });
        assert_eq!(look(&[answer.as_slice(), b"x"].concat()), Seen::Wrong);
    }

    #[test]
    fn a_chunked_answer_is_whole_with_its_last_chunk() {
        let answer = b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        for cut in 0..answer.len() {
            assert_eq!(look(&answer[..cut]), Seen::Partly, "at {cut}");
        }
        assert_eq!(look(answer), Seen::Whole { status: 503 });
    }

    #[test]
    fn what_is_no_answer_is_wrong() {
        assert_eq!(look(b"SMTP ready\r\n\r\n"), Seen::Wrong);
        assert_eq!(look(b"HTTP/1.1 200 OK\r\n\r\n"), Seen::Wrong);
    }
}
