//! Bulk deletions: transaction Bundles whose entries are DELETE requests (FHIR Bulk Data Access 2.0.0, Complete Status
//! Request, `deleted`): what would have been exported and was deleted. It is not in the output of the same export, so a
//! record that is in both is taken to be deleted; rows of an earlier export go.

use almoner_model::Sensitive;
use serde::Deserialize;

use super::datatypes::{Text, text};
use super::findings::Finding;
use super::mapper::{Deletion, FhirMapper, read};
use super::reference::{self, Target};
use super::references::ReferencePass;
use super::types;
use crate::mapping::Form;
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

/// What the DELETE requests of a line name: resource types that R4 has, with ids.
fn named<'b>(bundle: &'b Bundle<'_>) -> Result<impl Iterator<Item = (&'static str, &'b str)>, Outcome> {
    if text(&bundle.resource_type) != "Bundle" {
        return Err(Outcome::broken(rule::WRONG_TYPE));
    }
    let requests = bundle.entry.iter().filter_map(|entry| entry.request.as_ref());
    Ok(requests.filter(|request| text(&request.method) == "DELETE").filter_map(|request| {
        match reference::parse(text(&request.url)) {
            Target::Id { kind: Some(kind), id } => types::known(kind).map(|kind| (kind, id)),
            _ => None,
        }
    }))
}

impl ReferencePass<'_> {
    /// Looks at one line of a `deleted` file, so that mapping knows what not to take. A line that cannot be read is passed
    /// over, the second pass counts it.
    pub fn deleted_line(&mut self, line: &str) {
        let Ok(bundle) = read::<Bundle<'_>>(line) else { return };
        for (kind, id) in named(&bundle).into_iter().flatten() {
            self.deleted(kind, id);
        }
    }
}

/// Whether a line is a Bundle that deletes something.
pub(super) fn deletes(line: &str) -> bool {
    let bundle: Result<Bundle<'_>, Outcome> = read(line);
    bundle.is_ok_and(|bundle| named(&bundle).is_ok_and(|named| named.into_iter().next().is_some()))
}

impl FhirMapper<'_> {
    /// Reads one line of a `deleted` file. What it deletes is in [`super::FhirOutput::deletions`]; a patient whom the
    /// exchange does not know, and types that have no rows, are passed over. So is a patient record that was merged into
    /// another: its history is the other's, and deleting what is left of it takes nothing away.
    pub fn deleted_line(&mut self, line: &str) -> (&'static str, Outcome) {
        let bundle: Bundle<'_> = match read(line) {
            Ok(bundle) => bundle,
            Err(outcome) => return ("Bundle", outcome),
        };
        let named = match named(&bundle) {
            Ok(named) => named,
            Err(outcome) => return ("Bundle", outcome),
        };
        let mut any = false;
        for (kind, id) in named {
            any = true;
            if kind == "Consent" {
                self.out.deletions.push(Deletion::Consent { id: Sensitive::new(id.to_owned()) });
            } else if kind != "Patient" {
                self.out.deletions.push(Deletion::Row { kind, row_key: self.hasher.row_key(kind, id) });
            } else if self.ctx.persons.is_merged_away(id) {
                self.out.findings.note(Finding::DeletedAfterMerge);
            } else if let Some(person) = self.ctx.persons.find(Form::Fhir, id) {
                self.out.deletions.push(Deletion::Person { person });
            }
        }
        ("Bundle", if any { Outcome::Mapped } else { Outcome::Unmapped(reason::NOT_A_FACT) })
    }
}
