//! The rules of presence, with time as an argument.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use trellis_claims::{KeyKind, PublicKey, SigningKey};
use trellis_protocol::LatticeName;

use super::*;

const INTERVAL: Duration = Duration::from_millis(500);

fn key() -> PublicKey {
    SigningKey::generate(KeyKind::Host).public().clone()
}

fn beat(host: &PublicKey, incarnation: u64, number: u64) -> Beat {
    Beat {
        host: host.clone(),
        lattice: LatticeName::default(),
        incarnation,
        number,
        roster_version: 1,
        state_sequence: 0,
        state: State::Serving,
        interval_ms: 500,
        uptime_ms: 0,
    }
}

fn validity() -> Validity {
    Validity::starting(UnixTime::from_secs(1000), Duration::from_secs(1000))
}

const CLOCK: UnixTime = UnixTime::from_secs(1500);

fn admitted(host: &PublicKey, now: Instant) -> Table {
    let mut table = Table::new(now);
    table.beat(&beat(host, 1, 1), now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    assert!(table.admit(&pull, 1, validity()));
    table
}

/// Sweeps as the listener does, so that no pause looks like a stall.
fn sweep_until(table: &mut Table, from: Instant, to: Duration) -> Vec<(Duration, Change)> {
    let mut changes = Vec::new();
    let mut at = Duration::ZERO;
    while at <= to {
        let swept = table.sweep(from + at, CLOCK);
        changes.extend(swept.into_iter().map(|change| (at, change)));
        at += Duration::from_millis(100);
    }
    changes
}

fn lost(host: &PublicKey, reason: LostReason) -> Change {
    Change::Lost {
        host: host.to_string(),
        reason,
    }
}

#[test]
fn a_silent_host_is_suspect_after_two_beats_and_gone_after_five() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let changes = sweep_until(&mut table, now, INTERVAL * 6);
    let suspect = Change::Suspect {
        host: host.to_string(),
    };
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0], (Duration::from_millis(1300), suspect));
    // Within the three seconds that a lattice of fifty hosts may take.
    assert_eq!(
        changes[1],
        (Duration::from_millis(2800), lost(&host, LostReason::Silent))
    );
}

#[test]
fn a_beat_in_time_keeps_a_host() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    sweep_until(&mut table, now, Duration::from_millis(1200));
    let later = now + Duration::from_millis(1200);
    assert_eq!(
        table.beat(&beat(&host, 1, 2), later).unwrap(),
        [Change::Alive]
    );
    assert!(sweep_until(&mut table, later, Duration::from_millis(1200)).is_empty());
}

#[test]
fn an_old_beat_heard_again_is_no_news_not_even_of_a_host_that_is_gone() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    assert_eq!(
        table.beat(&beat(&host, 1, 1), now),
        Err(Rejection::Replayed)
    );
    sweep_until(&mut table, now, INTERVAL * 6);
    assert_eq!(
        table.beat(&beat(&host, 1, 1), now),
        Err(Rejection::Replayed)
    );
    assert_eq!(
        table.beat(&beat(&host, 0, 9), now),
        Err(Rejection::Replayed)
    );
    assert!(table.beat(&beat(&host, 1, 2), now).is_ok());
}

#[test]
fn a_restarted_host_loses_its_former_incarnation_and_shows_its_roster_again() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let changes = table.beat(&beat(&host, 2, 1), now).unwrap();
    assert_eq!(changes, [lost(&host, LostReason::Restarted)]);
    assert_eq!(table.pull(host.as_str(), now).unwrap().incarnation, 2);
    assert_eq!(
        table.beat(&beat(&host, 1, 99), now),
        Err(Rejection::Replayed)
    );
}

#[test]
fn a_goodbye_takes_a_host_out_at_once_and_for_good() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let mut goodbye = beat(&host, 1, 2);
    goodbye.state = State::Leaving;
    assert_eq!(
        table.beat(&goodbye, now).unwrap(),
        [lost(&host, LostReason::Left)]
    );
    assert_eq!(
        table.beat(&beat(&host, 1, 2), now),
        Err(Rejection::Replayed)
    );
}

#[test]
fn a_roster_is_pulled_once_and_again_when_it_changes() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    assert_eq!(table.pull(host.as_str(), now), None);
    let mut changed = beat(&host, 1, 2);
    changed.roster_version = 2;
    table.beat(&changed, now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    assert_eq!(pull.version, 2);
    assert_eq!(table.pull(host.as_str(), now), None, "one is under way");
    table.retry(&pull, now);
    assert_eq!(table.pull(host.as_str(), now), None);
    assert_eq!(table.pull(host.as_str(), now + RETRY_PAUSE), Some(pull));
}

#[test]
fn a_host_without_a_valid_certificate_is_left_alone_for_a_while_and_warned_of_once() {
    let (host, now) = (key(), Instant::now());
    let mut table = Table::new(now);
    table.beat(&beat(&host, 1, 1), now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    assert_eq!(table.refuse(&pull, now), (true, None));
    assert!(table.beat(&beat(&host, 1, 2), now).unwrap().is_empty());
    assert_eq!(table.pull(host.as_str(), now), None);
    let pull = table.pull(host.as_str(), now + REFUSED_PAUSE).unwrap();
    assert_eq!(table.refuse(&pull, now), (false, None));
}

#[test]
fn an_admitted_host_that_shows_a_bad_certificate_is_lost() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let mut changed = beat(&host, 1, 2);
    changed.roster_version = 2;
    table.beat(&changed, now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    let gone = lost(&host, LostReason::Certificate);
    assert_eq!(table.refuse(&pull, now), (true, Some(gone)));
}

#[test]
fn a_host_goes_when_its_certificate_ends() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let before = UnixTime::from_secs(2030);
    assert!(table.sweep(now, before).is_empty());
    let after = UnixTime::from_secs(2031);
    assert_eq!(
        table.sweep(now, after),
        [lost(&host, LostReason::Certificate)]
    );
}

#[test]
fn a_process_that_stood_still_calls_nobody_silent() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let later = now + Duration::from_secs(60);
    assert!(table.sweep(later, CLOCK).is_empty());
    assert!(
        table
            .sweep(later + Duration::from_millis(100), CLOCK)
            .is_empty()
    );
    assert_eq!(sweep_until(&mut table, later, INTERVAL * 6).len(), 2);
}

#[test]
fn an_answer_about_a_former_incarnation_changes_nothing() {
    let (host, now) = (key(), Instant::now());
    let mut table = Table::new(now);
    table.beat(&beat(&host, 1, 1), now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    table.beat(&beat(&host, 2, 1), now).unwrap();
    assert!(!table.admit(&pull, 1, validity()));
    assert_eq!(table.refuse(&pull, now), (false, None));
    assert!(table.pull(host.as_str(), now).is_some());
}

#[test]
fn candidates_push_out_the_one_heard_longest_ago_and_never_an_admitted_host() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let first = key();
    table.beat(&beat(&first, 1, 1), now).unwrap();
    for number in 0..CANDIDATES_MAX {
        let at = now + Duration::from_millis(1 + number as u64);
        table.beat(&beat(&key(), 1, 1), at).unwrap();
    }
    assert!(table.pull(first.as_str(), now).is_none());
    assert_eq!(table.heard.len(), 1 + CANDIDATES_MAX);
    assert!(table.heard.contains_key(host.as_str()));
}

#[test]
fn the_last_host_fits_and_one_more_is_refused() {
    let now = Instant::now();
    let mut table = Table::new(now);
    for _ in 0..HOSTS_MAX {
        let host = key();
        table.beat(&beat(&host, 1, 1), now).unwrap();
        let pull = table.pull(host.as_str(), now).unwrap();
        assert!(table.admit(&pull, 1, validity()));
    }
    assert_eq!(
        table.beat(&beat(&key(), 1, 1), now),
        Err(Rejection::TooManyHosts)
    );
}

#[test]
fn regression_keys_that_were_never_admitted_push_no_grave_out() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let mut goodbye = beat(&host, 1, 9);
    goodbye.state = State::Leaving;
    table.beat(&goodbye, now).unwrap();
    for number in 0..GRAVES_MAX {
        let thrown_away = key();
        // Some say goodbye at once, some after a beat.
        if number % 2 == 0 {
            table.beat(&beat(&thrown_away, 1, 1), now).unwrap();
        }
        let mut goodbye = beat(&thrown_away, 1, 2);
        goodbye.state = State::Leaving;
        table.beat(&goodbye, now).unwrap();
    }
    assert_eq!(table.graves.len(), 1);
    assert_eq!(
        table.beat(&beat(&host, 1, 8), now),
        Err(Rejection::Replayed)
    );
}

#[test]
fn a_host_that_was_refused_later_has_its_grave_all_the_same() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let mut changed = beat(&host, 1, 5);
    changed.roster_version = 2;
    table.beat(&changed, now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    table.refuse(&pull, now);
    // It is a candidate again, and the one that was heard longest ago.
    for number in 0..CANDIDATES_MAX {
        let at = now + Duration::from_millis(1 + number as u64);
        table.beat(&beat(&key(), 1, 1), at).unwrap();
    }
    assert!(!table.heard.contains_key(host.as_str()));
    let old = beat(&host, 1, 4);
    assert_eq!(table.beat(&old, now), Err(Rejection::Replayed));
}

#[test]
fn a_grave_keeps_up_with_a_later_run_that_was_not_admitted() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    table.beat(&beat(&host, 2, 7), now).unwrap();
    let mut goodbye = beat(&host, 2, 8);
    goodbye.state = State::Leaving;
    table.beat(&goodbye, now).unwrap();
    assert_eq!(
        table.beat(&beat(&host, 2, 8), now),
        Err(Rejection::Replayed)
    );
}

#[test]
fn a_host_that_knocks_is_asked_for_its_roster_and_then_expected_to_beat() {
    let (host, now) = (key(), Instant::now());
    let mut table = Table::new(now);
    assert_eq!(table.knock(host.as_str(), 1, INTERVAL, now), Ok(vec![]));
    let pull = table.pull(host.as_str(), now).unwrap();
    assert_eq!((pull.incarnation, pull.version), (1, 0));
    assert_eq!(table.knock(host.as_str(), 1, INTERVAL, now), Ok(vec![]));
    assert_eq!(table.pull(host.as_str(), now), None, "one is under way");
    assert!(table.admit(&pull, 1, validity()));
    // Its first beat is news, and names the roster that is there already.
    assert_eq!(table.beat(&beat(&host, 1, 1), now), Ok(vec![Change::Alive]));
    assert_eq!(table.pull(host.as_str(), now), None);

    let silent = key();
    table.knock(silent.as_str(), 1, INTERVAL, now).unwrap();
    let pull = table.pull(silent.as_str(), now).unwrap();
    assert!(table.admit(&pull, 1, validity()));
    let changes = sweep_until(&mut table, now, INTERVAL * 6);
    let gone = lost(&silent, LostReason::Silent);
    assert!(changes.iter().any(|(_, change)| *change == gone));
}

#[test]
fn a_host_that_knocks_in_a_new_run_has_lost_the_former_one() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    assert_eq!(table.knock(host.as_str(), 1, INTERVAL, now), Ok(vec![]));
    assert_eq!(
        table.knock(host.as_str(), 2, INTERVAL, now),
        Ok(vec![lost(&host, LostReason::Restarted)])
    );
    assert_eq!(
        table.knock(host.as_str(), 1, INTERVAL, now),
        Err(Rejection::Replayed)
    );
}

#[test]
fn a_recorded_knock_brings_nobody_back() {
    let (host, now) = (key(), Instant::now());
    let mut table = admitted(&host, now);
    let mut goodbye = beat(&host, 1, 2);
    goodbye.state = State::Leaving;
    table.beat(&goodbye, now).unwrap();
    assert_eq!(
        table.knock(host.as_str(), 1, INTERVAL, now),
        Err(Rejection::Replayed)
    );
    assert_eq!(table.pull(host.as_str(), now), None);
}

#[test]
fn regression_a_roster_that_was_announced_during_a_failed_pull_is_asked_for_at_once() {
    let (host, now) = (key(), Instant::now());
    let mut table = Table::new(now);
    table.knock(host.as_str(), 1, INTERVAL, now).unwrap();
    let pull = table.pull(host.as_str(), now).unwrap();
    table.beat(&beat(&host, 1, 1), now).unwrap();
    table.retry(&pull, now);
    let pull = table.pull(host.as_str(), now).unwrap();
    assert_eq!(pull.version, 1);
    table.retry(&pull, now);
    assert_eq!(table.pull(host.as_str(), now), None);
}
