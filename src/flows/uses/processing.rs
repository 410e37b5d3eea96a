//! The register of processing activities (GDPR Art. 30(1)), as far as the exchange knows it.
//!
//! It is made from who contributes, what was published, what was requested, decided and released, on which legal bases, and
//! from the configuration. It has one activity for each hospital's data, one for each project that asked for data, and one
//! for the exchange's own accounts. What a controller must add by itself (its contact, its data protection officer, its
//! grounds under Art. 6 and 9, transfers) is named in `to_complete` of each activity and never guessed.
//!
//! No number of people is in it. A hospital and its board see what concerns their data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use almoner_model::{ContributorId, ProjectId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AccessContext, AccessError, Viewer};
use crate::state::read;
use crate::state::records::{Contributor, Dataset, LegalBasis, Project, Request};

/// The columns of the table.
pub const COLUMNS: &[&str] = &[
    "id",
    "name",
    "controllers",
    "purposes",
    "data_subjects",
    "personal_data",
    "recipients",
    "transfers",
    "time_limits",
    "security",
    "legal_bases",
    "to_complete",
];

/// What the configuration says about keeping and securing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keeping {
    /// How long an upload that nobody continues is kept, in hours.
    pub uploads_hours: u32,
    /// How long a finished job can be asked about, in days.
    pub jobs_days: u32,
    /// How the interface is protected on its way.
    pub transport: &'static str,
}

/// A processing activity, by the letters of GDPR Art. 30(1).
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, ToSchema)]
pub struct Activity {
    /// Its id: `data:<contributor>`, `project:<project>` or `accounts`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// (a) Who decides on means and purposes: names, with their ids.
    pub controllers: Vec<String>,
    /// (b) What for.
    pub purposes: Vec<String>,
    /// (c) Categories of people.
    pub data_subjects: Vec<String>,
    /// (c) Categories of personal data.
    pub personal_data: Vec<String>,
    /// (d) Who received or may receive.
    pub recipients: Vec<String>,
    /// (e) Transfers to other countries.
    pub transfers: Vec<String>,
    /// (f) Time limits for erasure.
    pub time_limits: Vec<String>,
    /// (g) Technical and organisational measures (Art. 32(1)).
    pub security: Vec<String>,
    /// Legal bases of releases that are recorded, each with its last day.
    pub legal_bases: Vec<String>,
    /// What the controller adds.
    pub to_complete: Vec<String>,
}

/// The register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Register {
    /// The ledger that it was made from.
    pub origin: String,
    /// The size of the ledger that it was made from.
    pub as_of: u64,
    /// When, in ledger time.
    #[schema(format = DateTime)]
    pub made: String,
    /// The activities.
    pub activities: Vec<Activity>,
}

/// What the activities are made from.
struct Facts {
    contributors: Vec<Contributor>,
    datasets: Vec<Dataset>,
    projects: Vec<Project>,
    requests: Vec<Request>,
    bases: Vec<LegalBasis>,
    ended: BTreeSet<String>,
}

/// The register as `viewer` may see it.
///
/// # Errors
/// If the store cannot be read.
pub fn register(
    ctx: &AccessContext<'_>,
    viewer: &Viewer,
    keeping: &Keeping,
) -> Result<Register, AccessError> {
    let state = ctx.state();
    let checkpoint = ctx.store.checkpoint().checkpoint;
    let bases: Vec<LegalBasis> = read::all(&state, "legal-basis")?;
    let mut ended = BTreeSet::new();
    for basis in &bases {
        if read::legal_basis_end(&state, &basis.body.id)?.is_some() {
            ended.insert(basis.body.id.clone());
        }
    }
    let facts = Facts {
        contributors: read::all(&state, "contributor")?,
        datasets: read::all(&state, "dataset")?,
        projects: read::all(&state, "project")?,
        requests: read::all(&state, "request")?,
        bases,
        ended,
    };
    let mut activities: Vec<Activity> = facts
        .contributors
        .iter()
        .filter(|c| viewer.covers(&c.body.contributor))
        .map(|c| facts.of_data(c, keeping))
        .collect();
    activities.extend(facts.projects.iter().filter_map(|p| facts.of_project(p, viewer, keeping)));
    activities.extend((*viewer == Viewer::Everything).then(|| accounts(&checkpoint.origin, keeping)));
    Ok(Register {
        origin: checkpoint.origin,
        as_of: checkpoint.size,
        made: ctx.now()?.to_string(),
        activities,
    })
}

impl Facts {
    fn name(&self, id: &ContributorId) -> String {
        let known = self.contributors.iter().find(|c| c.body.contributor == *id);
        known.map_or_else(|| id.to_string(), |c| format!("{} ({id})", c.body.name))
    }

    /// Requests that every committee approved, of which contributors `mine` says so.
    fn approved(&self, mine: impl Fn(&Request) -> bool) -> Vec<&Request> {
        self.requests.iter().filter(|r| r.status() == "approved" && mine(r)).collect()
    }

    fn bases(&self, mine: impl Fn(&LegalBasis) -> bool) -> Vec<String> {
        let standing = self.bases.iter().filter(|b| !self.ended.contains(&b.body.id) && mine(b));
        let told = |b: &LegalBasis| {
            let last = b.body.expires.map_or_else(|| "no last day".to_owned(), |d| format!("until {d}"));
            let kind = b.body.kind.replace('_', " ");
            format!("{}: {kind}, profile {}, by {}, {last}", b.body.id, b.body.profile, b.body.by)
        };
        standing.map(told).collect()
    }

    fn of_data(&self, contributor: &Contributor, keeping: &Keeping) -> Activity {
        let id = &contributor.body.contributor;
        let mut tables = BTreeSet::new();
        let mut profiles = BTreeSet::new();
        for dataset in self.datasets.iter().filter(|d| d.contributor == *id) {
            let Some(last) = dataset.versions.last() else { continue };
            tables.extend(last.body.tables.keys().map(|t| format!("health data: {}", t.replace('_', " "))));
            profiles.insert(last.body.profile.clone());
        }
        let requests = self.approved(|r| r.contributors.contains(id));
        let mut personal_data: Vec<String> = tables.into_iter().collect();
        personal_data.push("consents, refusals and withdrawals".to_owned());
        personal_data.push("record numbers, as keyed tokens only".to_owned());
        if contributor.body.linkage {
            personal_data.push("linkage tokens of identifying fields, keyed".to_owned());
        }
        let mut security = measures(keeping);
        security.extend(profiles.iter().map(|p| format!("de-identified at intake by the profile {p}")));
        Activity {
            id: format!("data:{id}"),
            name: format!("De-identified clinical data of {} for research", contributor.body.name),
            controllers: vec![self.name(id)],
            purposes: unique(
                ["Making de-identified data available for research that patients permit".to_owned()]
                    .into_iter()
                    .chain(requests.iter().map(|r| purpose(r))),
            ),
            data_subjects: vec!["patients of the hospital".to_owned()],
            personal_data,
            recipients: unique(requests.iter().map(|r| r.submitted.body.recipient.to_string())),
            transfers: transfers(),
            time_limits: limits(keeping),
            security,
            legal_bases: self.bases(|b| b.body.contributor == *id),
            to_complete: to_complete(),
        }
    }

    /// The activity of a project; none while it has not asked for data, or for none that the viewer may look into.
    fn of_project(&self, project: &Project, viewer: &Viewer, keeping: &Keeping) -> Option<Activity> {
        let id: &ProjectId = &project.body.project;
        let asked: Vec<&Request> = self
            .requests
            .iter()
            .filter(|r| r.submitted.body.project == *id && viewer.sees(id, &r.contributors))
            .collect();
        let contributors: BTreeMap<&ContributorId, ()> =
            asked.iter().flat_map(|r| &r.contributors).map(|c| (c, ())).collect();
        if asked.is_empty() {
            return None;
        }
        let tables = asked.iter().flat_map(|r| &r.submitted.body.tables);
        let mut time_limits: Vec<String> = unique(asked.iter().map(|r| {
            let ethics = &r.submitted.body.ethics;
            format!("ethics determination {} of {}: until {}", ethics.protocol, ethics.board, ethics.expires)
        }));
        time_limits.push(
            "a copy that was downloaded: as the signed terms say; recalls are listed for the recipient"
                .into(),
        );
        let mut security = measures(keeping);
        security.extend(unique(asked.iter().map(|r| {
            let body = &r.submitted.body;
            format!("released by the profile {}, tier {}, after a privacy gate", body.profile, body.tier)
        })));
        let theirs = |b: &LegalBasis| {
            contributors.contains_key(&b.body.contributor)
                && viewer.covers(&b.body.contributor)
                && b.body.project.as_ref().is_none_or(|p| p == id)
                && b.body.recipient.as_ref().is_none_or(|r| *r == project.body.recipient)
        };
        let mut to_complete = to_complete();
        to_complete
            .push("whether the hospitals are joint controllers, and their arrangement (Art. 26)".to_owned());
        Some(Activity {
            id: format!("project:{id}"),
            name: project.body.title.clone(),
            controllers: contributors.keys().map(|c| self.name(c)).collect(),
            purposes: unique(asked.iter().map(|r| purpose(r))),
            data_subjects: vec!["patients who permit this use".to_owned()],
            personal_data: unique(tables.map(|t| format!("health data: {}", t.replace('_', " ")))),
            recipients: vec![project.body.recipient.to_string()],
            transfers: transfers(),
            time_limits,
            security,
            legal_bases: self.bases(theirs),
            to_complete,
        })
    }
}

fn purpose(request: &Request) -> String {
    let body = &request.submitted.body;
    format!("{} ({}), request {}, {}", body.purpose.label(), body.purpose, body.request, request.status())
}

fn accounts(origin: &str, keeping: &Keeping) -> Activity {
    Activity {
        id: "accounts".to_owned(),
        name: format!("Accounts and ledger of the exchange {origin}"),
        controllers: vec!["the operator of this server".to_owned()],
        purposes: vec!["Letting in who may act, and proving who did what".to_owned()],
        data_subjects: vec!["staff of hospitals, boards and recipients".to_owned()],
        personal_data: vec![
            "token ids and labels".to_owned(),
            "names of those who sign or determine".to_owned(),
        ],
        recipients: vec!["those who may see requests, legal bases and releases".to_owned()],
        transfers: transfers(),
        time_limits: vec![format!("long work: {} days after it ended", keeping.jobs_days)],
        security: measures(keeping),
        legal_bases: Vec::new(),
        to_complete: to_complete(),
    }
}

fn transfers() -> Vec<String> {
    vec!["none recorded: the exchange does not know where a recipient is".to_owned()]
}

fn to_complete() -> Vec<String> {
    [
        "contact of the controller, its representative and its data protection officer (Art. 30(1)(a))",
        "grounds under Art. 6 and Art. 9",
        "transfers to third countries and their safeguards (Art. 30(1)(e))",
        "time limits for erasure that the hospital sets itself (Art. 30(1)(f))",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn limits(keeping: &Keeping) -> Vec<String> {
    vec![
        "a person's data: no further use from a withdrawal on, destroyed when the person is erased"
            .to_owned(),
        "dataset versions and releases: no limit is set at this server".to_owned(),
        format!("an upload that nobody continues: {} hours", keeping.uploads_hours),
        format!("records of long work: {} days after it ended", keeping.jobs_days),
    ]
}

fn measures(keeping: &Keeping) -> Vec<String> {
    let mut all = vec![keeping.transport.to_owned()];
    all.extend(
        [
            "uploads are encrypted at rest under a key that only the hospital keeps",
            "access by role and scope; tokens are kept as hashes",
            "the root key lies outside the data",
            "every use is in a hash-chained, signed ledger before it happens",
            "counts are protected and small numbers are not told",
            "each recipient gets its own pseudonyms and dates",
        ]
        .map(str::to_owned),
    );
    all
}

fn unique(all: impl IntoIterator<Item = String>) -> Vec<String> {
    all.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The activities as rows for [`super::csv::lines`].
///
/// # Errors
/// Never: all members are texts.
pub fn rows(register: &Register) -> Result<Vec<Value>, serde_json::Error> {
    register.activities.iter().map(serde_json::to_value).collect()
}

/// The register for reading and printing.
pub fn text(register: &Register) -> String {
    let mut out = format!(
        "Register of processing activities (GDPR Art. 30)\n{}, {}, made from {} ledger entries\n",
        register.origin, register.made, register.as_of
    );
    for a in &register.activities {
        let parts: [(&str, &[String]); 10] = [
            ("(a) controllers", &a.controllers),
            ("(b) purposes", &a.purposes),
            ("(c) people", &a.data_subjects),
            ("(c) data", &a.personal_data),
            ("(d) recipients", &a.recipients),
            ("(e) transfers", &a.transfers),
            ("(f) time limits", &a.time_limits),
            ("(g) security", &a.security),
            ("legal bases", &a.legal_bases),
            ("to complete", &a.to_complete),
        ];
        // Writing to a String does not fail.
        let _ = write!(out, "\n{}\n", a.name);
        for (name, lines) in parts {
            let none = ["none".to_owned()];
            let lines = if lines.is_empty() { &none } else { lines };
            for (n, line) in lines.iter().enumerate() {
                let _ = writeln!(out, "  {:<16} {line}", if n == 0 { name } else { "" });
            }
        }
    }
    out
}
