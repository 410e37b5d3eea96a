//! The course of a life as hospitals see it: visits, and what is found, measured, prescribed and written down at each.
//!
//! Blood pressure, haemoglobin A1c, weight and lipids follow the person's illnesses and their treatment, so that a cohort
//! such as "type 2 diabetes, metformin, A1c of 6.5 or more" finds whom a clinician would expect. The renderers (`fhir`,
//! `omop`) say the same events in two formats.

use almoner_model::Date;

use super::codes::{
    A1C, ACUTE, ALLERGENS, ASPIRIN, BMI, CHOLESTEROL, CREATININE, DIABETES, DIASTOLIC, GLUCOSE, HDL,
    HEART_FAILURE, HEART_RATE, HEIGHT, HYPERTENSION, ILLNESSES, KIDNEY, LIPIDS, Measured, PACEMAKER,
    PARACETAMOL, PROCEDURES, SYSTOLIC, Term, VACCINES, WEIGHT,
};
use super::people::{Person, TODAY};
use super::rng::Rng;

/// How a person came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// To a clinic.
    Ambulatory,
    /// To an emergency department.
    Emergency,
    /// To a ward, for days.
    Inpatient,
}

/// One visit.
#[derive(Debug)]
pub struct Visit {
    /// Unique in the population.
    pub id: u128,
    /// First day.
    pub start: Date,
    /// Seconds after midnight of the first day.
    pub at: u32,
    /// Last day.
    pub end: Date,
    /// How the person came.
    pub class: Class,
    /// A number from which the practitioner is chosen.
    pub practitioner: u64,
    /// A number that decides which identifiers hide where.
    pub hiding: u64,
}

/// What happened at a visit.
#[derive(Debug)]
pub enum Event {
    /// A diagnosis: code, onset, end.
    Condition(&'static Term, Date, Option<Date>),
    /// Systolic and diastolic pressure.
    Pressure(i64, i64),
    /// A measurement, in units of its last decimal.
    Measure(&'static Measured, i64),
    /// Smoking status.
    Smoking(usize),
    /// A prescription for so many days.
    Prescription(&'static Term, i64),
    /// A dose given on the ward.
    Dose(&'static Term),
    /// What the person says they take.
    Reported(&'static Term),
    /// What the pharmacy handed out, for so many days.
    Dispensed(&'static Term, i64),
    /// A procedure.
    Procedure(&'static Term),
    /// A vaccination.
    Vaccine(&'static Term),
    /// An allergy.
    Allergy(&'static Term),
    /// An implant.
    Device(&'static Term),
    /// Blood was taken.
    Specimen,
    /// A laboratory report of the last so many measurements.
    Report(usize),
    /// A clinical note.
    Note,
}

/// Plays the last `years` of a person's life and hands every visit of `hospital` to `sink`, in order of time.
///
/// Visits are the same whichever hospital is asked for.
pub fn play(
    seed: u64,
    person: &Person,
    hospital: usize,
    years: u32,
    sink: &mut impl FnMut(&Visit, &[Event]),
) {
    let mut told = Told::default();
    let last = person.death.unwrap_or(TODAY);
    let first = last.plus_days(-(years as i32) * 365).max(person.birth);
    let mut events = Vec::with_capacity(32);
    for (ordinal, start) in days_of_visits(seed, person, first, last, years).into_iter().enumerate() {
        let rng = &mut Rng::named(seed, &[5, person.number, ordinal as u64]);
        let elsewhere = person.hospitals.1.filter(|_| ordinal == 1 || (ordinal > 1 && rng.chance(400)));
        let class = match rng.below(20) {
            0 => Class::Inpatient,
            1 | 2 => Class::Emergency,
            _ => Class::Ambulatory,
        };
        let stay = if class == Class::Inpatient { rng.between(1, 9) } else { 0 };
        let visit = Visit {
            id: rng.wide(),
            start,
            at: (rng.between(7 * 3600, 18 * 3600) + 19) as u32,
            end: start.plus_days(stay as i32).min(last),
            class,
            practitioner: rng.bits(),
            hiding: rng.bits(),
        };
        if elsewhere.unwrap_or(person.hospitals.0) != hospital {
            continue;
        }
        events.clear();
        told.visit(person, &visit, rng, &mut events);
        sink(&visit, &events);
    }
}

fn days_of_visits(seed: u64, person: &Person, first: Date, last: Date, years: u32) -> Vec<Date> {
    let rng = &mut Rng::named(seed, &[4, person.number]);
    let mut days = Vec::with_capacity(years as usize * 4);
    let span = i64::from(last.days() - first.days()).max(0);
    let ill = person.illnesses.iter().flatten().filter(|onset| **onset <= last).count() as i64;
    // Two at least, so that a person who goes to two hospitals is seen at both.
    let visits = (2 + (ill.min(4) + rng.between(0, 2)) * i64::from(years) * 2 / 3).min(400);
    for _ in 0..visits {
        days.push(first.plus_days(rng.between(0, span) as i32));
    }
    days.sort_unstable();
    days
}

/// What a hospital has written down already, so that it is said once.
#[derive(Default)]
struct Told {
    illnesses: [bool; ILLNESSES.len()],
    measured: bool,
    autumn: i32,
    implanted: bool,
}

impl Told {
    fn visit(&mut self, person: &Person, visit: &Visit, rng: &mut Rng, out: &mut Vec<Event>) {
        let day = visit.start;
        let first = !self.measured;
        self.diagnoses(person, day, rng, out);
        self.vital_signs(person, day, rng, out);
        if first {
            out.push(Event::Smoking(person.smoker));
            if rng.chance(120) {
                out.push(Event::Allergy(rng.pick(&ALLERGENS)));
            }
        }
        if first || rng.chance(350) {
            laboratory(person, day, rng, out);
        }
        for (at, illness) in ILLNESSES.iter().enumerate() {
            if person.has(at, day) && !illness.drugs.is_empty() && rng.chance(850) {
                let drug = &illness.drugs[(person.number + at as u64) as usize % illness.drugs.len()];
                out.push(Event::Prescription(drug, 90));
                if rng.chance(80) {
                    out.push(Event::Dispensed(drug, 90));
                }
            }
        }
        if visit.class != Class::Ambulatory {
            out.push(Event::Dose(&PARACETAMOL));
        }
        if person.age(day) > 45 && rng.chance(30) {
            out.push(Event::Reported(&ASPIRIN));
        }
        if rng.chance(250) {
            out.push(Event::Procedure(rng.pick(&PROCEDURES)));
        }
        if day.month() >= 10 && self.autumn != day.year() {
            self.autumn = day.year();
            out.push(Event::Vaccine(&VACCINES[0]));
        } else if rng.chance(25) {
            out.push(Event::Vaccine(&VACCINES[1 + rng.below(2) as usize]));
        }
        if person.has(HEART_FAILURE, day) && !self.implanted && rng.chance(200) {
            self.implanted = true;
            out.push(Event::Device(&PACEMAKER));
        }
        if visit.class == Class::Inpatient || rng.chance(300) {
            out.push(Event::Note);
        }
    }

    fn diagnoses(&mut self, person: &Person, day: Date, rng: &mut Rng, out: &mut Vec<Event>) {
        for (at, illness) in ILLNESSES.iter().enumerate() {
            if let Some(onset) = person.illnesses[at].filter(|onset| *onset <= day)
                && !self.illnesses[at]
            {
                self.illnesses[at] = true;
                out.push(Event::Condition(&illness.term, onset, None));
            }
        }
        if rng.chance(330) {
            let end = day.plus_days(rng.between(4, 28) as i32);
            out.push(Event::Condition(rng.pick(&ACUTE), day, Some(end)));
        }
    }

    fn vital_signs(&mut self, person: &Person, day: Date, rng: &mut Rng, out: &mut Vec<Event>) {
        let grown = person.age(day).min(18);
        let height = person.body.0 * (30 + grown * 70 / 18) / 100;
        let weight = person.body.1 * (8 + grown * 92 / 18) / 100 + rng.between(-15, 15);
        let raised = if person.has(HYPERTENSION, day) { 22 } else { 0 };
        let systolic = rng.bell(100 + grown + raised, 9);
        out.push(Event::Pressure(systolic, systolic * 62 / 100 + rng.between(-4, 6)));
        out.push(Event::Measure(&HEART_RATE, rng.bell(76 + (18 - grown) * 2, 8)));
        out.push(Event::Measure(&WEIGHT, weight.max(25)));
        if !self.measured || grown < 18 {
            out.push(Event::Measure(&HEIGHT, height));
        }
        // kg/m² in hundredths from hectograms and millimetres.
        out.push(Event::Measure(&BMI, weight.max(25) * 10_000_000 / (height * height)));
        self.measured = true;
    }
}

fn laboratory(person: &Person, day: Date, rng: &mut Rng, out: &mut Vec<Event>) {
    let before = out.len();
    let lipids = if person.has(LIPIDS, day) { 45 } else { 0 };
    out.push(Event::Specimen);
    let (a1c, glucose) = match person.illnesses[DIABETES].filter(|onset| *onset <= day) {
        // High when it is found, lower after some months on metformin.
        Some(onset) if day.days() - onset.days() < 180 => (rng.bell(86, 8), rng.bell(190, 25)),
        Some(_) => (rng.bell(72, 6), rng.bell(150, 22)),
        None => (rng.bell(54, 3), rng.bell(92, 9)),
    };
    if person.has(DIABETES, day) || rng.chance(400) {
        out.push(Event::Measure(&A1C, a1c));
    }
    out.push(Event::Measure(&GLUCOSE, glucose));
    let kidney = if person.has(KIDNEY, day) { 85 } else { 0 };
    out.push(Event::Measure(&CREATININE, rng.bell(88 + kidney, 12)));
    out.push(Event::Measure(&CHOLESTEROL, rng.bell(178 + lipids, 18)));
    out.push(Event::Measure(&HDL, rng.bell(54, 7)));
    out.push(Event::Report(out.len() - before - 1));
}

/// Both components of a blood pressure reading.
pub const fn pressures(systolic: i64, diastolic: i64) -> [(&'static Measured, i64); 2] {
    [(&SYSTOLIC, systolic), (&DIASTOLIC, diastolic)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::people::hospitals;

    #[test]
    fn those_who_go_to_two_hospitals_are_seen_at_both() {
        for number in 0..300 {
            let person = Person::new(9, number, hospitals(9, number, 2, 1000));
            for hospital in 0..2 {
                let (mut visits, mut last) = (0, Date::from_days(i32::MIN));
                play(9, &person, hospital, 3, &mut |visit, events| {
                    assert!(visit.start >= last && visit.start <= visit.end && !events.is_empty());
                    assert!(visit.start >= person.birth && visit.end <= person.death.unwrap_or(visit.end));
                    (visits, last) = (visits + 1, visit.start);
                });
                assert!(visits > 0, "person {number} at hospital {hospital}");
            }
        }
    }

    #[test]
    fn sugar_follows_diabetes() {
        let (mut ill, mut well) = (Vec::new(), Vec::new());
        for number in 0..1500 {
            let person = Person::new(4, number, (0, None));
            play(4, &person, 0, 4, &mut |visit, events| {
                for event in events {
                    if let Event::Measure(what, value) = event
                        && **what == A1C
                    {
                        let list = if person.has(DIABETES, visit.start) { &mut ill } else { &mut well };
                        list.push(*value);
                    }
                }
            });
        }
        let high = |list: &[i64]| list.iter().filter(|v| **v >= 65).count() * 100 / list.len();
        assert!(high(&ill) > 70, "{} of 100", high(&ill));
        assert_eq!(high(&well), 0);
    }
}
