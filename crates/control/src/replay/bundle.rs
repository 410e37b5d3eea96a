//! The bundle of opened payloads that a replay reads beside the log: `payloads.ndjson`, format [`FORMAT`].
//!
//! One JSON object a line, in this order:
//!
//! ```text
//! {"format":"almoner-audit/1","origin":…,"size":…}              which log, and how much of it; `scope` lists the contributors
//!                                                               that its reader speaks for, absent where that is all
//! {"document":sha256,"text":…}                                  house rules and contracts, by the digest of their bytes
//! {"release":id,"member":{…}}                                   the members of a release, as its entry commits to them
//! {"release":id,"erased_member":sha256}                         the leaf hash of a member whose record was erased
//! {"seq":n,"opening":…,"payload":{…},"subject":{…}}             an entry, opened; `subject` where it concerns a person
//! {"seq":n,"subject":{"subject":id,"opening":…}}                somebody's consent or withdrawal: whose it is, and no more
//! {"seq":n,"erased":m}                                          an entry whose payload was destroyed, as entry m says
//! ```
//!
//! Entries stand in the order of the log. A payload stands in its canonical form (RFC 8785), so that its bytes are what the
//! log commits to. Actors are not opened: no decision rests on who acted.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use almoner_ledger::Hash;
use almoner_ledger::evidence::OpenedSubject;
use almoner_ledger::members::Member;
use almoner_model::{ContributorId, Digest, ReleaseId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The only format there is.
pub const FORMAT: &str = "almoner-audit/1";

/// Longest line in bytes: a payload of 1 MiB or a long contract, and some.
const LINE_MAX: u64 = 16 << 20;

/// One line, of whatever kind; see the module's description for what stands together.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line<'a> {
    /// [`FORMAT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The log's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Entries of the log that the bundle is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The contributors that its reader speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<ContributorId>>,
    /// A document's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Digest>,
    /// Its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of which release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// A member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// What is left of a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_member: Option<Digest>,
    /// An entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Opens its payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<Digest>,
    /// Its payload.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
    /// Whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<OpenedSubject>,
    /// The entry that says that it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased: Option<Seq>,
}

/// An entry as the bundle has it.
#[derive(Debug, Default)]
pub struct Given {
    /// What opens the payload, and the payload's text.
    pub payload: Option<(Digest, Box<RawValue>)>,
    /// Whom it concerns.
    pub subject: Option<OpenedSubject>,
    /// The entry that says that it was erased.
    pub erased: Option<Seq>,
}

/// A person in a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// All ids.
    pub ids: Box<[i64]>,
    /// The directives that are said to permit it, ascending.
    pub directives: Box<[Seq]>,
    /// The person's id in the release.
    pub pseudonym: Box<str>,
}

/// Who is in a release.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// The members.
    pub members: Vec<Listed>,
    /// The leaf hashes of those whose records were erased.
    pub erased: Vec<Hash>,
    /// The leaf hashes of all members.
    pub hashes: Vec<Hash>,
}

/// What stands before the entries.
#[derive(Debug, Default)]
pub struct Head {
    /// The log's name.
    pub origin: String,
    /// Entries of the log that it is of.
    pub size: u64,
    /// The contributors that its reader speaks for; none for all.
    pub scope: Option<Vec<ContributorId>>,
    /// Documents, whose digests were checked.
    pub documents: BTreeMap<Digest, String>,
    /// Documents whose text is another.
    pub changed: Vec<Digest>,
    /// Members by release.
    pub releases: BTreeMap<ReleaseId, Listing>,
}

/// Why a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It could not be had.
    #[error("the bundle cannot be read: {0}")]
    Unread(#[from] io::Error),
    /// A line is not what it must be.
    #[error("line {line} of the bundle: {problem}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong; never a value.
        problem: &'static str,
    },
}

/// Reads a bundle line by line.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    /// The line that was read and not yet used.
    text: String,
    number: u64,
    used: bool,
    last: Option<Seq>,
}

impl<R: BufRead> Lines<R> {
    /// From its first line.
    pub fn new(from: R) -> Self {
        Self { from, text: String::new(), number: 0, used: true, last: None }
    }

    /// The present line; `None` at the end.
    fn present(&mut self) -> Result<Option<Line<'_>>, BundleError> {
        if self.used {
            self.text.clear();
            let read = Read::take(&mut self.from, LINE_MAX).read_line(&mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.used = false;
        }
        let wrong = BundleError::Line { line: self.number, problem: "it is not a line of a bundle" };
        serde_json::from_str(self.text.trim_end()).map(Some).map_err(|_| wrong)
    }

    fn wrong<T>(&self, problem: &'static str) -> Result<T, BundleError> {
        Err(BundleError::Line { line: self.number, problem })
    }

    /// Everything before the first entry.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn head(&mut self) -> Result<Head, BundleError> {
        let Some(first) = self.present()? else { return self.wrong("it is empty") };
        let (Some(origin), Some(size)) = (first.origin, first.size) else {
            return self.wrong("it does not begin with the log that it is of");
        };
        if first.format.as_deref() != Some(FORMAT) {
            return self.wrong("this program understands the format almoner-audit/1 only");
        }
        let mut head = Head { origin, size, scope: first.scope, ..Head::default() };
        self.used = true;
        loop {
            let Some(line) = self.present()? else { return Ok(head) };
            match line {
                Line { seq: Some(_), .. } => return Ok(head),
                Line { document: Some(digest), text: Some(text), .. } => {
                    if Digest::of(&text) == digest {
                        head.documents.insert(digest, text);
                    } else {
                        head.changed.push(digest);
                    }
                }
                Line { release: Some(release), member, erased_member, .. } => {
                    let listing = head.releases.entry(release).or_default();
                    if listing.take(member, erased_member).is_none() {
                        return self.wrong("a member is not one");
                    }
                }
                _ => return self.wrong("it is of no kind that there is"),
            }
            self.used = true;
        }
    }

    /// What the bundle has of entry `seq`. Entries are asked for in ascending order.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn entry(&mut self, seq: Seq) -> Result<Option<Given>, BundleError> {
        let last = self.last;
        let Some(line) = self.present()? else { return Ok(None) };
        let Some(at) = line.seq else { return self.wrong("it stands among the entries and is none") };
        if at > seq {
            return Ok(None);
        }
        if at < seq || last.is_some_and(|last| at <= last) {
            return self.wrong("the entries do not stand in the order of the log");
        }
        let payload = match (line.opening, line.payload) {
            (Some(opening), Some(payload)) => Some((opening, payload.to_owned())),
            (None, None) => None,
            _ => return self.wrong("a payload and what opens it stand together"),
        };
        let given = Given { payload, subject: line.subject, erased: line.erased };
        (self.used, self.last) = (true, Some(at));
        Ok(Some(given))
    }

    /// Whether something stands after the last entry that was asked for.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn more(&mut self) -> Result<bool, BundleError> {
        Ok(self.present()?.is_some())
    }
}

impl Listing {
    fn take(&mut self, member: Option<Member>, erased: Option<Digest>) -> Option<()> {
        if let Some(hash) = erased {
            self.erased.push(hash.0);
            self.hashes.push(hash.0);
        }
        if let Some(member) = member {
            self.hashes.push(member.hash().ok()?);
            let ids = member.also.iter().chain([&member.subject]).map(|id| id.parse().ok());
            let mut ids = ids.collect::<Option<Vec<i64>>>()?;
            ids.sort_unstable();
            self.members.push(Listed {
                ids: ids.into(),
                directives: member.directives.into(),
                pseudonym: member.pseudonym.into(),
            });
        }
        Some(())
    }
}
