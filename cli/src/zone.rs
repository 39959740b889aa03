//! The time zone in which people are shown instants: UTC unless `--tz` says otherwise. JSON, CSV, days and filters are in
//! UTC whatever it is, and do not pass here.

use burnlog_log::{Error, ErrorKind, Result, Timestamp};
use jiff::tz::TimeZone;
use std::sync::OnceLock;

/// One for the whole process: cells of tables are made by functions that are given a row and nothing else.
static CHOSEN: OnceLock<TimeZone> = OnceLock::new();

/// Chooses the zone of this process, once: `local`, an offset (`+05:30`, `-8`) or a name (`Europe/Berlin`).
pub(crate) fn choose(text: &str) -> Result<()> {
    let zone = parse(text)?;
    // A second choice would be an error of the program, and the first one stands.
    let _ = CHOSEN.set(zone);
    Ok(())
}

fn parse(text: &str) -> Result<TimeZone> {
    if text == "local" {
        return Ok(TimeZone::system());
    }
    if text.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    if let Some(offset) = offset(text) {
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(text).map_err(|error| {
        let message = format!(
            "{text:?} is no time zone that this machine knows; write local, an offset like +05:30 or a name like Europe/Berlin"
        );
        Error::new(ErrorKind::Invalid, "read arguments", message).caused_by(error)
    })
}

/// `+H`, `+HH`, `+HHMM` or `+HH:MM`, and the same with a minus.
fn offset(text: &str) -> Option<jiff::tz::Offset> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let is_number =
        |text: &str| (1..3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hours) || !is_number(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60).then(|| jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?
}

fn chosen() -> TimeZone {
    CHOSEN.get().cloned().unwrap_or(TimeZone::UTC)
}

/// An instant to the second, as `YYYY-MM-DD hh:mm:ss`.
pub(crate) fn shown(instant: Timestamp) -> String {
    shown_in(instant, &chosen())
}

fn shown_in(instant: Timestamp, zone: &TimeZone) -> String {
    let text = |text: String| text.chars().take(19).collect::<String>().replace('T', " ");
    match jiff::Timestamp::from_microsecond(instant.as_micros()) {
        // The instant's own form for UTC, so that nothing depends on what a zone's rules say of far years.
        _ if *zone == TimeZone::UTC => text(instant.to_string()),
        Ok(instant) => text(zone.to_datetime(instant).to_string()),
        Err(_) => text(instant.to_string()),
    }
}

/// The zone's name, for headings that say it.
pub(crate) fn name() -> String {
    let zone = chosen();
    let offset = || zone.to_fixed_offset().map(|offset| offset.to_string());
    zone.iana_name().map_or_else(|| offset().unwrap_or_else(|_| "local time".to_owned()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_as_clocks_in_the_zone_show_them() {
        let instant = Timestamp::parse("2026-03-01T23:59:59.9Z").unwrap();
        for (zone, expected) in [
            ("UTC", "2026-03-01 23:59:59"),
            ("utc", "2026-03-01 23:59:59"),
            ("+05:30", "2026-03-02 05:29:59"),
            ("+0530", "2026-03-02 05:29:59"),
            ("-8", "2026-03-01 15:59:59"),
            ("-11:59", "2026-03-01 12:00:59"),
        ] {
            assert_eq!(shown_in(instant, &parse(zone).unwrap()), expected, "{zone}");
        }
    }

    #[test]
    fn what_is_no_zone_is_refused_with_what_would_do() {
        for wrong in ["", "+", "+x", "+99", "+05:60", "+5:", "+123", "Nowhere/Nothing", "../etc/passwd", "+é"]
        {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
            assert!(error.message().contains("+05:30"), "{error}");
        }
    }
}
