//! Encounter → visit_occurrence.

use super::datatypes::{Reference, text};
use super::findings::Finding;
use super::mapper::{FhirMapper, Mapped, set_code, set_when};
use super::resources::Encounter;
use super::rules::CodeRole;
use crate::mapping::outcome::Locator;

impl FhirMapper<'_> {
    pub(super) fn encounter(&mut self, at: Locator, encounter: &Encounter<'_>) -> Mapped {
        self.ctx.rules.statuses("Encounter").check(text(&encounter.status))?;
        let no_encounter: Option<&Reference<'_>> = None;
        let event = self.event(
            at,
            "Encounter",
            encounter.id.as_ref(),
            encounter.subject.as_ref(),
            no_encounter,
            false,
        )?;
        let period = encounter.period.as_ref();
        let start = self.first_date(event.person, &[(period.and_then(|p| p.start.as_ref()), None)])?;
        let end = self.end_date(event.person, start, period.and_then(|p| p.end.as_ref()))?;
        if end.is_none() {
            self.out.findings.note(Finding::OpenVisit);
        }
        let stay = encounter.hospitalization.as_ref();
        let discharge = stay.and_then(|s| s.discharge_disposition.as_ref());
        let discharge = discharge.and_then(|d| self.choose(d, CodeRole::Other));
        let admitted = stay.and_then(|s| s.admit_source.as_ref());
        let admitted = admitted.and_then(|a| self.choose(a, CodeRole::Other));
        let class = encounter.class.as_ref().map_or("", |class| text(&class.code));
        let columns = self.columns.visit_occurrence;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.visit_start_date, columns.visit_start_datetime, start);
        set_when(&mut row, columns.visit_end_date, columns.visit_end_datetime, end.unwrap_or(start));
        row.int64(columns.visit_concept_id, self.ctx.rules.visit(class))
            .int64(columns.visit_type_concept_id, self.ctx.rules.types().ehr);
        set_code(&mut row, &mut self.scratch, columns.discharged_to_source_value, None, discharge);
        set_code(&mut row, &mut self.scratch, columns.admitted_from_source_value, None, admitted);
        Ok(row.finish()?)
    }
}
