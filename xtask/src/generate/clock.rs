//! The made-up clock of a session, and how it prints. Never the machine's.

use super::random::Random;

const DAY_MS: i64 = 86_400_000;
/// 2026-03-02T06:00:00Z.
const START_MS: i64 = 1_772_431_200_000;

/// Milliseconds since 1970 that only go forward.
#[derive(Debug, Clone)]
pub(crate) struct Clock(i64);

impl Clock {
    /// The clock of the session with this number: sessions start 37 minutes apart.
    pub(crate) fn of_session(number: u64) -> Self {
        Self(START_MS + number as i64 * 37 * 60_000)
    }

    /// Moves on by up to nine seconds and prints the instant.
    pub(crate) fn tick(&mut self, random: &mut Random) -> String {
        self.0 += random.between(200, 9000) as i64;
        instant(self.0)
    }

    /// Moves past midnight if it is less than two minutes away, so that no call has rows on two days.
    pub(crate) fn clear_midnight(&mut self) {
        if DAY_MS - self.0.rem_euclid(DAY_MS) < 120_000 {
            self.0 += 120_000;
        }
    }

    /// Moves on by whole minutes.
    pub(crate) fn skip_minutes(&mut self, minutes: i64) {
        self.0 += minutes * 60_000;
    }

    pub(crate) fn day(&self) -> String {
        instant(self.0)[..10].to_owned()
    }
}

/// Prints milliseconds since 1970 as RFC 3339 in UTC.
fn instant(milliseconds: i64) -> String {
    let (days, rest) = (milliseconds.div_euclid(DAY_MS), milliseconds.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

/// The date of a day number, counted from 1970-01-01, for 1970 to 2099 (each fourth year is a leap year there).
fn date(days: i64) -> (i64, i64, i64) {
    let (four_years, mut rest) = (days / 1461, days % 1461);
    let mut year = 1970 + four_years * 4;
    // 1970, 1971, 1972 (leap), 1973.
    for length in [365, 365, 366, 365] {
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let february = if year % 4 == 0 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_as_a_calendar_does() {
        for milliseconds in (0..4_070_000_000_000).step_by(7_777_777_777) {
            let expected = jiff::Timestamp::from_millisecond(milliseconds).unwrap();
            assert_eq!(instant(milliseconds), format!("{expected:.3}"));
        }
        assert_eq!(instant(START_MS), "2026-03-02T06:00:00.000Z");
    }

    #[test]
    fn no_call_straddles_midnight() {
        let mut clock = Clock(START_MS - START_MS.rem_euclid(DAY_MS) + DAY_MS - 1000);
        let before = clock.day();
        clock.clear_midnight();
        assert_ne!(clock.day(), before);
    }
}
