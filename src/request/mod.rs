//! Requests: commands checked against what is known, giving the events to log. Pure.
//!
//! What a command can be refused for without looking at the state stands here; what depends on the state is refused by the
//! fold (`state`), inside the append, so that two commands at once cannot both pass.

use std::collections::BTreeSet;

use almoner_model::{Date, Duo, Tables};
use serde::{Deserialize, Serialize};

pub use almoner_control::judge::{purpose, wanted};

use crate::events::{EthicsDetermination, RequestSubmitted};

/// What is wrong with a command, at a JSON Pointer of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{pointer}: {reason}")]
pub struct Flaw {
    /// Where.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// The shortest lay summary that can say anything, in characters.
const LAY_SUMMARY_MIN: usize = 40;
/// The longest that anybody reads, in characters.
const LAY_SUMMARY_MAX: usize = 4_000;

/// Terms that permit a kind of research: what a purpose can be. The others are modifiers.
pub const fn is_purpose(term: Duo) -> bool {
    matches!(
        term,
        Duo::GeneralResearch | Duo::HealthResearch | Duo::DiseaseResearch | Duo::PopulationResearch
    )
}

/// Checks a request. All flaws are told at once.
///
/// # Errors
/// Every flaw found, with its JSON Pointer.
pub fn submit(request: &RequestSubmitted, tables: &Tables, today: Date) -> Result<(), Vec<Flaw>> {
    let mut flaws = Vec::new();
    let mut say = |pointer: &str, reason: &str| {
        flaws.push(Flaw { pointer: pointer.to_owned(), reason: reason.to_owned() });
    };
    if !is_purpose(request.purpose) {
        say("/purpose", "not a purpose of research (DUO:0000042, DUO:0000006, DUO:0000007 or DUO:0000011)");
    }
    if (request.purpose == Duo::DiseaseResearch) == request.diseases.is_empty() {
        say("/diseases", "disease-specific research names its diseases, and no other purpose does");
    }
    if let Some(n) = request.modifiers.iter().position(|m| is_purpose(*m) || *m == Duo::NoRestriction) {
        say(&format!("/modifiers/{n}"), "a purpose is not a modifier");
    }
    if request.datasets.is_empty() {
        say("/datasets", "name at least one dataset");
    }
    if request.tables.is_empty() {
        say("/tables", "name at least one table");
    }
    let mut seen = BTreeSet::new();
    for (n, table) in request.tables.iter().enumerate() {
        if tables.get(table).is_none() {
            say(&format!("/tables/{n}"), "not a canonical table");
        } else if table == "note" {
            say(&format!("/tables/{n}"), "notes do not leave");
        } else if !seen.insert(table) {
            say(&format!("/tables/{n}"), "named twice");
        }
    }
    if !matches!(request.tier.as_str(), "public" | "controlled") {
        say("/tier", "public or controlled");
    }
    if !matches!(request.profile.as_str(), "safe-harbor" | "date-shifted" | "limited") {
        say("/profile", "safe-harbor, date-shifted or limited");
    }
    let words = request.lay_summary.trim().chars().count();
    if !(LAY_SUMMARY_MIN..=LAY_SUMMARY_MAX).contains(&words) {
        say("/lay_summary", "40 to 4000 characters that a participant understands");
    }
    ethics(&request.ethics, today, &mut say);
    if flaws.is_empty() { Ok(()) } else { Err(flaws) }
}

fn ethics(ethics: &EthicsDetermination, today: Date, say: &mut impl FnMut(&str, &str)) {
    if ethics.protocol.trim().is_empty() {
        say("/ethics/protocol", "name the protocol");
    }
    if ethics.board.trim().is_empty() {
        say("/ethics/board", "name the board");
    }
    if ethics.expires < today {
        say("/ethics/expires", "the determination has expired");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::CategorySet;
    use almoner_model::Digest;

    fn request() -> RequestSubmitted {
        RequestSubmitted {
            request: "r1".parse().expect("slug"),
            project: "stroke".parse().expect("slug"),
            recipient: "institute".parse().expect("slug"),
            purpose: Duo::HealthResearch,
            modifiers: vec![Duo::NonCommercial],
            diseases: vec![],
            methods: false,
            statements: vec![],
            cohort: Digest::of(b"{}"),
            datasets: vec!["north-main".parse().expect("slug")],
            tables: vec!["person".into(), "measurement".into()],
            tier: "controlled".into(),
            profile: "date-shifted".into(),
            lay_summary: "We want to learn how blood sugar changes in the years before a stroke.".into(),
            ethics: EthicsDetermination {
                protocol: "2026-17".into(),
                board: "City".into(),
                expires: "2027-06-30".parse().expect("date"),
            },
        }
    }

    fn pointers(request: &RequestSubmitted) -> Vec<String> {
        let today = "2026-11-22".parse().expect("date");
        let tables = Tables::embedded().expect("consistent");
        submit(request, &tables, today).err().unwrap_or_default().into_iter().map(|f| f.pointer).collect()
    }

    #[test]
    fn every_flaw_is_told_with_its_pointer() {
        assert!(pointers(&request()).is_empty());
        let flawed = RequestSubmitted {
            purpose: Duo::NonCommercial,
            modifiers: vec![Duo::NonCommercial, Duo::HealthResearch],
            diseases: vec!["DOID:162".into()],
            datasets: vec![],
            tables: vec!["person".into(), "cost".into(), "note".into(), "person".into()],
            tier: "open".into(),
            profile: "none".into(),
            lay_summary: " short ".into(),
            ethics: EthicsDetermination {
                protocol: " ".into(),
                board: String::new(),
                expires: "2026-11-21".parse().expect("date"),
            },
            ..request()
        };
        assert_eq!(
            pointers(&flawed),
            [
                "/purpose",
                "/diseases",
                "/modifiers/1",
                "/datasets",
                "/tables/1",
                "/tables/2",
                "/tables/3",
                "/tier",
                "/profile",
                "/lay_summary",
                "/ethics/protocol",
                "/ethics/board",
                "/ethics/expires",
            ]
        );
    }

    #[test]
    fn a_release_always_requires_the_person_and_only_delivers_the_tables() {
        let at = almoner_model::Timestamp::from_millis(0);
        let wanted = wanted(&request(), CategorySet::EMPTY, false, at);
        assert!(wanted.required.contains(crate::consent::Category::Demographics));
        assert!(!wanted.required.contains(crate::consent::Category::Measurements));
        assert!(wanted.delivered.contains(crate::consent::Category::Measurements));
        assert!(wanted.purpose.modifiers.contains(&Duo::EthicsApproval));
    }
}
