//! What clients send, checked: bodies as JSON, items, quantities and pages.

use serde_json::Value;

/// Longest item, in bytes.
const ITEM_BYTES_MAX: usize = 128;

/// Longest key, in bytes: room for any UUID or digest.
const KEY_BYTES_MAX: usize = 128;

/// Most of an item in one request.
const QUANTITY_MAX: i64 = 1_000_000;

/// Orders on a page, where nobody asks for less or more, and at most.
const PAGE_DEFAULT: i64 = 20;
const PAGE_MAX: i64 = 100;

/// Why a request makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The body is not JSON.
    #[error("the body is not valid json: {0}")]
    Json(String),
    /// A member or a part of the query is missing or wrong.
    #[error("`{member}` must be {expected}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What it should be.
        expected: String,
    },
}

/// An item, how many of it, and for orders perhaps a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    /// The item.
    pub(crate) item: String,
    /// How many.
    pub(crate) quantity: i64,
    /// The client's own name for the order.
    pub(crate) key: Option<String>,
}

/// Reads `{"item", "quantity", "key"?}`. Other members are ignored.
pub(crate) fn amount(body: &[u8]) -> Result<Amount, RequestError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| RequestError::Json(error.to_string()))?;
    let text = |member, bytes_max: usize| match value.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if is_name(text, bytes_max) => Ok(Some(text.clone())),
        Some(_) => Err(name_wanted(member, bytes_max)),
    };
    let item = text("item", ITEM_BYTES_MAX)?.ok_or_else(|| name_wanted("item", ITEM_BYTES_MAX))?;
    let quantity = value
        .get("quantity")
        .and_then(Value::as_i64)
        .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
        .ok_or_else(|| RequestError::Member {
            member: "quantity",
            expected: format!("a whole number from 1 to {QUANTITY_MAX}"),
        })?;
    let key = text("key", KEY_BYTES_MAX)?;
    Ok(Amount {
        item,
        quantity,
        key,
    })
}

fn name_wanted(member: &'static str, bytes_max: usize) -> RequestError {
    RequestError::Member {
        member,
        expected: format!("a text of 1 to {bytes_max} bytes without control characters"),
    }
}

/// Whether a text can name an item or an order.
fn is_name(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Reads an item out of a path, where it stands percent-encoded.
pub(crate) fn item(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    let item = String::from_utf8(bytes).ok()?;
    is_name(&item, ITEM_BYTES_MAX).then_some(item)
}

/// Reads `after=<id>&limit=<n>`: where a page begins and how many orders it has. Other parts are ignored.
pub(crate) fn page(query: &str) -> Result<(i64, i64), RequestError> {
    let (mut after, mut limit) = (0, PAGE_DEFAULT);
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let number = value.parse::<i64>().ok();
        match name {
            "after" => {
                after = number.filter(|id| *id >= 0).ok_or(RequestError::Member {
                    member: "after",
                    expected: "the id of an order".to_owned(),
                })?;
            }
            "limit" => {
                limit = number
                    .filter(|limit| (1..=PAGE_MAX).contains(limit))
                    .ok_or_else(|| RequestError::Member {
                        member: "limit",
                        expected: format!("a whole number from 1 to {PAGE_MAX}"),
                    })?;
            }
            _ => {}
        }
    }
    Ok((after, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_an_item_and_a_quantity_and_perhaps_a_key() {
        let tea = |key: Option<&str>| Amount {
            item: "tea".to_owned(),
            quantity: 2,
            key: key.map(str::to_owned),
        };
        assert_eq!(
            amount(br#"{"item": "tea", "quantity": 2, "note": 1}"#),
            Ok(tea(None))
        );
        assert_eq!(
            amount(br#"{"item": "tea", "quantity": 2, "key": null}"#),
            Ok(tea(None))
        );
        assert_eq!(
            amount(br#"{"item": "tea", "quantity": 2, "key": "k"}"#),
            Ok(tea(Some("k")))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let member = |body: &str| match amount(body.as_bytes()) {
            Err(RequestError::Member { member, .. }) => member,
            other => panic!("{other:?}"),
        };
        assert_eq!(member("{}"), "item");
        assert_eq!(member(r#"{"item": "", "quantity": 1}"#), "item");
        assert_eq!(member(r#"{"item": 1, "quantity": 1}"#), "item");
        assert_eq!(member("{\"item\": \"a\\u0000\", \"quantity\": 1}"), "item");
        assert_eq!(
            member(&format!(
                r#"{{"item": "{}", "quantity": 1}}"#,
                "x".repeat(129)
            )),
            "item"
        );
        for quantity in [
            "0",
            "-1",
            "1.5",
            "1000001",
            "\"1\"",
            "1e3",
            "99999999999999999999",
        ] {
            assert_eq!(
                member(&format!(r#"{{"item": "a", "quantity": {quantity}}}"#)),
                "quantity"
            );
        }
        assert_eq!(member(r#"{"item": "a", "quantity": 1, "key": 7}"#), "key");
        assert!(matches!(amount(b"{"), Err(RequestError::Json(_))));
        assert!(
            amount(format!(r#"{{"item": "{}", "quantity": 1000000}}"#, "x".repeat(128)).as_bytes())
                .is_ok()
        );
    }

    #[test]
    fn an_item_in_a_path_is_decoded() {
        assert_eq!(item("green%20tea").as_deref(), Some("green tea"));
        assert_eq!(item("t%C3%A9").as_deref(), Some("té"));
        for wrong in ["", "%", "%2", "%zz", "%00", "%ff", "a%0a"] {
            assert_eq!(item(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_page_has_a_beginning_and_a_length_within_limits() {
        assert_eq!(page(""), Ok((0, 20)));
        assert_eq!(page("after=7&limit=100&x=y"), Ok((7, 100)));
        assert_eq!(page("limit=1"), Ok((0, 1)));
        for wrong in [
            "limit=0",
            "limit=101",
            "limit=",
            "limit=x",
            "after=-1",
            "after=x",
            "after",
        ] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }
}
