//! Observation → measurement or observation, one row for its own value and one for each component.
//!
//! Without a vocabulary the category decides: laboratory and vital signs are measurements, social history and surveys are
//! observations, and of the rest what has a number is a measurement. A loaded vocabulary moves rows to the table of
//! their concept's domain afterwards. Text values are dropped.

use almoner_model::Vocabulary;
use almoner_model::dates::LocalDateTime;

use super::datatypes::{CodeableConcept, Quantity, Reference, ReferenceRange, normal_range, text};
use super::findings::Finding;
use super::mapper::{Chosen, Event, FhirMapper, Mapped, set_code, set_when};
use super::resources::{Component, Observation, Present};
use super::rules::CodeRole;
use crate::mapping::outcome::{Locator, Outcome, reason};

/// A result, whether of the observation itself or of a component.
struct Value<'v> {
    quantity: Option<&'v Quantity<'v>>,
    concept: Option<&'v CodeableConcept<'v>>,
    boolean: Option<bool>,
    integer: Option<i64>,
    range: Option<&'v ReferenceRange<'v>>,
    text: bool,
    other: bool,
}

fn any(values: &[Option<Present>]) -> bool {
    values.iter().any(Option::is_some)
}

macro_rules! value_of {
    ($from:expr) => {
        Value {
            quantity: $from.value_quantity.as_ref(),
            concept: $from.value_codeable_concept.as_ref(),
            boolean: $from.value_boolean,
            integer: $from.value_integer,
            range: normal_range(&$from.reference_range),
            text: $from.value_string.is_some(),
            other: any(&[
                $from.value_range,
                $from.value_ratio,
                $from.value_sampled_data,
                $from.value_time,
                $from.value_date_time,
                $from.value_period,
            ]),
        }
    };
}

impl Value<'_> {
    const fn is_some(&self) -> bool {
        self.quantity.is_some()
            || self.concept.is_some()
            || self.boolean.is_some()
            || self.integer.is_some()
            || self.text
            || self.other
    }

    fn number(&self) -> Option<f64> {
        self.quantity.and_then(|q| q.value).or_else(|| self.integer.map(|i| i as f64))
    }

    fn comparator(&self) -> Option<&str> {
        self.quantity.and_then(|q| q.comparator.as_deref()).filter(|c| !c.is_empty())
    }
}

/// The number of a bound of the normal range, if it is in the unit of the value.
fn bound(bound: Option<&Quantity<'_>>, value: &Value<'_>) -> Option<f64> {
    let unit = |quantity: &Quantity<'_>| text(&quantity.code).to_owned();
    let same = |bound: &Quantity<'_>| {
        let (bound, value) = (unit(bound), value.quantity.map(unit).unwrap_or_default());
        bound.is_empty() || value.is_empty() || bound == value
    };
    bound.filter(|bound| same(bound)).and_then(Quantity::exact)
}

/// Refuses what is about somebody or something else than the person in whose record it is (R4 `Observation.focus`).
fn about_subject(observation: &Observation<'_>) -> Result<(), Outcome> {
    let subject = observation.subject.as_ref().and_then(Reference::target);
    let own = |focus: &Reference<'_>| focus.target().is_some() && focus.target() == subject;
    if observation.focus.iter().all(own) { Ok(()) } else { Err(Outcome::Unmapped(reason::ABOUT_ANOTHER)) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Domain {
    Measurement,
    Observation,
    ByValue,
}

fn domain(category: &[CodeableConcept<'_>]) -> Domain {
    for concept in category {
        if concept.has(&["laboratory", "vital-signs"]) {
            return Domain::Measurement;
        }
        if concept.has(&["social-history", "survey"]) {
            return Domain::Observation;
        }
    }
    Domain::ByValue
}

impl FhirMapper<'_> {
    pub(super) fn observation(&mut self, at: Locator, observation: &Observation<'_>) -> Mapped {
        self.ctx.rules.statuses("Observation").check(text(&observation.status))?;
        about_subject(observation)?;
        let event = self.event(
            at,
            "Observation",
            observation.id.as_ref(),
            observation.subject.as_ref(),
            observation.encounter.as_ref(),
            false,
        )?;
        let code = observation.code.as_ref().ok_or(Outcome::Unmapped(reason::NO_CODE))?;
        let period = observation.effective_period.as_ref().and_then(|p| p.start.as_ref());
        let when = self.first_date(
            event.person,
            &[
                (observation.effective_date_time.as_ref(), None),
                (observation.effective_instant.as_ref(), None),
                (period, None),
                (observation.issued.as_ref(), Some(Finding::RecordedDate)),
            ],
        )?;
        let domain = domain(&observation.category);
        let own = value_of!(observation);
        let mut rows = 0;
        // Why there is no result is no result: nothing was found out.
        let panel = !observation.component.is_empty();
        if own.is_some() || (!panel && observation.data_absent_reason.is_none()) {
            self.value_row(event, when, code, domain, &own)?;
            rows += 1;
        }
        for component in &observation.component {
            let Component { code: Some(code), .. } = component else { continue };
            let value = value_of!(component);
            if value.is_some() || component.data_absent_reason.is_none() {
                self.value_row(event, when, code, domain, &value)?;
                rows += 1;
            }
        }
        if rows == 0 { Err(Outcome::Unmapped(reason::NO_RESULT).into()) } else { Ok(()) }
    }

    fn value_row(
        &mut self,
        event: Event,
        when: LocalDateTime,
        code: &CodeableConcept<'_>,
        domain: Domain,
        value: &Value<'_>,
    ) -> Mapped {
        if value.text {
            self.out.findings.note(Finding::TextValueDropped);
        }
        if value.other {
            self.out.findings.note(Finding::ValueDropped);
        }
        let chosen = self.choose(code, CodeRole::Observation);
        let coded = value.concept.and_then(|concept| self.choose(concept, CodeRole::Value));
        let unit = value.quantity.and_then(|quantity| self.unit(quantity));
        let measurement = match domain {
            // Only a measurement can say that a number is a bound.
            _ if value.comparator().is_some() => true,
            Domain::Measurement => true,
            Domain::Observation => false,
            Domain::ByValue => value.number().is_some(),
        };
        if measurement {
            self.measurement_row(event, when, (chosen, coded, unit), value)
        } else {
            self.observation_row(event, when, (chosen, coded, unit), value)
        }
    }

    fn measurement_row(
        &mut self,
        event: Event,
        when: LocalDateTime,
        (chosen, coded, unit): (Option<Chosen<'_>>, Option<Chosen<'_>>, Option<Chosen<'_>>),
        value: &Value<'_>,
    ) -> Mapped {
        let (columns, rules) = (self.columns.measurement, self.ctx.rules);
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        let scratch = &mut self.scratch;
        set_when(&mut row, columns.measurement_date, columns.measurement_datetime, when);
        row.int64(columns.measurement_type_concept_id, rules.types().ehr);
        let concept = Some(columns.measurement_concept_id);
        set_code(&mut row, scratch, columns.measurement_source_value, concept, chosen);
        set_code(&mut row, scratch, columns.unit_source_value, None, unit);
        set_code(&mut row, scratch, columns.value_source_value, Some(columns.value_as_concept_id), coded);
        let operator = value.comparator().map(|c| rules.comparator(c));
        match (value.number(), operator) {
            (Some(number), None) => drop(row.float64(columns.value_as_number, number)),
            (Some(number), Some(Some(operator))) => {
                row.float64(columns.value_as_number, number).int64(columns.operator_concept_id, operator);
            }
            // A bound of a kind that is not known: the number alone would say something else.
            (Some(_), Some(None)) => self.out.findings.note(Finding::ValueDropped),
            (None, _) => {}
        }
        if let Some(yes) = value.boolean {
            row.int64(columns.value_as_concept_id, rules.answer(yes));
        }
        if let Some(range) = value.range {
            if let Some(low) = bound(range.low.as_ref(), value) {
                row.float64(columns.range_low, low);
            }
            if let Some(high) = bound(range.high.as_ref(), value) {
                row.float64(columns.range_high, high);
            }
        }
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }

    fn observation_row(
        &mut self,
        event: Event,
        when: LocalDateTime,
        (chosen, coded, unit): (Option<Chosen<'_>>, Option<Chosen<'_>>, Option<Chosen<'_>>),
        value: &Value<'_>,
    ) -> Mapped {
        let (columns, rules) = (self.columns.observation, self.ctx.rules);
        let mut row = self.rows.row(columns.table, event.person, event.ordinal, event.row_key);
        let scratch = &mut self.scratch;
        set_when(&mut row, columns.observation_date, columns.observation_datetime, when);
        row.int64(columns.observation_type_concept_id, rules.types().ehr);
        let concept = Some(columns.observation_concept_id);
        set_code(&mut row, scratch, columns.observation_source_value, concept, chosen);
        set_code(&mut row, scratch, columns.unit_source_value, None, unit);
        set_code(&mut row, scratch, columns.value_source_value, Some(columns.value_as_concept_id), coded);
        if let Some(number) = value.number() {
            row.float64(columns.value_as_number, number);
        }
        if let Some(yes) = value.boolean {
            row.int64(columns.value_as_concept_id, rules.answer(yes));
        }
        if let Some(visit) = event.visit_key {
            row.visit_key(visit);
        }
        Ok(row.finish()?)
    }

    /// The UCUM unit of a quantity; other units are free text and stay behind.
    pub(super) fn unit<'q>(&mut self, quantity: &'q Quantity<'_>) -> Option<Chosen<'q>> {
        let code = text(&quantity.code);
        if Vocabulary::from_uri(text(&quantity.system)) == Some(Vocabulary::Ucum)
            && Vocabulary::Ucum.accepts(code)
        {
            return Some(Chosen::Known(Vocabulary::Ucum, code));
        }
        if quantity.value.is_some() {
            self.out.findings.note(Finding::UnknownUnit);
        }
        None
    }
}
