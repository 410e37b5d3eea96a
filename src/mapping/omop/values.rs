//! Numbers and dates as OMOP exports write them.

use almoner_model::Date;

/// A whole number; also as a database client writes it that made the column a float (`12.0`).
pub fn integer(text: &str) -> Option<i64> {
    super::plain_id(text).parse().ok()
}

/// A finite number.
pub fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// A date and, where one is given, the seconds after midnight.
///
/// Reads `YYYY-MM-DD` with or without leading zeros, and `YYYYMMDD`; then nothing, or `T` or a blank and
/// `hh:mm[:ss[.fff]]` with an optional zone, which is not applied: the hospital's own day counts.
pub fn date_time(text: &str) -> Option<(Date, Option<u32>)> {
    let (date, time) = match text.find(['T', ' ']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim())),
        None => (text, None),
    };
    let date = date_only(date)?;
    match time {
        None | Some("") => Some((date, None)),
        Some(time) => Some((date, Some(seconds(time)?))),
    }
}

fn date_only(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() == 10 && bytes[4] == b'-' {
        return Date::parse(bytes);
    }
    if bytes.len() == 8 && bytes.iter().all(u8::is_ascii_digit) {
        return Date::from_ymd(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?);
    }
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    if parts.next().is_some() || year.len() != 4 || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    Date::from_ymd(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

fn seconds(text: &str) -> Option<u32> {
    let clock = match text.find(['+', '-', 'Z', 'z']) {
        Some(at) if is_zone(&text[at..]) => text[..at].trim_end(),
        Some(_) => return None,
        None => text,
    };
    let mut parts = clock.split(':');
    let part = |p: Option<&str>, most: u32| -> Option<u32> {
        let p = p?;
        let ok = (1..=2).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit());
        p.parse().ok().filter(|n| ok && *n <= most)
    };
    let hour = part(parts.next(), 23)?;
    let minute = part(parts.next(), 59)?;
    let second = match parts.next() {
        None => 0,
        Some(second) => part(second.split('.').next(), 60)?.min(59),
    };
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

/// Whether `text` is a zone: `Z`, or hours and perhaps minutes east (`+`) or west (`-`): `+hh`, `+hhmm` or `+hh:mm`.
fn is_zone(text: &str) -> bool {
    let Some(offset) = text.strip_prefix(['+', '-']) else { return text.eq_ignore_ascii_case("z") };
    let digits: Vec<u8> = match offset.as_bytes() {
        [h, i] => vec![*h, *i],
        [h, i, b':', m, n] | [h, i, m, n] => vec![*h, *i, *m, *n],
        _ => return false,
    };
    digits.iter().all(u8::is_ascii_digit)
        && (digits[0], digits[1]) <= (b'1', b'9')
        && digits.get(2).is_none_or(|m| *m <= b'5')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_exports_write_them() {
        let read = |s: &str| date_time(s).map(|(d, t)| (d.to_string(), t));
        assert_eq!(read("1937-12-1"), Some(("1937-12-01".into(), None)));
        assert_eq!(read("2013-07-05 00:00:00"), Some(("2013-07-05".into(), Some(0))));
        assert_eq!(read("2013-07-05T23:59:60.123Z"), Some(("2013-07-05".into(), Some(86_399))));
        assert_eq!(read("2013-07-05 10:15:00.000+02:00"), Some(("2013-07-05".into(), Some(36_900))));
        // The hospital's own day and clock, east or west of Greenwich.
        for zone in ["", "Z", "z", "+02:00", "-05:00", "-0500", "-05", " -05:00", "+14:00"] {
            let late = format!("2020-01-01T23:30:00{zone}");
            assert_eq!(read(&late), Some(("2020-01-01".into(), Some(84_600))), "{late}");
            assert_eq!(read(&format!("2020-01-01 23:30{zone}")), Some(("2020-01-01".into(), Some(84_600))));
        }
        for bad in ["-", "-5", "-25:00", "-05:70", "-05:0", "Zulu", "-05:00Z", "ZZ", "+"] {
            assert_eq!(read(&format!("2020-01-01T23:30:00{bad}")), None, "{bad}");
        }
        assert_eq!(read("20130705"), Some(("2013-07-05".into(), None)));
        for bad in
            ["", "2013", "2013-02-30", "05/07/2013", "2013-7", "2013-07-05 25:00", "2013-07-05 x", "20131301"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_as_exports_write_them() {
        assert_eq!(
            (integer("-9223372036854775808"), integer("12.0"), integer("12.5")),
            (Some(i64::MIN), Some(12), None)
        );
        assert_eq!(
            (number("1e-3"), number("NaN"), number("inf"), number("x")),
            (Some(0.001), None, None, None)
        );
    }
}
