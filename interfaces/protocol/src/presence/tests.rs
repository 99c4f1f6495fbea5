//! Beats and rosters: bytes, limits, forgeries.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use trellis_claims::ContentHash;

use super::*;
use crate::id::EntityId;

fn key() -> SigningKey {
    SigningKey::generate(KeyKind::Host)
}

fn beat(key: &SigningKey) -> Beat {
    Beat {
        host: key.public().clone(),
        lattice: LatticeName::default(),
        incarnation: 1,
        number: 2,
        roster_version: 3,
        state_sequence: 4,
        state: State::Serving,
        interval_ms: 500,
        uptime_ms: 6,
    }
}

fn roster(key: &SigningKey) -> Roster {
    Roster {
        host: key.public().clone(),
        incarnation: 1,
        version: 2,
        certificate: Some("jwt".to_owned()),
        name: "n".to_owned(),
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        actors: vec![RosterActor {
            id: EntityId::new("a").unwrap(),
            subject: SigningKey::generate(KeyKind::Module).public().clone(),
            content_hash: ContentHash::from_bytes([7; 32]),
            count: 100,
        }],
        providers: vec![RosterProvider {
            id: EntityId::new("p").unwrap(),
            name: "http-server".to_owned(),
        }],
    }
}

#[test]
fn the_bytes_of_a_beat_are_these() {
    let key = key();
    let bytes = beat(&key).seal(&key).unwrap();
    let expected = [
        b"\x99\xd9\x38",
        key.public().as_str().as_bytes(),
        b"\xa7default\x01\x02\x03\x04\xa7serving\xcd\x01\xf4\x06",
    ]
    .concat();
    assert_eq!(bytes[0], 1);
    assert_eq!(&bytes[65..], &expected[..]);
    assert_eq!(Beat::open(&bytes).unwrap(), beat(&key));
}

#[test]
fn no_changed_bit_of_a_beat_passes() {
    let key = key();
    let bytes = beat(&key).seal(&key).unwrap();
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert!(Beat::open(&changed).is_err(), "byte {position}");
        assert!(Beat::open(&bytes[..position]).is_err());
    }
}

#[test]
fn a_beat_or_roster_of_another_host_cannot_be_made_or_read() {
    let (one, other) = (key(), key());
    assert!(beat(&one).seal(&other).is_err());
    assert!(roster(&one).seal(&other).is_err());
    let account = SigningKey::generate(KeyKind::Account);
    assert!(beat(&account).seal(&account).is_err());
}

#[test]
fn a_beat_is_no_roster_and_a_roster_no_beat() {
    let key = key();
    assert!(Roster::open(&beat(&key).seal(&key).unwrap()).is_err());
    assert!(Beat::open(&roster(&key).seal(&key).unwrap()).is_err());
}

#[test]
fn an_unknown_version_is_refused() {
    let key = key();
    let mut bytes = beat(&key).seal(&key).unwrap();
    bytes[0] = 2;
    assert_eq!(
        Beat::open(&bytes),
        Err(PresenceError::UnknownVersion { version: 2 })
    );
}

#[test]
fn a_roster_comes_back_as_it_was() {
    let key = key();
    let bytes = roster(&key).seal(&key).unwrap();
    assert_eq!(Roster::open(&bytes).unwrap(), roster_as(&key, &bytes));
}

/// The module key of [`roster`] is new each time, so the expected one is read from the bytes.
fn roster_as(key: &SigningKey, bytes: &[u8]) -> Roster {
    let mut expected = roster(key);
    let read: Roster = rmp_serde::from_slice(&bytes[65..]).unwrap();
    expected.actors[0].subject = read.actors[0].subject.clone();
    expected
}

#[test]
fn the_most_entries_fit_and_one_more_is_refused() {
    let key = key();
    let mut roster = roster(&key);
    let mut provider = roster.providers[0].clone();
    provider.name = "x".to_owned();
    roster.providers = vec![provider.clone(); ROSTER_ENTRIES_MAX];
    assert!(Roster::open(&roster.seal(&key).unwrap()).is_ok());
    roster.providers.push(provider);
    assert!(matches!(
        roster.seal(&key),
        Err(PresenceError::TooMany { .. })
    ));
    let forged = seal(&key, &roster.host, ROSTER_CONTEXT, &roster, "", usize::MAX).unwrap();
    assert!(matches!(
        Roster::open(&forged),
        Err(PresenceError::TooMany { .. })
    ));
}

#[test]
fn a_roster_beyond_its_bytes_is_refused_unread() {
    assert!(matches!(
        Roster::open(&vec![1; ROSTER_BYTES_MAX + 1]),
        Err(PresenceError::Length { .. })
    ));
    let key = key();
    let mut large = roster(&key);
    large.certificate = Some("x".repeat(ROSTER_BYTES_MAX));
    assert!(matches!(
        large.seal(&key),
        Err(PresenceError::Length { .. })
    ));
}

#[test]
fn mutated_rosters_never_panic() {
    let key = key();
    let bytes = roster(&key).seal(&key).unwrap();
    for position in 65..bytes.len() {
        for value in [0x00, 0x7f, 0x9f, 0xc4, 0xdd, 0xff] {
            let mut mutated = bytes.clone();
            mutated[position] = value;
            if mutated != bytes {
                assert!(Roster::open(&mutated).is_err());
            }
        }
    }
}

#[test]
fn the_interval_keeps_the_lattice_at_a_hundred_beats_a_second() {
    assert_eq!(beat_interval(0), BEAT_INTERVAL_MIN);
    assert_eq!(beat_interval(50), Duration::from_millis(500));
    assert_eq!(beat_interval(51), Duration::from_millis(510));
    assert_eq!(beat_interval(1000), Duration::from_secs(10));
    assert_eq!(beat_interval(usize::MAX), BEAT_INTERVAL_MAX);
}

#[test]
fn a_stated_interval_is_believed_within_bounds() {
    let mut beat = beat(&key());
    beat.interval_ms = 0;
    assert_eq!(beat.interval(), BEAT_INTERVAL_MIN);
    beat.interval_ms = u32::MAX;
    assert_eq!(beat.interval(), BEAT_INTERVAL_MAX);
}
