//! Who finds a place on the doorstep, and for how long.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use trellis_claims::{KeyKind, SigningKey};
use trellis_protocol::envelope::{Address, seal};

use super::*;

const REASON: PeerRejection = PeerRejection::Stranger;

fn key() -> SigningKey {
    SigningKey::generate(KeyKind::Host)
}

fn frame(key: &SigningKey, sequence: u64, bytes: usize) -> Bytes {
    let address = Address {
        recipient: "NR",
        recipient_incarnation: 1,
        sender_incarnation: 5,
        sequence,
        sent_ms: 0,
    };
    seal(key, &address, &vec![0; bytes]).unwrap().into()
}

/// Keeps frames until one is not, and says how many were; the checks of each second are not what ends it.
fn fill(doorstep: &mut Doorstep, mut frame: impl FnMut(u64) -> Bytes) -> usize {
    let mut kept = 0;
    let now = Instant::now();
    while doorstep.keep(&frame(kept), 0, REASON, now).is_ok() {
        doorstep.checks.1 = 0;
        kept += 1;
    }
    kept as usize
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_of_a_run_knocks_and_those_behind_it_wait_in_order() {
    let (one, other, now) = (key(), key(), Instant::now());
    let mut doorstep = Doorstep::new(now);
    let knock = doorstep.keep(&frame(&one, 0, 1), 7, REASON, now).unwrap();
    let knock = knock.unwrap();
    assert_eq!((&knock.host, knock.incarnation), (one.public(), 5));
    let knocks = |doorstep: &mut Doorstep, key, sequence| {
        let kept = doorstep.keep(&frame(key, sequence, 1), 8, REASON, now);
        kept.unwrap().is_some()
    };
    assert!(!knocks(&mut doorstep, &one, 1));
    assert!(knocks(&mut doorstep, &other, 0));
    assert!(!knocks(&mut doorstep, &one, 2));
    assert!(doorstep.holds(one.public().as_str()));
    let taken = doorstep.take(|sealed| sealed.sender == one.public().as_str());
    let numbers: Vec<_> = taken
        .iter()
        .map(|waiting| waiting.sealed.sequence)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(taken[0].arrived_ms, 7);
    assert!(!doorstep.holds(one.public().as_str()));
    assert!(doorstep.holds(other.public().as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_frame_waits_its_time_and_no_longer() {
    let now = Instant::now();
    let mut doorstep = Doorstep::new(now);
    assert_eq!(doorstep.next_end(), None);
    doorstep.keep(&frame(&key(), 0, 1), 0, REASON, now).unwrap();
    assert_eq!(doorstep.next_end(), Some(now + WAIT));
    assert_eq!(doorstep.expire(now + WAIT - Duration::from_millis(1)), None);
    assert_eq!(doorstep.expire(now + WAIT), Some(REASON));
    assert_eq!(doorstep.expire(now + WAIT), None);
}

#[tokio::test(start_paused = true)]
async fn one_sender_cannot_take_the_room_of_all() {
    let (greedy, small) = (key(), key());
    let mut doorstep = Doorstep::new(Instant::now());
    let kept = fill(&mut doorstep, |sequence| frame(&greedy, sequence, 1));
    assert_eq!(kept, FRAMES_PER_SENDER_MAX);
    let large = key();
    let kept = fill(&mut doorstep, |sequence| frame(&large, sequence, 60_000));
    assert_eq!(kept, BYTES_PER_SENDER_MAX / frame(&large, 0, 60_000).len());
    assert!(
        doorstep
            .keep(&frame(&small, 0, 1), 0, REASON, Instant::now())
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn many_senders_fill_the_doorstep_and_no_more() {
    let mut doorstep = Doorstep::new(Instant::now());
    let kept = fill(&mut doorstep, |sequence| frame(&key(), sequence, 1));
    assert_eq!(kept, FRAMES_MAX);
    let mut doorstep = Doorstep::new(Instant::now());
    let kept = fill(&mut doorstep, |sequence| frame(&key(), sequence, 61_440));
    assert_eq!(kept, BYTES_MAX / frame(&key(), 0, 61_440).len());
    // Who has waited makes room.
    let later = Instant::now() + WAIT;
    while doorstep.expire(later).is_some() {}
    assert_eq!(
        fill(&mut doorstep, |sequence| frame(&key(), sequence, 61_440)),
        kept
    );
}

#[tokio::test(start_paused = true)]
async fn signatures_are_checked_so_often_in_a_second_and_no_more() {
    let (honest, now) = (key(), Instant::now());
    let mut doorstep = Doorstep::new(now);
    let mut forged = frame(&key(), 0, 1).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Bytes::from(forged);
    for _ in 0..CHECKS_PER_SECOND_MAX {
        assert_eq!(doorstep.keep(&forged, 0, REASON, now).err(), Some(REASON));
    }
    let frame = frame(&honest, 0, 1);
    assert!(doorstep.keep(&frame, 0, REASON, now).is_err());
    let next = now + Duration::from_secs(1);
    assert!(doorstep.keep(&frame, 0, REASON, next).is_ok());
}
