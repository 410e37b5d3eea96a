//! What a replay came to: a verdict on every decision, and what is wrong beside them.

use std::collections::BTreeMap;

use almoner_model::{Digest, Seq};
use serde::Serialize;

/// Findings kept; beyond them only their number is.
const FINDINGS_MAX: usize = 100;

/// Whether a decision is what the entries before it make of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Equal,
    /// It is not.
    Differs {
        /// What the ledger says.
        recorded: String,
        /// What comes of its entries.
        computed: String,
    },
    /// It cannot be said any more.
    Erased {
        /// The first entry that it rests on, or itself, whose payload was erased.
        entry: Seq,
    },
}

/// A decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Decided {
    /// Its entry.
    pub seq: Seq,
    /// The entry's `type`.
    pub kind: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Something that is wrong beside the decisions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Which entry, where it is one.
    pub seq: Option<Seq>,
    /// What is wrong.
    pub problem: String,
}

/// Verdicts on one kind of decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Tally {
    /// Equal.
    pub equal: u64,
    /// Differ.
    pub differs: u64,
    /// Erased.
    pub erased: u64,
}

/// House rules that decisions were made by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RulesUsed {
    /// By how many decisions.
    pub decisions: u64,
    /// Whether they are those of this program's version; others are read from the bundle, and whoever wants to know what they
    /// say reads them there.
    pub of_this_version: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing differs and nothing is wrong.
    pub intact: bool,
    /// Entries of the log.
    pub entries: u64,
    /// Entries that the bundle opens, in whole or their subject.
    pub opened: u64,
    /// Members of releases whose consent was evaluated again.
    pub persons: u64,
    /// By kind of decision.
    pub decisions: BTreeMap<&'static str, Tally>,
    /// Decisions that are not opened to the bundle's reader, of which nothing is said.
    pub closed: u64,
    /// Decisions that do not rest on entries alone, by kind: refusals of the gate, which measures the data.
    pub not_recomputable: BTreeMap<&'static str, u64>,
    /// House rules by digest.
    pub rules: BTreeMap<Digest, RulesUsed>,
    /// Every decision that was made again, in the order of the log.
    pub verdicts: Vec<Decided>,
    /// What is wrong beside them; the first hundred.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub findings_total: u64,
}

impl Report {
    /// Adds a verdict.
    pub(super) fn decided(&mut self, seq: Seq, kind: &'static str, verdict: Verdict) {
        let tally = self.decisions.entry(kind).or_default();
        match verdict {
            Verdict::Equal => tally.equal += 1,
            Verdict::Differs { .. } => tally.differs += 1,
            Verdict::Erased { .. } => tally.erased += 1,
        }
        self.verdicts.push(Decided { seq, kind, verdict });
    }

    /// Adds a finding.
    pub(super) fn find(&mut self, seq: Option<Seq>, problem: impl Into<String>) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { seq, problem: problem.into() });
        }
    }

    /// Whether there is a finding of entry `seq`.
    pub(super) fn names(&self, seq: Seq) -> bool {
        self.findings.iter().any(|f| f.seq == Some(seq))
    }

    /// How many decisions differ.
    pub fn differing(&self) -> u64 {
        self.decisions.values().map(|t| t.differs).sum()
    }
}
