//! Days and times of day: PostgreSQL counts days and microseconds from the first moment of the year 2000.
//!
//! Years are astronomical: the year before 1 is 0, which PostgreSQL writes as `0001 BC`.

use crate::wit::types::{Date, Offset, Time, TimeTz, Timestamp, TimestampTz};

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Days from 1 March of the year 0 to 1 January 2000.
const EPOCH_DAYS: i64 = 730_425;

/// Farthest offset from UTC that PostgreSQL takes, in seconds.
const OFFSET_SECONDS_MAX: i32 = 15 * 3600 + 59 * 60 + 59;

/// First and last year that are taken; PostgreSQL's own limits for each type lie within.
const YEARS: std::ops::RangeInclusive<i32> = -4713..=5_874_897;

/// The day of a count; its extremes are the infinities.
pub(crate) fn date(days: i32) -> Date {
    match days {
        i32::MAX => Date::PositiveInfinity,
        i32::MIN => Date::NegativeInfinity,
        days => ymd(i64::from(days)),
    }
}

/// The count of a day.
pub(crate) fn days(date: &Date) -> Result<i32, String> {
    match date {
        Date::PositiveInfinity => Ok(i32::MAX),
        Date::NegativeInfinity => Ok(i32::MIN),
        Date::Ymd((year, month, day)) => {
            i32::try_from(days_of(*year, *month, *day)?).map_err(|_| "no such day".to_owned())
        }
    }
}

/// The time of day of a count of microseconds. A day may end at 24:00.
pub(crate) fn time(micros: i64) -> Option<Time> {
    if !(0..=DAY_MICROS).contains(&micros) {
        return None;
    }
    let part = |of: i64| u32::try_from(of).ok();
    Some(Time {
        hour: part(micros / 3_600_000_000)?,
        min: part(micros / 60_000_000 % 60)?,
        sec: part(micros / 1_000_000 % 60)?,
        micro: part(micros % 1_000_000)?,
    })
}

/// The count of microseconds of a time of day.
pub(crate) fn micros(time: &Time) -> Result<i64, String> {
    // All factors are of 32 bits, so nothing overflows before it is judged.
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.min) * 60 + i64::from(time.sec);
    let valid = time.hour <= 24 && time.min < 60 && time.sec < 60 && time.micro < 1_000_000;
    match valid.then(|| seconds * 1_000_000 + i64::from(time.micro)) {
        Some(micros) if micros <= DAY_MICROS => Ok(micros),
        _ => Err("no such time of day".to_owned()),
    }
}

/// The day and time of a count of microseconds; its extremes are the infinities.
pub(crate) fn timestamp(count: i64) -> Option<Timestamp> {
    let midnight = Time {
        hour: 0,
        min: 0,
        sec: 0,
        micro: 0,
    };
    Some(match count {
        i64::MAX => Timestamp {
            date: Date::PositiveInfinity,
            time: midnight,
        },
        i64::MIN => Timestamp {
            date: Date::NegativeInfinity,
            time: midnight,
        },
        count => Timestamp {
            date: ymd(count.div_euclid(DAY_MICROS)),
            time: time(count.rem_euclid(DAY_MICROS))?,
        },
    })
}

/// The count of microseconds of a day and time.
pub(crate) fn timestamp_micros(timestamp: &Timestamp) -> Result<i64, String> {
    match timestamp.date {
        Date::PositiveInfinity => Ok(i64::MAX),
        Date::NegativeInfinity => Ok(i64::MIN),
        Date::Ymd((year, month, day)) => days_of(year, month, day)?
            .checked_mul(DAY_MICROS)
            .and_then(|count| count.checked_add(micros(&timestamp.time).ok()?))
            .ok_or_else(|| "no such moment".to_owned()),
    }
}

/// A moment, in UTC.
pub(crate) fn timestamp_tz(count: i64) -> Option<TimestampTz> {
    Some(TimestampTz {
        timestamp: timestamp(count)?,
        offset: Offset::WesternHemisphereSecs(0),
    })
}

/// The count of microseconds, in UTC, of a moment that is given as local day and time.
pub(crate) fn timestamp_tz_micros(moment: &TimestampTz) -> Result<i64, String> {
    let east = match moment.offset {
        Offset::EasternHemisphereSecs(seconds) => seconds.checked_abs().map(|_| seconds),
        Offset::WesternHemisphereSecs(seconds) => seconds.checked_neg(),
    };
    let east = east
        .filter(|seconds| seconds.abs() <= OFFSET_SECONDS_MAX)
        .ok_or("no such offset from UTC")?;
    let local = timestamp_micros(&moment.timestamp)?;
    match moment.timestamp.date {
        Date::Ymd(_) => local
            .checked_sub(i64::from(east) * 1_000_000)
            .ok_or_else(|| "no such moment".to_owned()),
        Date::PositiveInfinity | Date::NegativeInfinity => Ok(local),
    }
}

/// A time of day in a zone that lies this many seconds west of UTC, as PostgreSQL counts them.
pub(crate) fn time_tz(count: i64, west: i32) -> Option<TimeTz> {
    Some(TimeTz {
        timesonze: offset_text(west.checked_neg()?),
        time: time(count)?,
    })
}

/// Seconds west of UTC of a zone that is written `+02:00`, `-05:30:15`, `Z` or `UTC`.
pub(crate) fn seconds_west(zone: &str) -> Result<i32, String> {
    if ["z", "utc", "gmt"]
        .iter()
        .any(|name| zone.eq_ignore_ascii_case(name))
    {
        return Ok(0);
    }
    let parse = || -> Option<i32> {
        let (sign, rest) = match zone.as_bytes().first()? {
            b'+' => (-1, &zone[1..]),
            b'-' => (1, &zone[1..]),
            _ => return None,
        };
        let mut seconds = 0;
        let mut parts = rest.split(':');
        for (unit, max) in [(3600, 15), (60, 59), (1, 59)] {
            let Some(part) = parts.next() else { break };
            let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
            let value: i32 = part.parse().ok().filter(|value| digits && *value <= max)?;
            seconds += value * unit;
        }
        parts.next().is_none().then_some(sign * seconds)
    };
    parse().ok_or_else(|| "a time zone is written like `+02:00`, or `UTC`".to_owned())
}

/// `+02:00`, with seconds only where there are any.
fn offset_text(east: i32) -> String {
    let sign = if east < 0 { '-' } else { '+' };
    let seconds = east.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match seconds {
        0 => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Day of a count from 2000-01-01, in the Gregorian calendar, extended to all years.
fn ymd(days: i64) -> Date {
    // From 1 March on, leap days come last in a year of four, a hundred and four hundred years.
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // Counts are of 32 bits for days and far fewer for moments, so all of these are small.
    Date::Ymd((
        i32::try_from(year).unwrap_or(i32::MAX),
        u32::try_from(month).unwrap_or(0),
        u32::try_from(day).unwrap_or(0),
    ))
}

fn days_of(year: i32, month: u32, day: u32) -> Result<i64, String> {
    if !YEARS.contains(&year)
        || !(1..=12).contains(&month)
        || day == 0
        || day > month_days(year, month)
    {
        return Err(format!(
            "no such day: year {year}, month {month}, day {day}"
        ));
    }
    let (month, day) = (i64::from(month), i64::from(day));
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok(era * 146_097 + day_of_era - EPOCH_DAYS)
}

fn month_days(year: i32, month: u32) -> u32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn known_days_have_known_counts() {
        for (day, count) in [
            ((2000, 1, 1), 0),
            ((2000, 2, 29), 59),
            ((2000, 3, 1), 60),
            ((1999, 12, 31), -1),
            ((1970, 1, 1), -10_957),
            ((2026, 11, 22), 9_822),
            ((1, 1, 1), -730_119),
            ((0, 12, 31), -730_120),
            ((-4713, 11, 24), -2_451_545),
            ((5_874_897, 12, 31), 2_145_031_948),
        ] {
            assert_eq!(days(&Date::Ymd(day)), Ok(count), "{day:?}");
            assert_eq!(date(count), Date::Ymd(day));
        }
    }

    #[test]
    fn every_day_of_a_thousand_years_comes_back() {
        for count in -200_000..200_000 {
            assert_eq!(days(&date(count)), Ok(count));
        }
    }

    #[test]
    fn days_and_times_that_are_not_there_are_refused() {
        for day in [
            (2023, 2, 29),
            (1900, 2, 29),
            (2024, 13, 1),
            (2024, 0, 1),
            (2024, 1, 0),
            (2024, 4, 31),
            (i32::MAX, 1, 1),
            (i32::MIN, 1, 1),
        ] {
            assert!(days(&Date::Ymd(day)).is_err(), "{day:?}");
        }
        let at = |hour, min, sec, micro| {
            micros(&Time {
                hour,
                min,
                sec,
                micro,
            })
        };
        assert_eq!(at(24, 0, 0, 0), Ok(DAY_MICROS));
        for wrong in [
            at(24, 0, 0, 1),
            at(25, 0, 0, 0),
            at(0, 60, 0, 0),
            at(0, 0, 60, 0),
            at(0, 0, 0, 1_000_000),
            at(u32::MAX, 0, 0, 0),
        ] {
            assert!(wrong.is_err());
        }
        assert_eq!(time(-1), None);
        assert_eq!(time(DAY_MICROS + 1), None);
    }

    #[test]
    fn moments_before_the_epoch_have_their_own_day() {
        let moment = timestamp(-1).unwrap();
        assert_eq!(moment.date, Date::Ymd((1999, 12, 31)));
        assert_eq!((moment.time.hour, moment.time.micro), (23, 999_999));
        assert_eq!(timestamp_micros(&moment), Ok(-1));
        for count in [i64::MIN, i64::MAX, 0, 1, 252_455_615_999_999_999] {
            assert_eq!(timestamp_micros(&timestamp(count).unwrap()), Ok(count));
        }
    }

    #[test]
    fn an_offset_moves_a_moment_towards_utc() {
        let noon = timestamp(12 * 3_600_000_000).unwrap();
        let at = |offset| {
            timestamp_tz_micros(&TimestampTz {
                timestamp: noon.clone(),
                offset,
            })
        };
        assert_eq!(
            at(Offset::EasternHemisphereSecs(7200)),
            Ok(10 * 3_600_000_000)
        );
        assert_eq!(
            at(Offset::WesternHemisphereSecs(7200)),
            Ok(14 * 3_600_000_000)
        );
        for wrong in [i32::MIN, i32::MAX, 16 * 3600] {
            assert!(at(Offset::EasternHemisphereSecs(wrong)).is_err());
            assert!(at(Offset::WesternHemisphereSecs(wrong)).is_err());
        }
    }

    #[test]
    fn zones_are_written_as_offsets() {
        for (zone, west) in [
            ("+02:00", -7200),
            ("-05:30", 19_800),
            ("+1", -3600),
            ("-00:00:15", 15),
            ("UTC", 0),
            ("z", 0),
        ] {
            assert_eq!(seconds_west(zone), Ok(west), "{zone}");
        }
        for zone in [
            "",
            "02:00",
            "+",
            "+16:00",
            "+01:60",
            "+1:2:3:4",
            "+001",
            "Europe/Paris",
            "+-1",
            "é",
        ] {
            assert!(seconds_west(zone).is_err(), "{zone}");
        }
        assert_eq!(time_tz(0, -7200).unwrap().timesonze, "+02:00");
        assert_eq!(time_tz(0, 15).unwrap().timesonze, "-00:00:15");
        assert_eq!(time_tz(0, i32::MIN), None);
    }
}
