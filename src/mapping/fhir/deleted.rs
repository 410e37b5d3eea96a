//! Bulk deletions: transaction Bundles whose entries are DELETE requests (FHIR Bulk Data Access, `deleted` output).

use almoner_model::Sensitive;
use serde::Deserialize;

use super::datatypes::{Text, text};
use super::mapper::{Deletion, FhirMapper, read};
use super::reference::{self, Target};
use super::types;
use crate::mapping::outcome::{Outcome, reason, rule};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bundle<'a> {
    #[serde(borrow)]
    resource_type: Option<Text<'a>>,
    entry: Vec<Entry<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry<'a> {
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request<'a> {
    #[serde(borrow)]
    method: Option<Text<'a>>,
    url: Option<Text<'a>>,
}

impl FhirMapper<'_> {
    /// Reads one line of a `deleted` file. What it deletes is in [`super::FhirOutput::deletions`]; a patient whom the
    /// exchange does not know, and types that have no rows, are passed over.
    pub fn deleted_line(&mut self, line: &str) -> (&'static str, Outcome) {
        let bundle: Bundle<'_> = match read(line) {
            Ok(bundle) => bundle,
            Err(outcome) => return ("Bundle", outcome),
        };
        if text(&bundle.resource_type) != "Bundle" {
            return ("Bundle", Outcome::broken(rule::WRONG_TYPE));
        }
        let mut any = false;
        for request in bundle.entry.iter().filter_map(|entry| entry.request.as_ref()) {
            if text(&request.method) != "DELETE" {
                continue;
            }
            let Target::Id { kind: Some(kind), id } = reference::parse(text(&request.url)) else { continue };
            let Some(kind) = types::known(kind) else { continue };
            any = true;
            if kind == "Patient" {
                if let Some(person) = self.ctx.persons.find(id) {
                    self.out.deletions.push(Deletion::Person { person });
                }
            } else if kind == "Consent" {
                self.out.deletions.push(Deletion::Consent { id: Sensitive::new(id.to_owned()) });
            } else {
                self.out.deletions.push(Deletion::Row { kind, row_key: self.hasher.row_key(kind, id) });
            }
        }
        ("Bundle", if any { Outcome::Mapped } else { Outcome::Unmapped(reason::NOT_A_FACT) })
    }
}
