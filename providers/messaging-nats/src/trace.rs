//! The trace that a message belongs to, in its header field `traceparent` (W3C Trace Context). Messages that are sent say it
//! where their call does; messages that arrive hand it on to their actor.

use async_nats::HeaderMap;
use trellis_protocol::limits::TRACEPARENT_BYTES_MAX;

/// The field.
const TRACEPARENT: &str = "traceparent";

/// What a header of this field alone takes of a message's size, at most: the version's line, the name, the line ends.
const HEADER_BYTES_MAX: usize = TRACEPARENT_BYTES_MAX + 64;

/// The header of a message, where its call belongs to a trace and the message has room for it: no message fails for it.
pub(crate) fn header(
    traceparent: Option<&str>,
    body_bytes: usize,
    message_bytes_max: usize,
) -> Option<HeaderMap> {
    let traceparent = traceparent.filter(|text| is_plain(text))?;
    if body_bytes.saturating_add(HEADER_BYTES_MAX) > message_bytes_max {
        return None;
    }
    let mut header = HeaderMap::new();
    header.insert(TRACEPARENT, traceparent);
    Some(header)
}

/// The trace that an arriving message belongs to. Whoever sent it may have written anything there.
pub(crate) fn of(header: Option<&HeaderMap>) -> Option<String> {
    let text = header?.get(TRACEPARENT)?.as_str();
    is_plain(text).then(|| text.to_owned())
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TRACEPARENT_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_a_message_is_sent_with_is_read_where_it_arrives() {
        let sent = header(Some(CONTEXT), 10, 1024);
        assert_eq!(of(sent.as_ref()).as_deref(), Some(CONTEXT));
        assert_eq!(header(None, 10, 1024), None);
        assert_eq!(of(None), None);
    }

    #[test]
    fn a_message_that_has_no_room_for_it_goes_without() {
        assert!(header(Some(CONTEXT), 1024 - HEADER_BYTES_MAX, 1024).is_some());
        assert!(header(Some(CONTEXT), 1024 - HEADER_BYTES_MAX + 1, 1024).is_none());
    }

    #[test]
    fn what_cannot_be_a_context_is_neither_sent_nor_read() {
        for text in ["", "a b", "a\r\nb", &"x".repeat(TRACEPARENT_BYTES_MAX + 1)] {
            assert_eq!(header(Some(text), 10, 1024), None);
        }
        let mut long = HeaderMap::new();
        long.insert(TRACEPARENT, "x".repeat(TRACEPARENT_BYTES_MAX + 1));
        assert_eq!(of(Some(&long)), None);
    }
}
