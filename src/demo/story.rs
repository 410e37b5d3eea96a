//! What happened, in numbers and in a few sentences, with the addresses and tokens to try each role.

use std::path::PathBuf;

use serde::Serialize;

use super::Place;
use super::client::Client;
use crate::synth::Summary;

/// The story, as `--json` gives it.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// Where the server is.
    pub url: String,
    /// The data folder.
    pub data: PathBuf,
    /// The synthetic exports, with `planted.tsv`.
    pub exports: PathBuf,
    /// The downloaded releases.
    pub downloads: PathBuf,
    /// People in the population.
    pub people: u64,
    /// People who went to both hospitals.
    pub people_shared: u64,
    /// People in the hospitals' exports, those who went to both counted twice.
    pub people_received: u64,
    /// People whom the exchange found to be the same at both.
    pub people_linked: u64,
    /// Lines of the exports, and what became of them.
    pub lines: Lines,
    /// Consents recorded.
    pub consents: u64,
    /// The researcher's count, as it was answered.
    pub count: String,
    /// People in the first and in the second release.
    pub released: Vec<u64>,
    /// Entries of the ledger.
    pub ledger_entries: u64,
    /// Who one can be.
    pub tokens: Vec<Token>,
    /// Seconds it took.
    pub seconds: f64,
}

/// What became of the exports' lines.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Lines {
    /// Read.
    pub read: u64,
    /// Mapped to rows.
    pub mapped: u64,
    /// Read and left out, with a reason.
    pub unmapped: u64,
    /// Not readable, or about nobody.
    pub quarantined: u64,
}

/// A token to try.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    /// Role, and whose.
    pub who: String,
    /// The secret.
    pub token: String,
}

impl Story {
    pub(super) fn begin(place: &Place, url: &str, made: &Summary, operator: &Client) -> Self {
        Self {
            url: url.to_owned(),
            data: place.data.clone(),
            exports: place.exports.clone(),
            downloads: place.downloads.clone(),
            people: made.patients,
            people_shared: made.hospitals[0].shared,
            people_received: 0,
            people_linked: 0,
            lines: Lines::default(),
            consents: 0,
            count: String::new(),
            released: Vec::new(),
            ledger_entries: 0,
            tokens: vec![Token { who: "operator".into(), token: operator.token().to_owned() }],
            seconds: 0.0,
        }
    }

    /// Adds somebody whom the reader can be.
    pub(super) fn cast(&mut self, who: &str, client: &Client) {
        self.tokens.push(Token { who: who.to_owned(), token: client.token().to_owned() });
    }

    /// What happened, for people.
    pub fn told(&self) -> String {
        let first = self.released.first().copied().unwrap_or_default();
        let second = self.released.get(1).copied().unwrap_or_default();
        format!(
            "\nWhat happened in {:.0} seconds\n\n\
             Two hospitals sent {} lines of FHIR about {} people. {} went to both, under different record numbers;\n\
             {} of these were recognised by keyed tokens and are one person here. {} lines were mapped, {} left out\n\
             with a reason, {} could not be read and were set aside. {} consents were recorded; nobody else's data\n\
             can be counted or released.\n\n\
             A researcher asked how many people with type 2 diabetes take metformin: {}. Both committees\n\
             approved the request, and release 1 went out with {first} people: downloaded, and verified offline\n\
             against the ledger. Then one of them withdrew by their own invitation. Release 2 has {second}, without\n\
             them. {} entries in the ledger say all of this, and nothing about anybody.\n\n",
            self.seconds,
            self.lines.read,
            self.people,
            self.people_shared,
            self.people_linked,
            self.lines.mapped,
            self.lines.unmapped,
            self.lines.quarantined,
            self.consents,
            self.count,
            self.ledger_entries,
        )
    }

    /// What happened, and where to look while the server is up.
    pub fn told_with_addresses(&self) -> String {
        let url = &self.url;
        let mut text = self.told();
        text += "Look around\n\n";
        let places = [
            (format!("{url}/docs/"), "every operation, to try"),
            (format!("{url}/ledger/checkpoint"), "the signed head of the ledger"),
            (format!("{url}/metrics"), "measurements (operator)"),
            (self.downloads.display().to_string(), "the two releases"),
        ];
        let width = places.iter().map(|(place, _)| place.len()).max().unwrap_or_default();
        for (place, what) in &places {
            text += &format!("  {place:width$}  {what}\n");
        }
        text.push('\n');
        if let Some(patient) = self.tokens.iter().find(|t| t.token.starts_with("alp_")) {
            text += &format!("The page of the patient who withdrew\n\n  {url}/me#{}\n\n", patient.token);
        }
        text += "Be somebody (Authorization: Bearer …)\n\n";
        for token in &self.tokens {
            text += &format!("  {:<32} {}\n", token.who, token.token);
        }
        text
    }
}
