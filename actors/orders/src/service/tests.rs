//! What clients see.

use serde_json::{Value, json};

use super::*;
use crate::fake::{FakeWorld, order, refused, stock};

fn get(world: &FakeWorld, path: &str) -> Reply {
    answer(world, "GET", path, || panic!("the body was read"))
}

fn post(world: &FakeWorld, path: &str, body: &str) -> Reply {
    answer(world, "POST", path, || Ok(body.as_bytes().to_vec()))
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).expect("the body is json")
}

const TEA: &str = r#"{"item": "tea'; --", "quantity": 2, "key": "k"}"#;

#[test]
fn an_order_is_placed_by_one_statement_with_parameters_alone() {
    let world = FakeWorld::answering([Ok(vec![order(7, "tea'; --", 2)])]);
    let reply = post(&world, "/orders", TEA);
    assert_eq!(reply.status, 201);
    assert!(reply.fields.contains(&("location", "/orders/7".to_owned())));
    let placed = json!({"id": 7, "item": "tea'; --", "quantity": 2, "created": "2026-01-02T03:04:05.000000Z"});
    assert_eq!(json_of(&reply), placed);
    let asked = world.asked.borrow();
    let [(sql, params)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert!(!sql.contains("tea") && sql.contains("quantity >= $2"));
    assert_eq!(*params, ["Text(\"tea'; --\")", "Number(2)", "Text(\"k\")"]);
}

#[test]
fn tables_are_made_by_whoever_finds_none() {
    let world = FakeWorld::answering([refused("42P01"), Ok(vec![]), Ok(vec![stock("tea", 5)])]);
    let reply = post(&world, "/stock", r#"{"item": "tea", "quantity": 5}"#);
    assert_eq!(
        (reply.status, json_of(&reply)),
        (200, json!({"item": "tea", "quantity": 5}))
    );
    let asked = world.asked.borrow();
    assert!(asked[1].0.contains("CREATE TABLE IF NOT EXISTS"));
    assert_eq!(asked[0], asked[2]);
}

#[test]
fn too_little_stock_is_a_conflict_that_tells_what_is_left() {
    for (rows, left) in [(vec![stock("tea", 1)], 1), (vec![], 0)] {
        let world = FakeWorld::answering([Ok(vec![]), Ok(rows)]);
        let reply = post(&world, "/orders", r#"{"item": "tea", "quantity": 2}"#);
        assert_eq!(reply.status, 409);
        let document = json_of(&reply);
        assert_eq!(document["left"], left);
        assert_eq!(document["type"], "tag:orders.example,2026:out-of-stock");
    }
}

#[test]
fn the_same_key_gives_back_the_same_order_and_no_other() {
    for first in [refused("23505"), Ok(vec![])] {
        let world = FakeWorld::answering([first, Ok(vec![order(7, "tea'; --", 2)])]);
        let reply = post(&world, "/orders", TEA);
        assert_eq!((reply.status, &json_of(&reply)["id"]), (200, &json!(7)));
    }
    let world = FakeWorld::answering([refused("23505"), Ok(vec![order(7, "tea'; --", 3)])]);
    let reply = post(&world, "/orders", TEA);
    assert_eq!(
        (reply.status, &json_of(&reply)["type"]),
        (409, &json!("tag:orders.example,2026:key-used"))
    );
}

#[test]
fn orders_come_in_pages() {
    let rows = || vec![order(4, "a", 1), order(6, "b", 1), order(9, "c", 1)];
    let world = FakeWorld::answering([Ok(rows()), Ok(rows())]);
    let page = json_of(&get(&world, "/orders?after=3&limit=2"));
    assert_eq!(
        (page["orders"].as_array().map(Vec::len), &page["next"]),
        (Some(2), &json!(6))
    );
    assert_eq!(world.asked.borrow()[0].1, ["Number(3)", "Number(3)"]);
    let page = json_of(&get(&world, "/orders?limit=3"));
    assert_eq!(
        (page["orders"].as_array().map(Vec::len), &page["next"]),
        (Some(3), &Value::Null)
    );
}

#[test]
fn what_is_not_there_is_not_found() {
    let world = FakeWorld::answering([Ok(vec![]), Ok(vec![]), Ok(vec![order(7, "a", 1)])]);
    assert_eq!(get(&world, "/orders/7").status, 404);
    assert_eq!(get(&world, "/stock/tea").status, 404);
    assert_eq!(get(&world, "/orders/7").status, 200);
    assert_eq!(get(&world, "/nothing").status, 404);
    assert_eq!(answer(&world, "PUT", "/orders", || Ok(vec![])).status, 405);
}

#[test]
fn a_request_that_makes_no_sense_never_reaches_the_database() {
    let world = FakeWorld::default();
    for body in [
        "",
        "{}",
        r#"{"item": "a", "quantity": 0}"#,
        r#"{"quantity": 1}"#,
    ] {
        assert_eq!(post(&world, "/orders", body).status, 400, "{body}");
        assert_eq!(post(&world, "/stock", body).status, 400, "{body}");
    }
    assert_eq!(get(&world, "/orders?limit=1000").status, 400);
    let large = answer(&world, "POST", "/orders", || Err(BodyError::TooLarge));
    assert_eq!(large.status, 413);
}

#[test]
fn a_database_that_is_away_is_a_503_with_the_reason_and_in_the_log() {
    let world = FakeWorld::answering([refused("57P01"), refused("42P01"), refused("42501")]);
    let reply = get(&world, "/orders");
    assert_eq!(reply.status, 503);
    assert!(
        json_of(&reply)["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("57P01"))
    );
    assert_eq!(get(&world, "/orders").status, 503);
    assert_eq!(world.logged.borrow().len(), 2);
}

#[test]
fn a_row_of_another_form_is_no_panic() {
    let world = FakeWorld::answering([Ok(vec![vec![]]), Ok(vec![vec![crate::world::Field::Null]])]);
    assert_eq!(get(&world, "/orders/1").status, 503);
    assert_eq!(get(&world, "/stock/a").status, 503);
}
