//! `cohort::plan`: a definition becomes event queries and a program. Pure: what datasets declare and what vocabularies
//! know are inputs.
//!
//! Everything that would make an answer differ from what was asked is refused here with its JSON Pointer: day windows
//! over dates known to the year, calendar bounds that are not year boundaries on shifted dates, ages beyond the top
//! code, concept sets that no loaded vocabulary can resolve. Queries are kept as table, selection and result range, and
//! programs as index queries and a rule, so that another language can be planned onto the same two parts.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{Code, DatasetId, Date, DatePrecision};

use super::definition::{AgeAt, AgeRange, Criterion, Period, SimpleCohort, ValueRange, When};
use super::evaluate::{Limit, Program, Rule as Condition, Window};
use super::{DefinitionError, Rule};

type Result<T> = std::result::Result<T, DefinitionError>;

/// What the rows of one table of a dataset can be selected by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableFacts {
    /// Rows.
    pub rows: u64,
    /// How many of the rows with a code have a concept id other than 0.
    pub concept_ids: Held,
    /// How many of the rows with a code have a source value `VOCABULARY:code`.
    pub source_codes: Held,
}

/// How many of the rows that have a code at all have it in one form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Held {
    /// No row.
    #[default]
    None,
    /// Some rows; others have the code in the other form only.
    Some,
    /// Every row.
    All,
}

/// What a dataset version declares about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatasetFacts {
    /// Which.
    pub dataset: DatasetId,
    /// How exact its event dates are.
    pub date_precision: DatePrecision,
    /// The epoch of the offsets that its dates were moved by; none where they were not moved.
    pub offset_epoch: Option<u32>,
    /// The age from which ages are not told apart.
    pub age_top_code: Option<u32>,
    /// Its tables.
    pub tables: BTreeMap<String, TableFacts>,
}

/// What a loaded vocabulary knows.
pub trait Concepts {
    /// The concept of a code.
    fn of_code(&self, code: &Code) -> Option<i64>;
    /// Whether the concept exists.
    fn knows(&self, concept: i64) -> bool;
    /// The standard concepts that a concept maps to (itself, if standard).
    fn standard(&self, concept: i64) -> Vec<i64>;
    /// The standard concepts at or below a standard concept; `None` if no hierarchy is loaded.
    fn descendants(&self, concept: i64) -> Option<Vec<i64>>;
}

/// Which rows of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Standard concept ids, matched in the table's concept column.
    pub concepts: BTreeSet<i64>,
    /// Concepts as hospitals coded them, matched in the table's source concept column.
    pub source_concepts: BTreeSet<i64>,
    /// `VOCABULARY:code`, matched in the table's source value column.
    pub source_values: BTreeSet<String>,
}

impl Selection {
    /// Whether it selects every row.
    pub fn is_everything(&self) -> bool {
        self.concepts.is_empty() && self.source_concepts.is_empty() && self.source_values.is_empty()
    }
}

/// A range of `value_as_number`, both ends included.
#[derive(Clone, PartialEq, Debug)]
pub struct ValueFilter {
    /// Least.
    pub min: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
    /// `UCUM:unit`, matched in `unit_source_value`.
    pub unit: Option<String>,
    /// The unit's concept, matched in `unit_concept_id`.
    pub unit_concept: Option<i64>,
}

/// The events of one kind.
#[derive(Clone, PartialEq, Debug)]
pub struct EventQuery {
    /// The canonical table.
    pub table: &'static str,
    /// Which rows.
    pub selection: Selection,
    /// With which results.
    pub value: Option<ValueFilter>,
    /// Starting in which calendar range.
    pub period: Period,
}

/// Event queries and a program over them.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The queries; programs name them by position.
    pub queries: Vec<EventQuery>,
    /// The program.
    pub program: Program,
    /// What an answer must say of itself, each a sentence: what the datasets can answer only nearly.
    pub notes: Vec<String>,
}

impl Plan {
    /// The canonical tables that the plan looks at, sorted; `person` where it asks for sex or age.
    pub fn tables(&self) -> Vec<&'static str> {
        let mut tables: Vec<&str> = self.queries.iter().map(|q| q.table).collect();
        if self.program.rule.asks_person() {
            tables.push("person");
        }
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}

/// Plans a definition over datasets.
///
/// # Errors
/// [`DefinitionError`] with the JSON Pointer of what the datasets cannot answer exactly.
pub fn plan(
    cohort: &SimpleCohort,
    datasets: &[DatasetFacts],
    vocabulary: Option<&dyn Concepts>,
) -> Result<Plan> {
    let planner = Planner { datasets, vocabulary };
    planner.check_period("/period", cohort.period)?;
    let entry: &[Criterion] = match cohort.all.as_slice() {
        [first, ..] => std::slice::from_ref(first),
        [] => &cohort.any,
    };
    let mut queries = Vec::new();
    let mut rules = Vec::new();
    if !cohort.sex.is_empty() {
        rules.push(Condition::Sex(cohort.sex.clone()));
    }
    let mut group = |criteria: &[Criterion]| -> Result<Vec<Condition>> {
        criteria
            .iter()
            .map(|c| {
                let query = queries.len() as u16;
                queries.push(planner.query(c, cohort.period)?);
                let window = planner.window(c, entry)?;
                Ok(Condition::Count { query, min: c.count_min, max: c.count_max, window })
            })
            .collect()
    };
    let (all, any, none) = (group(&cohort.all)?, group(&cohort.any)?, group(&cohort.none)?);
    let entries = if all.is_empty() { any.len() } else { 1 };
    rules.extend(all);
    if !any.is_empty() {
        rules.push(Condition::Any(any));
    }
    if !none.is_empty() {
        rules.push(Condition::None(none));
    }
    if let Some(age) = &cohort.age {
        rules.push(planner.age(age, entry.is_empty())?);
    }
    let index = (0..entries as u16).collect();
    let notes = planner.notes(cohort);
    Ok(Plan { queries, program: Program { index, limit: Limit::First, rule: Condition::All(rules) }, notes })
}

/// Two of the datasets whose dates of one person do not stand on one timeline: one keeps true dates and the other moved
/// ones, or they were moved by different offsets. What is between events of both is not known.
pub fn apart(datasets: &[DatasetFacts]) -> Option<(&DatasetId, &DatasetId)> {
    let (first, rest) = datasets.split_first()?;
    let other = rest.iter().find(|d| d.offset_epoch != first.offset_epoch)?;
    Some((&first.dataset, &other.dataset))
}

struct Planner<'a> {
    datasets: &'a [DatasetFacts],
    vocabulary: Option<&'a dyn Concepts>,
}

fn too_fine<T>(pointer: impl Into<String>, dataset: &DatasetId, what: &str) -> Result<T> {
    Err(DefinitionError::new(pointer, Rule::TooFine, format!("dataset '{dataset}' {what}")))
}

impl Planner<'_> {
    /// Calendar bounds must be year boundaries where dates are shifted or known to the year, and month boundaries
    /// where they are known to the month.
    fn check_date(&self, pointer: &str, date: Date, last: bool) -> Result<()> {
        let edge = if last { date.plus_days(1) } else { date };
        let (year_edge, month_edge) = (edge.day() == 1 && edge.month() == 1, edge.day() == 1);
        for d in self.datasets {
            if !year_edge && d.offset_epoch.is_some() {
                return too_fine(pointer, &d.dataset, "has shifted dates: use whole calendar years");
            }
            match d.date_precision {
                DatePrecision::Year if !year_edge => {
                    return too_fine(pointer, &d.dataset, "knows years only: use whole calendar years");
                }
                DatePrecision::Month if !month_edge => {
                    return too_fine(pointer, &d.dataset, "knows months only: use whole calendar months");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_period(&self, pointer: &str, period: Option<Period>) -> Result<()> {
        let period = period.unwrap_or_default();
        if let Some(from) = period.from {
            self.check_date(&format!("{pointer}/from"), from, false)?;
        }
        if let Some(to) = period.to {
            self.check_date(&format!("{pointer}/to"), to, true)?;
        }
        Ok(())
    }

    fn window(&self, criterion: &Criterion, entry: &[Criterion]) -> Result<Window> {
        let Some(When::Index { from_days, to_days }) = criterion.window else {
            return Ok(Window::Any);
        };
        let pointer = format!("{}/window", criterion.pointer);
        self.one_timeline(&pointer)?;
        if entry.is_empty() || entry.iter().any(|c| c.pointer == criterion.pointer) {
            let reason = "a window around the index event needs another criterion that defines it: the first of 'all', \
                          or 'any' where there is no 'all'";
            return Err(DefinitionError::new(pointer, Rule::Unsupported, reason));
        }
        for d in self.datasets {
            if d.date_precision != DatePrecision::Day {
                return too_fine(
                    format!("{pointer}/days"),
                    &d.dataset,
                    "does not know days: day windows have no meaning",
                );
            }
        }
        Ok(Window::Index { from_days, to_days })
    }

    /// Events of one person are compared across datasets only where their dates were moved alike.
    fn one_timeline(&self, pointer: &str) -> Result<()> {
        let Some((a, b)) = apart(self.datasets) else { return Ok(()) };
        let reason = format!(
            "datasets '{a}' and '{b}' do not keep one person's dates on one timeline (moved and true dates, or moved by \
             different offsets), so days between events mean nothing: ask them one after the other"
        );
        Err(DefinitionError::new(pointer, Rule::TooFine, reason))
    }

    /// What the datasets answer only nearly.
    fn notes(&self, cohort: &SimpleCohort) -> Vec<String> {
        let ages = cohort.age.iter().flat_map(|age| self.datasets.iter().map(move |d| age_note(d, age)));
        let codes = cohort.criteria().flat_map(|c| self.datasets.iter().filter_map(|d| self.code_note(c, d)));
        let mut out: Vec<String> = ages.chain(codes).collect();
        out.dedup();
        out
    }

    /// Rows that a criterion cannot see because they have their code in the other form only.
    fn code_note(&self, c: &Criterion, d: &DatasetFacts) -> Option<String> {
        let table = c.domain.table();
        let facts = d.tables.get(table).filter(|f| f.rows > 0)?;
        let unknown = |code: &Code| self.vocabulary.and_then(|v| v.of_code(code)).is_none();
        let missed = if facts.source_codes == Held::Some && c.codes.iter().any(unknown) {
            "have a concept and no code; codes that no loaded vocabulary has do not find them"
        } else if facts.concept_ids == Held::Some && !c.concepts.is_empty() {
            "have a code and no concept; concepts do not find them"
        } else {
            return None;
        };
        Some(format!("dataset '{}': some rows of {table} {missed} ({})", d.dataset, c.pointer))
    }

    fn age(&self, age: &AgeRange, no_entry: bool) -> Result<Condition> {
        if age.at == AgeAt::Index {
            self.one_timeline("/age/at")?;
        }
        let on_day = match age.at {
            AgeAt::Index if no_entry => {
                let reason = "the age 'at index' needs a criterion in 'all' or 'any'; or give a date";
                return Err(DefinitionError::new("/age/at", Rule::Unsupported, reason));
            }
            AgeAt::Index => None,
            AgeAt::Date(date) => {
                let first = self.check_date("/age/at", date, false);
                if first.is_err() {
                    self.check_date("/age/at", date, true)?;
                }
                Some(date.days())
            }
        };
        for d in self.datasets {
            let Some(top) = d.age_top_code else { continue };
            let what = format!("does not tell ages of {top} and more apart");
            if age.min.is_some_and(|min| min > top) {
                return too_fine("/age/min", &d.dataset, &what);
            }
            if age.max.is_some_and(|max| max >= top) {
                return too_fine("/age/max", &d.dataset, &format!("{what}: leave the upper bound out"));
            }
        }
        Ok(Condition::Age { min: age.min, max: age.max, on_day })
    }

    fn query(&self, criterion: &Criterion, period: Option<Period>) -> Result<EventQuery> {
        let mut period = period.unwrap_or_default();
        if let Some(When::Period(own)) = criterion.window {
            self.check_period(&format!("{}/window", criterion.pointer), Some(own))?;
            period.from = period.from.max(own.from);
            period.to = match (period.to, own.to) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let table = criterion.domain.table();
        let selection = self.selection(criterion, table)?;
        let value = criterion.value.as_ref().map(|v| self.value(v));
        Ok(EventQuery { table, selection, value, period })
    }

    fn value(&self, value: &ValueRange) -> ValueFilter {
        let unit_concept = value.unit.as_ref().and_then(|u| self.vocabulary?.of_code(u));
        ValueFilter {
            min: value.min,
            max: value.max,
            unit: value.unit.as_ref().map(ToString::to_string),
            unit_concept,
        }
    }

    fn selection(&self, c: &Criterion, table: &str) -> Result<Selection> {
        let mut out = Selection::default();
        for (i, code) in c.codes.iter().enumerate() {
            let at = format!("{}/codes/{i}", c.pointer);
            out.source_values.insert(code.to_string());
            if let Some(concept) = self.vocabulary.and_then(|v| v.of_code(code)) {
                out.source_concepts.insert(concept);
                if self.vocabulary.is_some_and(|v| v.standard(concept) == [concept]) {
                    out.concepts.insert(concept);
                }
                if c.descendants {
                    out.concepts.extend(self.below(&at, concept)?);
                }
            } else if c.descendants {
                return self
                    .missing(at, "no loaded vocabulary has this code, so its descendants are not known");
            }
            self.reachable(&at, table, |facts| {
                let by_concept = facts.concept_ids > Held::None && !out.source_concepts.is_empty();
                facts.source_codes > Held::None || by_concept
            })?;
        }
        for (i, &concept) in c.concepts.iter().enumerate() {
            let at = format!("{}/concepts/{i}", c.pointer);
            out.concepts.insert(concept);
            if c.descendants {
                if !self.vocabulary.is_some_and(|v| v.knows(concept)) {
                    return self.missing(
                        at,
                        "no loaded vocabulary has this concept, so its descendants are not known",
                    );
                }
                out.concepts.extend(self.below(&at, concept)?);
            }
            self.reachable(&at, table, |facts| facts.concept_ids > Held::None)?;
        }
        Ok(out)
    }

    fn below(&self, pointer: &str, concept: i64) -> Result<Vec<i64>> {
        let Some(v) = self.vocabulary else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        for standard in v.standard(concept) {
            match v.descendants(standard) {
                Some(below) => out.extend(below),
                None => {
                    return self.missing(pointer.to_owned(), "the loaded vocabulary has no CONCEPT_ANCESTOR");
                }
            }
        }
        if out.is_empty() {
            return self.missing(
                pointer.to_owned(),
                "this has no standard concept, so its descendants are not known",
            );
        }
        Ok(out)
    }

    fn missing<T>(&self, pointer: String, reason: &str) -> Result<T> {
        Err(DefinitionError::new(pointer, Rule::VocabularyMissing, reason))
    }

    /// Every dataset that has rows in the table must be selectable this way.
    fn reachable(&self, pointer: &str, table: &str, can: impl Fn(&TableFacts) -> bool) -> Result<()> {
        for d in self.datasets {
            let Some(facts) = d.tables.get(table).filter(|f| f.rows > 0) else { continue };
            if !can(facts) {
                let reason = format!(
                    "dataset '{}' cannot be searched this way: load a vocabulary, or select by {}",
                    d.dataset,
                    if facts.concept_ids > Held::None { "'concepts'" } else { "'codes'" }
                );
                return self.missing(pointer.to_owned(), &reason);
            }
        }
        Ok(())
    }
}

/// How exact an age is in a dataset.
fn age_note(d: &DatasetFacts, age: &AgeRange) -> String {
    let mut out = if d.offset_epoch.is_none() && d.date_precision == DatePrecision::Day {
        format!(
            "dataset '{}': where the day of birth is not known, an age is the one reached in that year, up to one more \
             than the completed years",
            d.dataset
        )
    } else {
        format!(
            "dataset '{}' knows the year of birth only: an age is the one reached in that year, up to one more than the \
             completed years",
            d.dataset
        )
    };
    if d.offset_epoch.is_some() && age.at != AgeAt::Index {
        out.push_str(
            "; births are moved back by up to a year, so on a calendar date it can be one more again",
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(date_precision: DatePrecision, shifted: bool) -> DatasetFacts {
        let table = TableFacts { rows: 10, concept_ids: Held::None, source_codes: Held::All };
        DatasetFacts {
            dataset: "north".parse().expect("slug"),
            date_precision,
            offset_epoch: shifted.then_some(0),
            age_top_code: Some(90),
            tables: ["condition_occurrence", "measurement"].map(|t| (t.to_owned(), table)).into(),
        }
    }

    fn refused(text: &str, facts: &DatasetFacts, vocabulary: Option<&dyn Concepts>) -> (String, Rule) {
        let cohort = SimpleCohort::parse(text.as_bytes()).expect("reads");
        let error = plan(&cohort, std::slice::from_ref(facts), vocabulary).expect_err(text);
        (error.pointer, error.rule)
    }

    #[test]
    fn what_a_dataset_cannot_answer_exactly_is_refused() {
        let shifted = facts(DatePrecision::Day, true);
        let years = facts(DatePrecision::Year, false);
        let two = |days: &str| {
            format!(
                r#"{{"all":[{{"domain":"condition"}},{{"domain":"measurement","window":{{"after":"index","days":{days}}}}}]}}"#
            )
        };
        for (text, facts, pointer, rule) in [
            (r#"{"period":{"from":"2015-03-01"}}"#, &shifted, "/period/from", Rule::TooFine),
            (r#"{"period":{"to":"2015-01-01"}}"#, &shifted, "/period/to", Rule::TooFine),
            (
                r#"{"any":[{"domain":"death","window":{"from":"2015-02-01"}}]}"#,
                &years,
                "/any/0/window/from",
                Rule::TooFine,
            ),
            (two("[-30,0]").as_str(), &years, "/all/1/window/days", Rule::TooFine),
            (r#"{"age":{"min":40,"at":"2020-06-30"}}"#, &shifted, "/age/at", Rule::TooFine),
            (r#"{"age":{"min":40}}"#, &shifted, "/age/at", Rule::Unsupported),
            (r#"{"age":{"min":91,"at":"2020-01-01"}}"#, &shifted, "/age/min", Rule::TooFine),
            (r#"{"age":{"max":95,"at":"2020-01-01"}}"#, &shifted, "/age/max", Rule::TooFine),
            (
                r#"{"all":[{"domain":"condition","window":{"after":"index","days":[0,1]}}]}"#,
                &shifted,
                "/all/0/window",
                Rule::Unsupported,
            ),
            (
                r#"{"all":[{"domain":"condition","concepts":[201826]}]}"#,
                &shifted,
                "/all/0/concepts/0",
                Rule::VocabularyMissing,
            ),
            (
                r#"{"none":[{"domain":"condition","codes":["SNOMED:44054006"],"descendants":true}]}"#,
                &shifted,
                "/none/0/codes/0",
                Rule::VocabularyMissing,
            ),
        ] {
            assert_eq!(refused(text, facts, None), (pointer.to_owned(), rule), "{text}");
        }
        for text in [
            two("[-30,0]").as_str(),
            r#"{"period":{"from":"2015-01-01","to":"2016-12-31"},"any":[{"domain":"drug"}]}"#,
        ] {
            let cohort = SimpleCohort::parse(text.as_bytes()).expect("reads");
            plan(&cohort, std::slice::from_ref(&shifted), None).expect(text);
        }
    }

    #[test]
    fn dates_that_were_not_moved_alike_are_not_compared() {
        let moved = facts(DatePrecision::Day, true);
        let exact =
            DatasetFacts { dataset: "south".parse().expect("slug"), ..facts(DatePrecision::Day, false) };
        let again = DatasetFacts { offset_epoch: Some(1), ..exact.clone() };
        let window = r#"{"all":[{"domain":"condition"},{"domain":"measurement","window":{"after":"index","days":[0,9]}}]}"#;
        let age = r#"{"all":[{"domain":"condition"}],"age":{"min":40}}"#;
        let plan = |text: &str, datasets: &[DatasetFacts]| {
            plan(&SimpleCohort::parse(text.as_bytes()).expect("reads"), datasets, None)
        };
        for other in [exact, again] {
            let both = [moved.clone(), other];
            for (text, pointer) in [(window, "/all/1/window"), (age, "/age/at")] {
                let refused = plan(text, &both).expect_err("two timelines");
                assert_eq!((refused.pointer.as_str(), refused.rule), (pointer, Rule::TooFine));
                plan(text, &both[..1]).expect("one timeline");
            }
            plan(r#"{"all":[{"domain":"condition"},{"domain":"measurement"}]}"#, &both)
                .expect("no days between");
        }
    }

    #[test]
    fn what_is_answered_only_nearly_says_so() {
        let with = |source_codes, concept_ids| {
            let table = TableFacts { rows: 10, concept_ids, source_codes };
            let tables = [("condition_occurrence".to_owned(), table)].into();
            DatasetFacts { tables, ..facts(DatePrecision::Day, true) }
        };
        let notes = |text: &str, d: &DatasetFacts| {
            let cohort = SimpleCohort::parse(text.as_bytes()).expect("reads");
            plan(&cohort, std::slice::from_ref(d), None).map(|p| p.notes)
        };
        let code = r#"{"all":[{"domain":"condition","codes":["SNOMED:44054006"]}]}"#;
        let concept = r#"{"all":[{"domain":"condition","concepts":[201826]}]}"#;
        assert_eq!(notes(code, &with(Held::All, Held::None)), Ok(vec![]));
        assert_eq!(notes(concept, &with(Held::None, Held::All)), Ok(vec![]));
        for text in [code, concept] {
            let notes = notes(text, &with(Held::Some, Held::Some)).expect("plans");
            assert!(notes.len() == 1 && notes[0].contains("/all/0"), "{notes:?}");
        }
        assert!(
            notes(code, &with(Held::None, Held::All)).is_err()
                && notes(concept, &with(Held::All, Held::None)).is_err()
        );
        let age =
            |at: &str| format!(r#"{{"all":[{{"domain":"condition"}}],"age":{{"min":40,"at":"{at}"}}}}"#);
        let d = with(Held::All, Held::None);
        let at_index = notes(&age("index"), &d).expect("plans").join(" ");
        assert!(at_index.contains("knows the year of birth only") && !at_index.contains("one more again"));
        assert!(notes(&age("2020-01-01"), &d).expect("plans").join(" ").contains("one more again"));
    }

    struct Slice;

    impl Concepts for Slice {
        fn of_code(&self, code: &Code) -> Option<i64> {
            match code.to_string().as_str() {
                "SNOMED:44054006" => Some(201_826),
                "ICD10CM:E11.9" => Some(35_206_882),
                _ => None,
            }
        }
        fn knows(&self, concept: i64) -> bool {
            [201_826, 35_206_882, 4_193_704].contains(&concept)
        }
        fn standard(&self, concept: i64) -> Vec<i64> {
            if concept == 35_206_882 { vec![201_826] } else { vec![concept] }
        }
        fn descendants(&self, concept: i64) -> Option<Vec<i64>> {
            Some(if concept == 201_826 { vec![201_826, 4_193_704] } else { vec![concept] })
        }
    }

    #[test]
    fn codes_select_themselves_and_descendants_only_when_asked() {
        let d = facts(DatePrecision::Day, true);
        let select = |text: &str| {
            let cohort = SimpleCohort::parse(text.as_bytes()).expect("reads");
            plan(&cohort, std::slice::from_ref(&d), Some(&Slice)).expect("plans").queries[0].selection.clone()
        };
        let exact = select(r#"{"all":[{"domain":"condition","codes":["ICD10CM:E11.9"]}]}"#);
        assert_eq!((exact.concepts.len(), exact.source_concepts), (0, BTreeSet::from([35_206_882])));
        let below =
            select(r#"{"all":[{"domain":"condition","codes":["ICD10CM:E11.9"],"descendants":true}]}"#);
        assert_eq!(below.concepts, BTreeSet::from([201_826, 4_193_704]));
    }
}
