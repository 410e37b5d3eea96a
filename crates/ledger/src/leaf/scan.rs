//! The exact recogniser of a leaf: one pass, no allocation, so that an audit is bound by hashing.
//!
//! It accepts a string exactly if it is the canonical form of a leaf, because the form has one order of members, no white
//! space and one way to write each value.

use super::{LeafError, MAX_BYTES, is_word};

/// The last instant whose year has four digits.
pub const LAST_MILLIS: i64 = 253_402_300_799_999;

/// A leaf's members, borrowed from its bytes. Digests are 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Scanned<'a> {
    /// Commitment to who acted.
    pub actor: &'a [u8; 64],
    /// Ledger size a decision was made at.
    pub as_of: Option<u64>,
    /// Outcome of a decision.
    pub decision: Option<&'a [u8]>,
    /// UUID of the act.
    pub event_id: &'a [u8],
    /// Commitment to the payload.
    pub payload: &'a [u8; 64],
    /// SHA-256 of the rules applied.
    pub policy: Option<&'a [u8; 64]>,
    /// Leaf hash of the entry before.
    pub prev: &'a [u8; 64],
    /// Position.
    pub seq: u64,
    /// Commitment to the person.
    pub subject: Option<&'a [u8; 64]>,
    /// Milliseconds since the Unix epoch.
    pub time_millis: i64,
    /// Kind of act.
    pub kind: &'a [u8],
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn skip(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text.as_bytes())?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn digest(&mut self) -> Option<&'a [u8; 64]> {
        let (taken, rest) = self.0.split_first_chunk::<64>()?;
        // No early exit, so that the loop is one over vectors.
        let hex = taken.iter().fold(true, |ok, b| ok & (b.is_ascii_digit() | (b'a'..=b'f').contains(b)));
        self.0 = rest.strip_prefix(b"\",")?;
        hex.then_some(taken)
    }

    fn word(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == b'"')?;
        let word = self.take(end)?;
        self.skip("\",")?;
        is_word(std::str::from_utf8(word).ok()?).then_some(word)
    }

    fn number(&mut self) -> Option<u64> {
        let end = self.0.iter().position(|b| !b.is_ascii_digit())?;
        let digits = self.take(end)?;
        self.skip(",")?;
        let plain = (1..=16).contains(&digits.len()) && (digits[0] != b'0' || digits.len() == 1);
        let number = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
        (plain && number < 1 << 53).then_some(number)
    }

    fn time(&mut self) -> Option<i64> {
        let text = self.take(24)?;
        self.skip("\",")?;
        let number = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second, milli) =
            (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
        let ok = marks.iter().all(|(at, mark)| text[*at] == *mark)
            && year >= 1970
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && (hour < 24 && minute < 60 && second < 60);
        let days = days_since_epoch(year, month, day);
        ok.then(|| ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + milli)
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + is_leap(year) as i64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469
}

/// Reads a leaf's members, accepting exactly the canonical form.
///
/// # Errors
/// [`LeafError::TooLong`] or [`LeafError::NotCanonical`].
pub fn scan(bytes: &[u8]) -> Result<Scanned<'_>, LeafError> {
    if bytes.len() > MAX_BYTES {
        return Err(LeafError::TooLong);
    }
    members(Cursor(bytes)).ok_or(LeafError::NotCanonical)
}

fn members(mut c: Cursor<'_>) -> Option<Scanned<'_>> {
    c.skip("{\"actor\":\"")?;
    let actor = c.digest()?;
    let as_of = match c.skip("\"as_of\":") {
        Some(()) => Some(c.number()?),
        None => None,
    };
    let decision = match c.skip("\"decision\":\"") {
        Some(()) => Some(c.word()?),
        None => None,
    };
    c.skip("\"event_id\":\"")?;
    let event_id = c.take(36)?;
    if !super::is_event_id(std::str::from_utf8(event_id).ok()?) {
        return None;
    }
    c.skip("\",\"payload\":\"")?;
    let payload = c.digest()?;
    let policy = match c.skip("\"policy\":\"") {
        Some(()) => Some(c.digest()?),
        None => None,
    };
    c.skip("\"prev\":\"")?;
    let prev = c.digest()?;
    c.skip("\"seq\":")?;
    let seq = c.number()?;
    let subject = match c.skip("\"subject\":\"") {
        Some(()) => Some(c.digest()?),
        None => None,
    };
    c.skip("\"time\":\"")?;
    let time_millis = c.time()?;
    c.skip("\"type\":\"")?;
    let kind = c.word()?;
    c.skip("\"v\":1}")?;
    c.0.is_empty().then_some(Scanned {
        actor,
        as_of,
        decision,
        event_id,
        payload,
        policy,
        prev,
        seq,
        subject,
        time_millis,
        kind,
    })
}
