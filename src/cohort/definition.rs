//! The simple cohort JSON, typed: `bytes -> SimpleCohort`. The language is told in `docs/cohort.md`, its JSON Schema is
//! `schemas/cohort.schema.json`.
//!
//! Invariants: a value of [`SimpleCohort`] is well formed (known domains, codes with their system's syntax, ranges not
//! empty). Whether datasets can answer it is [`mod@super::plan`]'s question. Unknown keys are refused, because a key that is
//! ignored changes who is meant.

use almoner_model::{Code, Date};

use super::json::{Node, Object};
use super::{DefinitionError, Rule};

type Result<T> = std::result::Result<T, DefinitionError>;

/// Most criteria in each of `all`, `any` and `none`.
pub const CRITERIA_MAX: usize = 64;
/// Most codes (and concepts) in a criterion.
pub const CODES_MAX: usize = 20_000;

/// Administrative sex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Sex {
    /// Not recorded.
    Unknown = 0,
    /// Female (OMOP concept 8532).
    Female = 1,
    /// Male (OMOP concept 8507).
    Male = 2,
    /// Other (OMOP concept 8521).
    Other = 3,
}

/// At what moment an age is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgeAt {
    /// At the index event.
    Index,
    /// On a calendar date.
    Date(Date),
}

/// An age range in years, both ends included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgeRange {
    /// Youngest.
    pub min: Option<u32>,
    /// Oldest.
    pub max: Option<u32>,
    /// When.
    pub at: AgeAt,
}

/// A calendar range, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Period {
    /// First day.
    pub from: Option<Date>,
    /// Last day.
    pub to: Option<Date>,
}

/// What kind of event a criterion counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// `condition_occurrence`
    Condition,
    /// `drug_exposure`
    Drug,
    /// `procedure_occurrence`
    Procedure,
    /// `measurement`
    Measurement,
    /// `observation`
    Observation,
    /// `device_exposure`
    Device,
    /// `visit_occurrence`
    Visit,
    /// `death`
    Death,
}

impl Domain {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("condition", Self::Condition),
        ("drug", Self::Drug),
        ("procedure", Self::Procedure),
        ("measurement", Self::Measurement),
        ("observation", Self::Observation),
        ("device", Self::Device),
        ("visit", Self::Visit),
        ("death", Self::Death),
    ];

    /// The canonical table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Condition => "condition_occurrence",
            Self::Drug => "drug_exposure",
            Self::Procedure => "procedure_occurrence",
            Self::Measurement => "measurement",
            Self::Observation => "observation",
            Self::Device => "device_exposure",
            Self::Visit => "visit_occurrence",
            Self::Death => "death",
        }
    }
}

/// A range of numeric results, both ends included.
#[derive(Clone, PartialEq, Debug)]
pub struct ValueRange {
    /// Least.
    pub min: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
    /// The unit that a result must be in. Values are not converted.
    pub unit: Option<Code>,
}

/// When a criterion's events count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// In a range of days around the index event, both ends included; negative is before.
    Index {
        /// First day.
        from_days: i32,
        /// Last day.
        to_days: i32,
    },
    /// In a calendar range.
    Period(Period),
}

/// One criterion: so many events of this kind.
#[derive(Clone, PartialEq, Debug)]
pub struct Criterion {
    /// Where it stands in the definition.
    pub pointer: String,
    /// Kind of event.
    pub domain: Domain,
    /// Codes as hospitals write them.
    pub codes: Vec<Code>,
    /// OMOP standard concepts.
    pub concepts: Vec<i64>,
    /// Whether narrower concepts count too (needs a vocabulary).
    pub descendants: bool,
    /// Fewest events.
    pub count_min: u32,
    /// Most events.
    pub count_max: Option<u32>,
    /// Numeric result.
    pub value: Option<ValueRange>,
    /// When.
    pub window: Option<When>,
}

/// A cohort definition.
#[derive(Clone, PartialEq, Debug)]
pub struct SimpleCohort {
    /// For people.
    pub name: String,
    /// Any of these; empty: any.
    pub sex: Vec<Sex>,
    /// Age.
    pub age: Option<AgeRange>,
    /// Only events in this range count.
    pub period: Option<Period>,
    /// Every one must hold.
    pub all: Vec<Criterion>,
    /// At least one must hold, where there are any.
    pub any: Vec<Criterion>,
    /// None may hold.
    pub none: Vec<Criterion>,
}

impl SimpleCohort {
    /// Reads a definition.
    ///
    /// # Errors
    /// [`DefinitionError`] with the JSON Pointer of the first thing that is not of the language.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut top = Node::parse(bytes)?.object()?;
        let name = top.take("name").map(|n| n.text().map(str::to_owned)).transpose()?.unwrap_or_default();
        let sex = top.take("sex").map(sexes).transpose()?.unwrap_or_default();
        let age = top.take("age").map(age).transpose()?;
        let period = top.take("period").map(|n| period(n.object()?)).transpose()?;
        let mut group = |key| top.take(key).map(criteria).transpose().map(Option::unwrap_or_default);
        let (all, any, none) = (group("all")?, group("any")?, group("none")?);
        top.end()?;
        Ok(Self { name, sex, age, period, all, any, none })
    }

    /// Every criterion, in the order `all`, `any`, `none`.
    pub fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.all.iter().chain(&self.any).chain(&self.none)
    }
}

fn sexes(node: Node) -> Result<Vec<Sex>> {
    let mut out = Vec::new();
    for item in node.list(4)? {
        out.push(match item.text()? {
            "female" => Sex::Female,
            "male" => Sex::Male,
            "other" => Sex::Other,
            "unknown" => Sex::Unknown,
            _ => return item.out_of_range("must be 'female', 'male', 'other' or 'unknown'"),
        });
    }
    Ok(out)
}

fn age(node: Node) -> Result<AgeRange> {
    let pointer = node.pointer.clone();
    let mut o = node.object()?;
    let mut bound = |key| o.take(key).map(|n| n.integer_in(0, 150)).transpose();
    let (min, max) = (bound("min")?, bound("max")?);
    let at = match o.take("at") {
        None => AgeAt::Index,
        Some(n) if n.text()? == "index" => AgeAt::Index,
        Some(n) => AgeAt::Date(n.date()?),
    };
    o.end()?;
    ordered(&pointer, min, max)?;
    Ok(AgeRange { min: min.map(|n| n as u32), max: max.map(|n| n as u32), at })
}

fn period(mut o: Object) -> Result<Period> {
    let pointer = o.pointer.clone();
    let from = o.take("from").map(|n| n.date()).transpose()?;
    let to = o.take("to").map(|n| n.date()).transpose()?;
    o.end()?;
    ordered(&pointer, from, to)?;
    Ok(Period { from, to })
}

/// A range needs an end, and must not be empty.
fn ordered<T: PartialOrd>(pointer: &str, low: Option<T>, high: Option<T>) -> Result<()> {
    let reason = match (low, high) {
        (None, None) => "needs at least one bound",
        (Some(a), Some(b)) if a > b => "the lower bound is above the upper one",
        _ => return Ok(()),
    };
    Err(DefinitionError::new(pointer, Rule::OutOfRange, reason))
}

fn criteria(node: Node) -> Result<Vec<Criterion>> {
    node.list(CRITERIA_MAX)?.into_iter().map(criterion).collect()
}

fn criterion(node: Node) -> Result<Criterion> {
    let pointer = node.pointer.clone();
    let mut o = node.object()?;
    let domain = domain(&o.need("domain")?)?;
    let codes = o.take("codes").map(codes).transpose()?;
    let concepts = o.take("concepts").map(concepts).transpose()?;
    let descendants = o.take("descendants").map(|n| n.boolean()).transpose()?.unwrap_or(false);
    let (count_min, count_max) = o.take("count").map(count).transpose()?.unwrap_or((1, None));
    let value = o.take("value").map(|n| value(n, domain)).transpose()?;
    let window = o.take("window").map(window).transpose()?;
    o.end()?;
    let empty = |list: Option<usize>| list == Some(0);
    if empty(codes.as_ref().map(Vec::len)) || empty(concepts.as_ref().map(Vec::len)) {
        let reason = "an empty list means nobody; leave the key out for every event of the domain";
        return Err(DefinitionError::new(pointer, Rule::OutOfRange, reason));
    }
    let (codes, concepts) = (codes.unwrap_or_default(), concepts.unwrap_or_default());
    if descendants && codes.is_empty() && concepts.is_empty() {
        let reason = "'descendants' needs codes or concepts";
        return Err(DefinitionError::new(pointer, Rule::Unsupported, reason));
    }
    Ok(Criterion { pointer, domain, codes, concepts, descendants, count_min, count_max, value, window })
}

fn domain(node: &Node) -> Result<Domain> {
    let text = node.text()?;
    match Domain::NAMES.iter().find(|(name, _)| *name == text) {
        Some((_, domain)) => Ok(*domain),
        None => {
            let names: Vec<&str> = Domain::NAMES.iter().map(|(name, _)| *name).collect();
            node.out_of_range(&format!("must be one of {}", names.join(", ")))
        }
    }
}

fn codes(node: Node) -> Result<Vec<Code>> {
    let mut out = Vec::new();
    for item in node.list(CODES_MAX)? {
        match Code::parse(item.text()?) {
            Some(code) => out.push(code),
            None => {
                let reason = "not VOCABULARY:code of a known system (for example SNOMED:44054006)";
                return Err(DefinitionError::new(item.pointer, Rule::UnknownCode, reason));
            }
        }
    }
    Ok(out)
}

fn concepts(node: Node) -> Result<Vec<i64>> {
    node.list(CODES_MAX)?.iter().map(|n| n.integer_in(1, i64::from(i32::MAX))).collect()
}

fn count(node: Node) -> Result<(u32, Option<u32>)> {
    let pointer = node.pointer.clone();
    let mut o = node.object()?;
    let mut bound = |key| o.take(key).map(|n| n.integer_in(1, 1_000_000)).transpose();
    let (min, max) = (bound("min")?, bound("max")?);
    o.end()?;
    ordered(&pointer, min, max)?;
    ordered(&pointer, Some(min.unwrap_or(1)), max)?;
    Ok((min.unwrap_or(1) as u32, max.map(|n| n as u32)))
}

fn value(node: Node, domain: Domain) -> Result<ValueRange> {
    let pointer = node.pointer.clone();
    if !matches!(domain, Domain::Measurement | Domain::Observation) {
        let reason = "only measurements and observations have numeric results";
        return Err(DefinitionError::new(pointer, Rule::Unsupported, reason));
    }
    let mut o = node.object()?;
    let mut bound = |key| o.take(key).map(|n| n.number()).transpose();
    let (min, max) = (bound("min")?, bound("max")?);
    let unit = o.take("unit").map(unit).transpose()?;
    o.end()?;
    ordered(&pointer, min, max)?;
    Ok(ValueRange { min, max, unit })
}

fn unit(node: Node) -> Result<Code> {
    match Code::parse(node.text()?) {
        Some(code) if code.vocabulary() == almoner_model::Vocabulary::Ucum => Ok(code),
        _ => {
            Err(DefinitionError::new(node.pointer, Rule::UnknownCode, "not a UCUM unit (for example UCUM:%)"))
        }
    }
}

fn window(node: Node) -> Result<When> {
    let mut o = node.object()?;
    let Some(after) = o.take("after") else {
        return Ok(When::Period(period(o)?));
    };
    if after.text()? != "index" {
        return after.out_of_range("must be 'index'");
    }
    let days = o.need("days")?;
    let pointer = days.pointer.clone();
    let bounds = days.list(2)?;
    let [low, high] = bounds.as_slice() else {
        return Err(DefinitionError::new(
            pointer,
            Rule::OutOfRange,
            "two numbers: the first and the last day",
        ));
    };
    let (from, to) = (low.integer_in(-36_500, 36_500)?, high.integer_in(-36_500, 36_500)?);
    o.end()?;
    ordered(&pointer, Some(from), Some(to))?;
    Ok(When::Index { from_days: from as i32, to_days: to as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"name":"Women with diabetes","sex":["female"],"age":{"min":40,"max":75,"at":"index"},
        "period":{"from":"2015-01-01","to":"2024-12-31"},
        "all":[{"domain":"condition","codes":["SNOMED:44054006"],"concepts":[201826],"count":{"min":2}}],
        "any":[{"domain":"measurement","codes":["LOINC:4548-4"],"value":{"min":6.5,"unit":"UCUM:%"},
                "window":{"after":"index","days":[-365,0]}}],
        "none":[{"domain":"death"},{"domain":"visit","window":{"from":"2016-01-01"}}]}"#;

    #[test]
    fn the_documented_example_reads() {
        let c = SimpleCohort::parse(FULL.as_bytes()).expect("reads");
        assert_eq!((c.all.len(), c.any.len(), c.none.len()), (1, 1, 2));
        assert_eq!(c.all[0].count_min, 2);
        assert_eq!(c.any[0].window, Some(When::Index { from_days: -365, to_days: 0 }));
        assert_eq!(c.none[1].pointer, "/none/1");
    }

    /// Every key of the language is in the JSON Schema, and no other.
    #[test]
    fn the_schema_has_the_languages_keys() {
        fn keys(value: &serde_json::Value, out: &mut std::collections::BTreeSet<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    if let Some(properties) = map.get("properties").and_then(|p| p.as_object()) {
                        out.extend(properties.keys().cloned());
                    }
                    map.values().for_each(|v| keys(v, out));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|v| keys(v, out)),
                _ => {}
            }
        }
        let schema = serde_json::from_str(include_str!("../../schemas/cohort.schema.json")).expect("JSON");
        let mut found = std::collections::BTreeSet::new();
        keys(&schema, &mut found);
        let own = "name sex age period all any none min max at from to domain codes concepts descendants count value \
                   unit window after days";
        assert_eq!(found, own.split_whitespace().map(str::to_owned).collect());
        for key in &found {
            let text = format!(r#"{{"{key}x":1}}"#);
            assert_eq!(SimpleCohort::parse(text.as_bytes()).expect_err("no such key").rule, Rule::UnknownKey);
        }
    }

    #[test]
    fn refusals_carry_the_pointer_and_the_rule_and_no_value() {
        for (text, pointer, rule) in [
            ("{", "", Rule::NotJson),
            ("[]", "", Rule::WrongType),
            (r#"{"sexes":[]}"#, "/sexes", Rule::UnknownKey),
            (r#"{"a/b~":1}"#, "/a~1b~0", Rule::UnknownKey),
            (r#"{"sex":["f"]}"#, "/sex/0", Rule::OutOfRange),
            (r#"{"age":{"min":50,"max":40}}"#, "/age", Rule::OutOfRange),
            (r#"{"age":{}}"#, "/age", Rule::OutOfRange),
            (r#"{"age":{"min":4.5}}"#, "/age/min", Rule::WrongType),
            (r#"{"period":{"from":"2015"}}"#, "/period/from", Rule::OutOfRange),
            (r#"{"all":[{"codes":[]}]}"#, "/all/0", Rule::MissingKey),
            (r#"{"all":[{"domain":"gene"}]}"#, "/all/0/domain", Rule::OutOfRange),
            (r#"{"all":[{"domain":"drug","codes":[]}]}"#, "/all/0", Rule::OutOfRange),
            (r#"{"any":[{"domain":"drug","codes":["Aspirin"]}]}"#, "/any/0/codes/0", Rule::UnknownCode),
            (r#"{"all":[{"domain":"drug","value":{"min":1}}]}"#, "/all/0/value", Rule::Unsupported),
            (r#"{"all":[{"domain":"drug","count":{"min":0}}]}"#, "/all/0/count/min", Rule::OutOfRange),
            (r#"{"all":[{"domain":"drug","window":{"after":"index"}}]}"#, "/all/0/window", Rule::MissingKey),
            (
                r#"{"all":[{"domain":"drug","window":{"after":"index","days":[3,1]}}]}"#,
                "/all/0/window/days",
                Rule::OutOfRange,
            ),
        ] {
            let error = SimpleCohort::parse(text.as_bytes()).expect_err(text);
            assert_eq!((error.pointer.as_str(), error.rule), (pointer, rule), "{text}");
            assert!(!error.reason.contains("Aspirin"));
        }
    }
}
