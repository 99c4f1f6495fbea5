//! The life of a link, and writers that meet.

use super::*;
use crate::fake::{FakeWorld, made};

const HERE: &str = "https://here.example/";
const THERE: &str = "https://there.example/";

fn url(text: &str) -> HttpUrl {
    HttpUrl::parse(text).expect("the test uses valid urls")
}

fn code(text: &str) -> Code {
    Code::parse(text).expect("the test uses valid codes")
}

fn code_of(world: &FakeWorld, text: &str) -> Result<String, LinkError> {
    shorten(&world, &url(text), None).map(|shortened| shortened.code.to_string())
}

#[test]
fn a_url_posted_twice_gets_the_same_code() {
    let world = FakeWorld::new();
    assert_eq!(code_of(&world, HERE), Ok("code0".to_owned()));
    assert_eq!(code_of(&world, HERE), Ok("code0".to_owned()));
}

#[test]
fn a_code_that_stands_for_another_url_is_passed_over() {
    let world = FakeWorld::new().with_link("code0", THERE);
    assert_eq!(code_of(&world, HERE), Ok("code1".to_owned()));
    assert_eq!(code_of(&world, THERE), Ok("code0".to_owned()));
}

#[test]
fn a_code_that_another_writer_claimed_first_is_never_overwritten() {
    let mut world = FakeWorld::new();
    world.counters.get_mut().insert("claim.code0".to_owned(), 1);
    world.meanwhile = Some(Box::new(|world| world.put_link("code0", THERE)));
    assert_eq!(code_of(&world, HERE), Ok("code1".to_owned()));
    assert_eq!(
        peek(&&world, &code("code0")),
        Ok(Some(url(THERE))),
        "the other writer's link stands"
    );
}

#[test]
fn two_writers_of_one_url_end_with_one_code() {
    let mut world = FakeWorld::new();
    world.counters.get_mut().insert("claim.code0".to_owned(), 1);
    world.meanwhile = Some(Box::new(|world| world.put_link("code0", HERE)));
    assert_eq!(code_of(&world, HERE), Ok("code0".to_owned()));
    assert_eq!(world.pauses.get(), 1);
}

#[test]
fn a_claim_whose_writer_died_is_passed_over_after_a_bounded_wait() {
    let mut world = FakeWorld::new();
    world.counters.get_mut().insert("claim.code0".to_owned(), 1);
    assert_eq!(code_of(&world, HERE), Ok("code1".to_owned()));
    assert_eq!(world.pauses.get(), LOOKS_MAX);
    assert_eq!(
        code_of(&world, HERE),
        Ok("code1".to_owned()),
        "and stays so"
    );
}

#[test]
fn sixteen_taken_codes_are_the_end() {
    let world = FakeWorld::new();
    for attempt in 0..15 {
        world.put_link(&format!("code{attempt}"), THERE);
    }
    assert_eq!(code_of(&world, HERE), Ok("code15".to_owned()));
    world.put_link("code15", THERE);
    assert_eq!(code_of(&world, HERE), Err(LinkError::NoFreeCode));
}

#[test]
fn a_reserved_code_is_passed_over_and_a_malformed_one_is_an_error() {
    let mut world = FakeWorld::new();
    world.maker = Box::new(|_, _, attempt| Ok(made(["links", "free"][attempt as usize])));
    assert_eq!(code_of(&world, HERE), Ok("free".to_owned()));
    for text in ["", "a/b", "claim.x", &"x".repeat(33)] {
        let text = text.to_owned();
        world.maker = Box::new(move |_, _, _| Ok(made(&text)));
        assert_eq!(code_of(&world, HERE), Err(LinkError::NoCode));
    }
}

#[test]
fn each_follow_counts_and_a_peek_does_not() {
    let world = FakeWorld::new().with_link("abc", HERE);
    let world = &world;
    assert_eq!(follow(&world, &code("abc")), Ok(Some(url(HERE))));
    assert_eq!(follow(&world, &code("abc")), Ok(Some(url(HERE))));
    assert_eq!(peek(&world, &code("abc")), Ok(Some(url(HERE))));
    assert_eq!(
        stats(&world, &code("abc")),
        Ok(Some(Stats {
            url: url(HERE),
            clicks: 2
        }))
    );
}

#[test]
fn an_unknown_code_leads_nowhere_and_leaves_no_counter() {
    let world = FakeWorld::new();
    assert_eq!(follow(&&world, &code("abc")), Ok(None));
    assert_eq!(stats(&&world, &code("abc")), Ok(None));
    assert!(world.counters.borrow().is_empty());
}

#[test]
fn a_stored_value_that_is_no_url_is_not_followed() {
    let world = FakeWorld::new().with_link("abc", "javascript:alert(1)");
    assert_eq!(
        follow(&&world, &code("abc")),
        Err(LinkError::Damaged(code("abc")))
    );
}
