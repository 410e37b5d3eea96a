//! MedicationRequest, -Administration, -Statement, -Dispense and Immunization → drug_exposure.

use almoner_model::dates::LocalDateTime;
use serde_json::value::RawValue;

use super::datatypes::{CodeableConcept, Coding, Quantity, Reference, Text, text};
use super::findings::Finding;
use super::mapper::{Event, FhirMapper, Mapped, read, set_code, set_when};
use super::reference::Target;
use super::resources::{
    Dosage, Immunization, Medication, MedicationAdministration, MedicationDispense, MedicationRequest,
    MedicationStatement,
};
use super::rules::CodeRole;
use crate::mapping::outcome::{Locator, Outcome, reason};

/// What the kinds of drug records have in common.
struct Exposure<'e> {
    event: Event,
    start: LocalDateTime,
    end: Option<LocalDateTime>,
    type_concept: i64,
    route: Option<&'e CodeableConcept<'e>>,
    refills: Option<i64>,
    quantity: Option<f64>,
    days_supply: Option<i64>,
}

/// The ways in which a record names its medication.
struct Named<'n> {
    concept: Option<&'n CodeableConcept<'n>>,
    reference: Option<&'n Reference<'n>>,
    contained: &'n [&'n RawValue],
}

macro_rules! named {
    ($from:expr) => {
        Named {
            concept: $from.medication_codeable_concept.as_ref(),
            reference: $from.medication_reference.as_ref(),
            contained: &$from.contained,
        }
    };
}

/// Whole days of a quantity in days, weeks, months of 30 days or years of 365 days. Without a unit it is none.
fn days(quantity: &Quantity<'_>) -> Option<i64> {
    let factor = match text(&quantity.code) {
        "d" => 1.0,
        "wk" => 7.0,
        "mo" => 30.0,
        "a" => 365.0,
        _ => return None,
    };
    let days = quantity.exact()? * factor;
    (0.0..=36_500.0).contains(&days).then(|| days.round() as i64)
}

fn route<'d>(dosage: &'d [Dosage<'d>]) -> Option<&'d CodeableConcept<'d>> {
    dosage.iter().find_map(|d| d.route.as_ref())
}

impl FhirMapper<'_> {
    pub(super) fn medication_request(&mut self, at: Locator, request: &MedicationRequest<'_>) -> Mapped {
        self.ctx.rules.statuses("MedicationRequest").check(text(&request.status))?;
        if request.do_not_perform == Some(true) {
            return Err(Outcome::Unmapped(reason::NOT_DONE).into());
        }
        self.ctx.rules.statuses("MedicationRequest.intent").check(text(&request.intent))?;
        let (id, encounter) = (request.id.as_ref(), request.encounter.as_ref());
        let event = self.event(at, "MedicationRequest", id, request.subject.as_ref(), encounter, true)?;
        let dispense = request.dispense_request.as_ref();
        let validity = dispense.and_then(|d| d.validity_period.as_ref());
        let start = self.first_date(
            event.person,
            &[(request.authored_on.as_ref(), None), (validity.and_then(|p| p.start.as_ref()), None)],
        )?;
        // Until when it may be dispensed (its validity) is not until when it is taken.
        let exposure = Exposure {
            event,
            start,
            end: None,
            type_concept: self.ctx.rules.types().prescription,
            route: route(&request.dosage_instruction),
            refills: dispense.and_then(|d| d.number_of_repeats_allowed),
            quantity: dispense.and_then(|d| d.quantity.as_ref()).and_then(Quantity::exact),
            days_supply: dispense.and_then(|d| d.expected_supply_duration.as_ref()).and_then(days),
        };
        self.drug(&named!(request), &exposure)
    }

    pub(super) fn medication_administration(
        &mut self,
        at: Locator,
        administration: &MedicationAdministration<'_>,
    ) -> Mapped {
        self.ctx.rules.statuses("MedicationAdministration").check(text(&administration.status))?;
        let (id, context) = (administration.id.as_ref(), administration.context.as_ref());
        let subject = administration.subject.as_ref();
        let event = self.event(at, "MedicationAdministration", id, subject, context, true)?;
        let period = administration.effective_period.as_ref();
        let start = self.first_date(
            event.person,
            &[
                (administration.effective_date_time.as_ref(), None),
                (period.and_then(|p| p.start.as_ref()), None),
            ],
        )?;
        let exposure = Exposure {
            event,
            start,
            end: self.end_date(event.person, start, period.and_then(|p| p.end.as_ref()))?,
            type_concept: self.ctx.rules.types().administration,
            route: administration.dosage.as_ref().and_then(|d| d.route.as_ref()),
            refills: None,
            quantity: None,
            days_supply: None,
        };
        self.drug(&named!(administration), &exposure)
    }

    pub(super) fn medication_statement(
        &mut self,
        at: Locator,
        statement: &MedicationStatement<'_>,
    ) -> Mapped {
        self.ctx.rules.statuses("MedicationStatement").check(text(&statement.status))?;
        let (id, context) = (statement.id.as_ref(), statement.context.as_ref());
        let event = self.event(at, "MedicationStatement", id, statement.subject.as_ref(), context, true)?;
        let period = statement.effective_period.as_ref();
        let start = self.first_date(
            event.person,
            &[
                (statement.effective_date_time.as_ref(), None),
                (period.and_then(|p| p.start.as_ref()), None),
                (statement.date_asserted.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        let exposure = Exposure {
            event,
            start,
            end: self.end_date(event.person, start, period.and_then(|p| p.end.as_ref()))?,
            type_concept: self.ctx.rules.types().ehr,
            route: route(&statement.dosage),
            refills: None,
            quantity: None,
            days_supply: None,
        };
        self.drug(&named!(statement), &exposure)
    }

    pub(super) fn medication_dispense(&mut self, at: Locator, dispense: &MedicationDispense<'_>) -> Mapped {
        self.ctx.rules.statuses("MedicationDispense").check(text(&dispense.status))?;
        let (id, context) = (dispense.id.as_ref(), dispense.context.as_ref());
        let event = self.event(at, "MedicationDispense", id, dispense.subject.as_ref(), context, true)?;
        let start = self.first_date(
            event.person,
            &[(dispense.when_handed_over.as_ref(), None), (dispense.when_prepared.as_ref(), None)],
        )?;
        let exposure = Exposure {
            event,
            start,
            end: None,
            type_concept: self.ctx.rules.types().dispensing,
            route: route(&dispense.dosage_instruction),
            refills: None,
            quantity: dispense.quantity.as_ref().and_then(Quantity::exact),
            days_supply: dispense.days_supply.as_ref().and_then(days),
        };
        self.drug(&named!(dispense), &exposure)
    }

    pub(super) fn immunization(&mut self, at: Locator, immunization: &Immunization<'_>) -> Mapped {
        self.ctx.rules.statuses("Immunization").check(text(&immunization.status))?;
        let (id, encounter) = (immunization.id.as_ref(), immunization.encounter.as_ref());
        let event = self.event(at, "Immunization", id, immunization.patient.as_ref(), encounter, true)?;
        let start = self.first_date(
            event.person,
            &[
                (immunization.occurrence_date_time.as_ref(), None),
                (immunization.recorded.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        let exposure = Exposure {
            event,
            start,
            end: None,
            type_concept: self.ctx.rules.types().administration,
            route: immunization.route.as_ref(),
            refills: None,
            quantity: None,
            days_supply: None,
        };
        let code = immunization.vaccine_code.as_ref().ok_or(Outcome::Unmapped(reason::NO_CODE))?;
        self.drug_row(code, &exposure)
    }

    /// Finds the medication's code: inline, contained, or in a Medication resource of the export.
    fn drug(&mut self, named: &Named<'_>, exposure: &Exposure<'_>) -> Mapped {
        if let Some(concept) = named.concept {
            return self.drug_row(concept, exposure);
        }
        let reference = named.reference.ok_or(Outcome::Unmapped(reason::NO_CODE))?;
        match reference.target() {
            Some(Target::Contained(id)) => {
                for raw in named.contained {
                    let medication: Medication<'_> = match read(raw.get()) {
                        Ok(medication) => medication,
                        Err(_) => continue,
                    };
                    if let (Some(code), true) = (&medication.code, medication.id.as_deref() == Some(id)) {
                        return self.drug_row(code, exposure);
                    }
                }
                Err(Outcome::Unmapped(reason::NO_CODE).into())
            }
            Some(Target::Id { kind: None | Some("Medication"), id }) => {
                let references = self.ctx.references;
                let Some(codes) = references.medication(self.hasher.row_key("Medication", id)) else {
                    return self.uncoded_drug(exposure);
                };
                let coding = |(system, code): &'_ (Box<str>, Box<str>)| Coding {
                    system: Some(Text::owned(system)),
                    code: Some(Text::owned(code)),
                };
                let concept = CodeableConcept { coding: codes.iter().map(coding).collect() };
                self.drug_row(&concept, exposure)
            }
            _ => self.uncoded_drug(exposure),
        }
    }

    /// A row of a drug whose Medication is not in the export. One that did not change need not be in an export of changes.
    fn uncoded_drug(&mut self, exposure: &Exposure<'_>) -> Mapped {
        self.out.findings.note(Finding::DanglingMedication);
        if self.ctx.persons.continues() {
            self.out.uncoded.push((exposure.event.row_key, exposure.event.ordinal));
        }
        self.drug_row(&CodeableConcept::default(), exposure)
    }

    fn drug_row(&mut self, code: &CodeableConcept<'_>, exposure: &Exposure<'_>) -> Mapped {
        let chosen = self.choose(code, CodeRole::Drug);
        let route = exposure.route.and_then(|route| self.choose(route, CodeRole::Other));
        let (columns, event) = (self.columns.drug_exposure, exposure.event);
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        let scratch = &mut self.scratch;
        let (start_date, start_datetime) =
            (columns.drug_exposure_start_date, columns.drug_exposure_start_datetime);
        set_when(&mut row, start_date, start_datetime, exposure.start);
        match (exposure.end, exposure.days_supply) {
            (Some(end), _) => {
                set_when(&mut row, columns.drug_exposure_end_date, columns.drug_exposure_end_datetime, end);
                row.date(columns.verbatim_end_date, end.date);
            }
            (None, Some(days)) => {
                let last = exposure.start.date.plus_days((days - 1).max(0) as i32);
                row.date(columns.drug_exposure_end_date, last);
            }
            (None, None) => {
                row.date(columns.drug_exposure_end_date, exposure.start.date);
            }
        }
        row.int64(columns.drug_type_concept_id, exposure.type_concept);
        let concept = Some(columns.drug_concept_id);
        set_code(&mut row, scratch, columns.drug_source_value, concept, chosen);
        set_code(&mut row, scratch, columns.route_source_value, None, route);
        if let Some(refills) = exposure.refills {
            row.int64(columns.refills, refills);
        }
        if let Some(quantity) = exposure.quantity {
            row.float64(columns.quantity, quantity);
        }
        if let Some(days) = exposure.days_supply {
            row.int64(columns.days_supply, days);
        }
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }
}
