//! How far long work is: what flows report and jobs, terminals and tests listen to.
//!
//! Counts and stage names only; never a value, a file name or a person.

use std::sync::Mutex;

/// Hears how far a piece of work is. Called from any thread, often; implementations must be cheap.
pub trait Progress: Send + Sync {
    /// A stage begins (`intake`, `mapping`, `publish` …), of `total` units where known. Ends the stage before.
    fn stage(&self, name: &'static str, total: Option<u64>, unit: Unit);
    /// `n` more units of the present stage are done.
    fn advance(&self, n: u64);
    /// The work waits for something outside, and tries again: why, in one line.
    fn waiting(&self, _: &str) {}
    /// Whether the work should stop at the next safe place.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What a stage counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Rows or lines.
    Rows,
    /// Files.
    Files,
    /// People.
    Persons,
    /// Steps of any other kind.
    Steps,
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &'static str, _: Option<u64>, _: Unit) {}
    fn advance(&self, _: u64) {}
}

/// Remembers the stages it heard, for tests.
#[derive(Debug, Default)]
pub struct Recorded(Mutex<Vec<(&'static str, u64)>>);

impl Recorded {
    /// The stages in order, each with the units done.
    pub fn stages(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Progress for Recorded {
    fn stage(&self, name: &'static str, _: Option<u64>, _: Unit) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, 0));
    }
    fn advance(&self, n: u64) {
        if let Some(last) = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).last_mut() {
            last.1 += n;
        }
    }
}
