//! Condition, Procedure, AllergyIntolerance, Device, DiagnosticReport and Specimen.
//!
//! An allergy is an observation about its substance: a code of a drug is its value, "allergy to drug" its concept. A report's coded conclusions are observations; its results are
//! Observations of their own, and its texts are notes, which do not leave.

use almoner_model::Vocabulary;
use almoner_model::dates::LocalDateTime;

use super::datatypes::{Quantity, text};
use super::findings::Finding;
use super::mapper::{Chosen, Event, FhirMapper, Mapped, set_code, set_when};
use super::resources::{AllergyIntolerance, Condition, Device, DiagnosticReport, Procedure, Specimen};
use super::rules::CodeRole;
use crate::mapping::outcome::{Locator, Outcome, Reason, reason};
use crate::mapping::vocabulary::ALLERGY_TO_DRUG;

const fn unmapped(reason: Reason) -> Outcome {
    Outcome::Unmapped(reason)
}

/// Systems whose codes are drugs, and vaccines.
const fn names_drugs(vocabulary: Vocabulary) -> bool {
    matches!(vocabulary, Vocabulary::RxNorm | Vocabulary::Ndc | Vocabulary::Atc | Vocabulary::Cvx)
}

impl FhirMapper<'_> {
    pub(super) fn condition(&mut self, at: Locator, condition: &Condition<'_>) -> Mapped {
        let status = condition.verification_status.as_ref();
        self.ctx.rules.statuses("Condition").check_concept(status)?;
        let event = self.event(
            at,
            "Condition",
            condition.id.as_ref(),
            condition.subject.as_ref(),
            condition.encounter.as_ref(),
            true,
        )?;
        let code = condition.code.as_ref().ok_or(unmapped(reason::NO_CODE))?;
        let onset = condition.onset_period.as_ref().and_then(|p| p.start.as_ref());
        let start = self.first_date(
            event.person,
            &[
                (condition.onset_date_time.as_ref(), None),
                (onset, None),
                (condition.recorded_date.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        let abated = condition.abatement_period.as_ref().and_then(|p| p.end.as_ref().or(p.start.as_ref()));
        let end = self.end_date(event.person, start, condition.abatement_date_time.as_ref().or(abated))?;
        let chosen = self.choose(code, CodeRole::Condition);
        let columns = self.columns.condition_occurrence;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.condition_start_date, columns.condition_start_datetime, start);
        if let Some(end) = end {
            set_when(&mut row, columns.condition_end_date, columns.condition_end_datetime, end);
        }
        row.int64(columns.condition_type_concept_id, self.ctx.rules.types().ehr);
        if status.is_some_and(|status| status.has(&["confirmed"])) {
            row.int64(columns.condition_status_concept_id, self.ctx.rules.confirmed());
        }
        let concept = Some(columns.condition_concept_id);
        set_code(&mut row, &mut self.scratch, columns.condition_source_value, concept, chosen);
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }

    pub(super) fn procedure(&mut self, at: Locator, procedure: &Procedure<'_>) -> Mapped {
        self.ctx.rules.statuses("Procedure").check(text(&procedure.status))?;
        let event = self.event(
            at,
            "Procedure",
            procedure.id.as_ref(),
            procedure.subject.as_ref(),
            procedure.encounter.as_ref(),
            true,
        )?;
        let code = procedure.code.as_ref().ok_or(unmapped(reason::NO_CODE))?;
        let period = procedure.performed_period.as_ref();
        let start = self.first_date(
            event.person,
            &[(procedure.performed_date_time.as_ref(), None), (period.and_then(|p| p.start.as_ref()), None)],
        )?;
        let end = self.end_date(event.person, start, period.and_then(|p| p.end.as_ref()))?;
        let chosen = self.choose(code, CodeRole::Procedure);
        let columns = self.columns.procedure_occurrence;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.procedure_date, columns.procedure_datetime, start);
        if let Some(end) = end {
            set_when(&mut row, columns.procedure_end_date, columns.procedure_end_datetime, end);
        }
        row.int64(columns.procedure_type_concept_id, self.ctx.rules.types().ehr);
        let concept = Some(columns.procedure_concept_id);
        set_code(&mut row, &mut self.scratch, columns.procedure_source_value, concept, chosen);
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }

    pub(super) fn allergy(&mut self, at: Locator, allergy: &AllergyIntolerance<'_>) -> Mapped {
        let status = allergy.verification_status.as_ref();
        self.ctx.rules.statuses("AllergyIntolerance").check_concept(status)?;
        let event = self.event(
            at,
            "AllergyIntolerance",
            allergy.id.as_ref(),
            allergy.patient.as_ref(),
            allergy.encounter.as_ref(),
            true,
        )?;
        let code = allergy.code.as_ref().ok_or(unmapped(reason::NO_CODE))?;
        let onset = allergy.onset_period.as_ref().and_then(|p| p.start.as_ref());
        let start = self.first_date(
            event.person,
            &[
                (allergy.onset_date_time.as_ref(), None),
                (onset, None),
                (allergy.recorded_date.as_ref(), Some(Finding::RecordedDate)),
                (allergy.last_occurrence.as_ref(), None),
            ],
        )?;
        let chosen = self.choose(code, CodeRole::Observation);
        self.coded_observation(event, start, chosen, true)
    }

    /// An observation that has a code and no value; of an allergy to a drug, the drug is the value.
    fn coded_observation(
        &mut self,
        event: Event,
        when: LocalDateTime,
        chosen: Option<Chosen<'_>>,
        allergy: bool,
    ) -> Mapped {
        let columns = self.columns.observation;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.observation_date, columns.observation_datetime, when);
        row.int64(columns.observation_type_concept_id, self.ctx.rules.types().ehr);
        let concept = Some(columns.observation_concept_id);
        set_code(&mut row, &mut self.scratch, columns.observation_source_value, concept, chosen);
        if allergy && matches!(chosen, Some(Chosen::Known(vocabulary, _)) if names_drugs(vocabulary)) {
            row.int64(columns.observation_concept_id, ALLERGY_TO_DRUG);
            set_code(&mut row, &mut self.scratch, columns.value_source_value, None, chosen);
        }
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }

    pub(super) fn device(&mut self, at: Locator, device: &Device<'_>) -> Mapped {
        self.ctx.rules.statuses("Device").check(text(&device.status))?;
        let event = self.event(at, "Device", device.id.as_ref(), device.patient.as_ref(), None, false)?;
        let code = device.r#type.as_ref().ok_or(unmapped(reason::NO_CODE))?;
        let start = self.first_date(
            event.person,
            &[(device.manufacture_date.as_ref(), Some(Finding::ManufactureDate))],
        )?;
        let chosen = self.choose(code, CodeRole::Device);
        // UDI, serial and lot numbers stay behind: no profile may keep them (45 CFR 164.514(e)(2)(xii)).
        let columns = self.columns.device_exposure;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.device_exposure_start_date, columns.device_exposure_start_datetime, start);
        row.int64(columns.device_type_concept_id, self.ctx.rules.types().ehr);
        let concept = Some(columns.device_concept_id);
        set_code(&mut row, &mut self.scratch, columns.device_source_value, concept, chosen);
        Ok(row.finish()?)
    }

    pub(super) fn diagnostic_report(&mut self, at: Locator, report: &DiagnosticReport<'_>) -> Mapped {
        self.ctx.rules.statuses("DiagnosticReport").check(text(&report.status))?;
        let has_text = report.presented_form.is_some() || report.conclusion.is_some();
        if report.conclusion_code.is_empty() {
            let reason = if has_text { reason::NOTE_DROPPED } else { reason::RESULTS_CARRY_IT };
            return Err(unmapped(reason).into());
        }
        let event = self.event(
            at,
            "DiagnosticReport",
            report.id.as_ref(),
            report.subject.as_ref(),
            report.encounter.as_ref(),
            false,
        )?;
        let period = report.effective_period.as_ref().and_then(|p| p.start.as_ref());
        let when = self.first_date(
            event.person,
            &[
                (report.effective_date_time.as_ref(), None),
                (period, None),
                (report.issued.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        if has_text {
            self.out.findings.note(Finding::NoteDropped);
        }
        for conclusion in &report.conclusion_code {
            let chosen = self.choose(conclusion, CodeRole::Condition);
            self.coded_observation(event, when, chosen, false)?;
        }
        Ok(())
    }

    pub(super) fn specimen(&mut self, at: Locator, specimen: &Specimen<'_>) -> Mapped {
        self.ctx.rules.statuses("Specimen").check(text(&specimen.status))?;
        let event =
            self.event(at, "Specimen", specimen.id.as_ref(), specimen.subject.as_ref(), None, false)?;
        let code = specimen.r#type.as_ref().ok_or(unmapped(reason::NO_CODE))?;
        let collection = specimen.collection.as_ref();
        let period = collection.and_then(|c| c.collected_period.as_ref()).and_then(|p| p.start.as_ref());
        let when = self.first_date(
            event.person,
            &[
                (collection.and_then(|c| c.collected_date_time.as_ref()), None),
                (period, None),
                (specimen.received_time.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        let chosen = self.choose(code, CodeRole::Specimen);
        let site = collection.and_then(|c| c.body_site.as_ref());
        let site = site.and_then(|site| self.choose(site, CodeRole::Other));
        let quantity = collection.and_then(|c| c.quantity.as_ref());
        let unit = quantity.and_then(|quantity| self.unit(quantity));
        let columns = self.columns.specimen;
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        set_when(&mut row, columns.specimen_date, columns.specimen_datetime, when);
        row.int64(columns.specimen_type_concept_id, self.ctx.rules.types().ehr);
        let concept = Some(columns.specimen_concept_id);
        set_code(&mut row, &mut self.scratch, columns.specimen_source_value, concept, chosen);
        set_code(&mut row, &mut self.scratch, columns.anatomic_site_source_value, None, site);
        if let Some(value) = quantity.and_then(Quantity::exact) {
            row.float64(columns.quantity, value);
            set_code(&mut row, &mut self.scratch, columns.unit_source_value, None, unit);
        }
        Ok(row.finish()?)
    }
}
