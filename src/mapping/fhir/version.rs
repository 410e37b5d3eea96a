//! Which of several versions of a record counts: the one that was last changed (`Meta.lastUpdated`, R4 section 2.26.5.16)
//! where both say when, else the one that lies later in the export.

use std::borrow::Cow;

use almoner_model::Timestamp;
use serde_json::value::RawValue;

use super::mapper::read;
use super::resources::{Dated, Head, Meta};

/// The id that a line says it has.
pub(super) fn id_of(line: &str) -> Option<Cow<'_, str>> {
    // As nearly every server writes it.
    let quick = line
        .strip_prefix("{\"resourceType\":\"")
        .and_then(|rest| rest.split_once('"'))
        .and_then(|(_, rest)| rest.strip_prefix(",\"id\":\""))
        .and_then(|rest| rest.split_once('"'))
        .map(|(id, _)| id)
        .filter(|id| !id.is_empty() && !id.contains('\\'));
    if let Some(id) = quick {
        return Some(Cow::Borrowed(id));
    }
    let head: Head<'_> = read(line).ok()?;
    head.id.as_deref().filter(|id| !id.is_empty()).map(|id| Cow::Owned(id.to_owned()))
}

/// When a line says that it was last changed; `None` if it does not say so in a way that can be read.
pub(super) fn last_updated(meta: Option<&RawValue>) -> Option<Timestamp> {
    let meta = meta?.get();
    if let Some(text) = plainly(meta) {
        return Timestamp::parse(text);
    }
    let meta: Meta<'_> = serde_json::from_str(meta).ok()?;
    Timestamp::parse(&meta.last_updated?)
}

/// `lastUpdated` of a `meta` as nearly every server writes it: before whatever is no text, without blanks and escapes.
fn plainly(meta: &str) -> Option<&str> {
    let mut rest = meta.strip_prefix('{')?;
    loop {
        let (name, value) = rest.strip_prefix('"')?.split_once("\":\"")?;
        let (value, after) = value.split_once('"')?;
        if name.contains(['"', '\\']) || value.contains('\\') {
            return None;
        }
        if name == "lastUpdated" {
            return Some(value);
        }
        rest = after.strip_prefix(',')?;
    }
}

/// When a line says that it was last changed, whatever else it says.
pub(super) fn updated_of(line: &str) -> Option<Timestamp> {
    let head: Dated<'_> = read(line).ok()?;
    last_updated(head.meta)
}

/// Whether a version of a record takes the place of one that lies before it in the export: unless both say when they came
/// about and it is the older.
pub fn takes_over(before: Option<Timestamp>, after: Option<Timestamp>) -> bool {
    before.zip(after).is_none_or(|(before, after)| after >= before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_read_however_they_are_written() {
        for (line, id) in [
            (r#"{"resourceType":"Condition","id":"c1","x":1}"#, Some("c1")),
            (r#"{"id":"c1","resourceType":"Condition"}"#, Some("c1")),
            (r#"{ "resourceType": "Condition", "id": "c\u0031" }"#, Some("c1")),
            (r#"{"resourceType":"Condition","id":"c\u0031"}"#, Some("c1")),
            (r#"{"resourceType":"Condition","id":""}"#, None),
            (r#"{"resourceType":"Condition"}"#, None),
        ] {
            assert_eq!(id_of(line).as_deref(), id, "{line}");
        }
        let of = |meta: &str| updated_of(&format!(r#"{{"resourceType":"Condition","meta":{meta}}}"#));
        let east = of(r#"{"lastUpdated":"2024-05-01T12:00:00.250+02:00"}"#);
        assert_eq!(east, Timestamp::parse("2024-05-01T10:00:00.25Z"));
        for (meta, day) in [
            (r#"{"versionId":"1","lastUpdated":"2024-05-01T00:00:00Z","source":"x"}"#, Some(1)),
            (r#"{"profile":["a"],"lastUpdated":"2024-05-02T00:00:00Z"}"#, Some(2)),
            (r#"{ "lastUpdated" : "2024-05-03T00:00:00Z" }"#, Some(3)),
            (
                r#"{"source":"\",\"lastUpdated\":\"2024-05-09T00:00:00Z","lastUpdated":"2024-05-04T00:00:00Z"}"#,
                Some(4),
            ),
            (r#"{"source":"a\\","lastUpdated":"2024-05-05T00:00:00Z"}"#, Some(5)),
            (r#"{"extension":[{"lastUpdated":"2024-05-09T00:00:00Z"}]}"#, None),
            (r#"{"versionId":7,"x":{"lastUpdated":"2024-05-09T00:00:00Z"}}"#, None),
        ] {
            let day = day.and_then(|day| Timestamp::parse(&format!("2024-05-0{day}T00:00:00Z")));
            assert_eq!(of(meta), day, "{meta}");
        }
        for meta in ["null", "7", r#"{"lastUpdated":7}"#, r#"{"lastUpdated":"2024"}"#, "{}"] {
            assert_eq!(of(meta), None, "{meta}");
        }
    }

    #[test]
    fn the_newer_counts_and_where_one_does_not_say_the_later() {
        let at = |day: u8| Timestamp::parse(&format!("2024-05-{day:02}T00:00:00Z"));
        for (before, after, takes) in [
            (at(1), at(2), true),
            (at(2), at(1), false),
            (at(1), at(1), true),
            (None, at(1), true),
            (at(1), None, true),
            (None, None, true),
        ] {
            assert_eq!(takes_over(before, after), takes);
        }
    }
}
