//! The passes over an export's FHIR files.
//!
//! The arrow `intake → mapping` for FHIR: [`read_references`] finds people and medications, then, when the flow has given
//! people their subject ids, [`map_fhir`] maps every line of every file once and accounts for it.

use std::io;

use super::discover::{Export, InputFile, IntakeError};
use super::kinds::InputKind;
use super::limits::Limits;
use super::lines::{LineWorker, LinesRead, read_lines};
use super::report::{FileReport, Quarantine};
use crate::mapping::fhir::{FhirMapper, PatientSink, ReferencePass, References};
use crate::mapping::outcome::{Locator, Outcome};
use crate::mapping::{PersonIndex, StageError};

struct Looking<'p>(ReferencePass<'p>);

impl LineWorker for Looking<'_> {
    fn line(
        &mut self,
        input: &InputFile,
        at: Locator,
        line: &str,
    ) -> Result<(&'static str, Outcome), StageError> {
        match input.kind {
            InputKind::Deleted => self.0.deleted_line(line),
            _ => self.0.line(at, line),
        }
        Ok(("", Outcome::Mapped))
    }
}

impl LineWorker for FhirMapper<'_> {
    fn line(
        &mut self,
        input: &InputFile,
        at: Locator,
        line: &str,
    ) -> Result<(&'static str, Outcome), StageError> {
        match input.kind {
            InputKind::Fhir(file) => {
                Self::line(self, at, line, file.may_hold_references(), input.kind.label())
            }
            _ => Ok(self.deleted_line(line)),
        }
    }
}

/// The reference pass: adds the export's people to `persons` in file order, hands each to `sink`, and gives birth dates,
/// medications and what was deleted, and of each file that it reads how far it was read. Counts nothing; the second pass
/// does. Who was deleted is for the caller to settle ([`References::find_deleted`]).
///
/// # Errors
/// [`IntakeError`] where the machine fails.
pub fn read_references(
    export: &Export,
    limits: &Limits,
    persons: &mut PersonIndex,
    sink: &mut (dyn PatientSink + Send),
) -> Result<(References, Vec<FileReport>), IntakeError> {
    let files: Vec<&InputFile> = export
        .inputs
        .iter()
        .filter(|input| match input.kind {
            InputKind::Fhir(file) => file.may_hold_references(),
            InputKind::Deleted => true,
            _ => false,
        })
        .collect();
    let mut workers = [Looking(ReferencePass::new(persons, sink))];
    let unheard = Quarantine::new(0, Box::new(io::sink()));
    let read = read_lines(&files, limits, &mut workers, &unheard, &|_| ())?;
    let [Looking(pass)] = workers;
    Ok((pass.finish(), FileReport::all(&files, &read.files)))
}

/// The mapping pass: every line of every FHIR file, deletions included, on one thread for each mapper. Gives the counts
/// and, for each file, how far it was read.
///
/// # Errors
/// [`IntakeError`] where the machine or the sink of rows fails.
pub fn map_fhir(
    export: &Export,
    limits: &Limits,
    mappers: &mut [FhirMapper<'_>],
    quarantine: &Quarantine<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(LinesRead, Vec<FileReport>), IntakeError> {
    let mut files: Vec<&InputFile> = export
        .inputs
        .iter()
        .filter(|input| matches!(input.kind, InputKind::Fhir(_) | InputKind::Deleted))
        .collect();
    // Largest first, so that no thread is left alone with a large file at the end; ordinals do not change.
    files.sort_by_key(|input| std::cmp::Reverse(input.bytes));
    let read = read_lines(&files, limits, mappers, quarantine, progress)?;
    let mut reports = FileReport::all(&files, &read.files);
    reports.sort_by_key(|report| report.ordinal);
    Ok((read, reports))
}
