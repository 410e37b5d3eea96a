//! Whether a row goes to the table of its concept's domain: by what its record claims.
//!
//! The domain of a concept says what the code means, the origin of a row what its record says about the person. A row
//! moves only where both agree that an event of that table took place:
//!
//! - What arrived in a table of the CDM stays there; its hospital placed it.
//! - Observations are questions. They go between `measurement` and `observation`, and a number with an operator (`<5`)
//!   stays in `measurement`, because `observation` has no operator and the number alone would say something else.
//! - An allergy is an observation. Where its code names a drug, the concept is [`ALLERGY_TO_DRUG`] and the drug its
//!   value; another substance is a value too.
//! - Conclusions of reports are observations.
//!
//! Where a concept is of a domain that the record cannot claim, the row keeps its table and gets no standard concept; its
//! source concept says what was written.

use almoner_model::Origin;

use super::Domain;

/// SNOMED 416098002, "Allergy to drug": the observation whose value is the drug (HL7 FHIR to OMOP guide, value as concept).
pub const ALLERGY_TO_DRUG: i64 = 439_224;

/// What decides about a row beside the domain.
pub(super) struct Stands<'r> {
    /// Where it is.
    pub table: &'r str,
    /// What it was made from.
    pub origin: Origin,
    /// Whether it has a number, a coded value or a text.
    pub has_value: bool,
    /// Whether its number has an operator.
    pub has_operator: bool,
}

/// Where a row goes with one concept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It stays and gets the concept.
    Here,
    /// It goes to this table and gets the concept.
    There(&'static str),
    /// It stays, and the concept is its value.
    Substance,
    /// It gets no standard concept.
    Unnamed,
}

/// Where a row goes with a concept of `domain`.
pub(super) fn place(row: &Stands<'_>, domain: Domain) -> Place {
    let Some(target) = domain.table() else { return Place::Here };
    if target == row.table || !Domain::has_table(row.table) {
        return Place::Here;
    }
    let may = row.origin.tables().contains(&target);
    match row.origin {
        Origin::Allergy if domain == Domain::Condition => Place::Here,
        Origin::Allergy => Place::Substance,
        Origin::Report => Place::Here,
        Origin::Observation if may && row.has_operator => Place::Here,
        // A question about a diagnosis, with its answer beside it. Without one it would read as the diagnosis.
        Origin::Observation if !may && row.table == "observation" && row.has_value => Place::Here,
        _ if may => Place::There(target),
        _ => Place::Unnamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(table: &str, origin: Origin, domain: Domain) -> Place {
        place(&Stands { table, origin, has_value: false, has_operator: false }, domain)
    }

    #[test]
    fn only_what_says_that_an_event_took_place_goes_to_its_table() {
        use Domain as D;
        let to = Place::There;
        assert_eq!(at("condition_occurrence", Origin::Condition, D::Measurement), to("measurement"));
        assert_eq!(at("condition_occurrence", Origin::Condition, D::Observation), to("observation"));
        assert_eq!(at("condition_occurrence", Origin::Condition, D::Drug), Place::Unnamed);
        assert_eq!(at("procedure_occurrence", Origin::Procedure, D::Drug), to("drug_exposure"));
        assert_eq!(at("procedure_occurrence", Origin::Procedure, D::Condition), Place::Unnamed);
        assert_eq!(at("drug_exposure", Origin::Drug, D::Observation), to("observation"));
        assert_eq!(at("drug_exposure", Origin::Drug, D::Procedure), Place::Unnamed);
        assert_eq!(at("observation", Origin::Observation, D::Measurement), to("measurement"));
        for event in [D::Condition, D::Drug, D::Procedure, D::Device, D::Specimen] {
            assert_eq!(at("observation", Origin::Observation, event), Place::Unnamed);
            assert_eq!(at("measurement", Origin::Observation, event), Place::Unnamed);
            assert_eq!(at("observation", Origin::Report, event), Place::Here);
            let allergy = if event == D::Condition { Place::Here } else { Place::Substance };
            assert_eq!(at("observation", Origin::Allergy, event), allergy);
        }
        assert_eq!(at("observation", Origin::Table, D::Drug), Place::Unnamed, "an OMOP row stays");
        assert_eq!(at("death", Origin::Table, D::Condition), Place::Here, "a cause of death is a condition");
        assert_eq!(at("condition_occurrence", Origin::Condition, D::Other), Place::Here);
    }

    #[test]
    fn an_answer_may_name_its_question_and_an_operator_keeps_its_number() {
        let row = |table, has_value, has_operator| Stands {
            table,
            origin: Origin::Observation,
            has_value,
            has_operator,
        };
        assert_eq!(place(&row("observation", true, false), Domain::Condition), Place::Here);
        assert_eq!(place(&row("measurement", true, false), Domain::Condition), Place::Unnamed);
        assert_eq!(place(&row("measurement", true, false), Domain::Observation), Place::There("observation"));
        assert_eq!(place(&row("measurement", true, true), Domain::Observation), Place::Here);
    }
}
