//! Scanning: the columns of one table of one source that a plan needs, filtered while they are read.
//!
//! Produces plain rows; no frame leaves this file. Errors name dataset, table and step only, because the engine's own
//! messages may quote values.

use almoner_model::{Origin, RowKey};
use polars::prelude::*;

use super::{EventRow, ExecuteError, PersonRow, Source};
use crate::cohort::definition::Sex;
use crate::cohort::evaluate::{Event, Person};
use crate::cohort::plan::{EventQuery, Plan, Selection, ValueFilter};

/// Below this many values an `is_in` is written as equalities, which also use row group statistics.
const FEW: usize = 8;

struct Scan<'a> {
    source: &'a Source,
    table: &'a str,
}

impl Scan<'_> {
    fn fail(&self, phase: &'static str) -> ExecuteError {
        ExecuteError::Read { dataset: self.source.dataset.clone(), table: self.table.to_owned(), phase }
    }

    /// The table's files as one lazy frame; `None` where the source has no rows of it.
    fn open(&self) -> Result<Option<LazyFrame>, ExecuteError> {
        let files = self.source.files.iter().filter(|f| f.table == self.table && f.rows > 0);
        let paths: Vec<PlRefPath> = files
            .map(|f| PlRefPath::try_from_path(&f.path).map_err(|_| self.fail("file name")))
            .collect::<Result<_, _>>()?;
        if paths.is_empty() {
            return Ok(None);
        }
        let args =
            ScanArgsParquet { glob: false, rechunk: false, cache: false, ..ScanArgsParquet::default() };
        LazyFrame::scan_parquet_files(paths.into(), args).map(Some).map_err(|_| self.fail("open"))
    }
}

/// Appends the person rows of `source`; sex and birth are read only where the program asks for them.
pub(super) fn persons(
    plan: &Plan,
    source: &Source,
    dataset: u16,
    out: &mut Vec<PersonRow>,
) -> Result<(), ExecuteError> {
    let scan = Scan { source, table: "person" };
    let Some(frame) = scan.open()? else { return Ok(()) };
    let (sex, birth) = (plan.program.rule.asks_sex(), plan.program.rule.asks_age());
    let mut columns = vec![col("person_id")];
    if sex {
        columns.push(sex_code().cast(DataType::UInt32).alias("sex"));
    }
    if birth {
        columns.extend(
            ["year_of_birth", "month_of_birth", "day_of_birth"].map(|c| col(c).cast(DataType::Int32)),
        );
    }
    let frame = frame.select(columns).collect().map_err(|_| scan.fail("scan"))?;
    let read = |name: &str| frame.column(name).map(|c| c.as_materialized_series().clone());
    let ids = read("person_id").map_err(|_| scan.fail("columns"))?;
    let ids = ids.i64().map_err(|_| scan.fail("column types"))?;
    let at = out.len();
    let blank = Person { sex: Sex::Unknown, year_of_birth: 0, birthday: None };
    out.extend(ids.iter().flatten().map(|subject| PersonRow { subject, dataset, person: blank }));
    if out.len() - at != frame.height() {
        return Err(scan.fail("null person_id"));
    }
    if sex {
        let codes = read("sex").map_err(|_| scan.fail("columns"))?;
        let codes = codes.u32().map_err(|_| scan.fail("column types"))?;
        for (row, code) in out[at..].iter_mut().zip(codes.iter()) {
            row.person.sex = match code {
                Some(1) => Sex::Female,
                Some(2) => Sex::Male,
                Some(3) => Sex::Other,
                _ => Sex::Unknown,
            };
        }
    }
    if birth {
        let column = |name: &str| -> Result<Int32Chunked, ExecuteError> {
            let series = read(name).map_err(|_| scan.fail("columns"))?;
            series.i32().cloned().map_err(|_| scan.fail("column types"))
        };
        let (years, months, days) =
            (column("year_of_birth")?, column("month_of_birth")?, column("day_of_birth")?);
        for (((row, year), month), day) in
            out[at..].iter_mut().zip(years.iter()).zip(months.iter()).zip(days.iter())
        {
            row.person.year_of_birth = year.unwrap_or_default();
            row.person.birthday = month.zip(day).map(|(m, d)| (m as u32, d as u32));
        }
    }
    Ok(())
}

/// 1 female, 2 male, 3 other, 0 unknown: by OMOP concept, else by the source code.
fn sex_code() -> Expr {
    let is = |concept: i64, source: &'static str| {
        let by_source =
            col("gender_concept_id").eq(lit(0i64)).and(col("gender_source_value").eq(lit(source)));
        col("gender_concept_id").eq(lit(concept)).or(by_source)
    };
    when(is(8532, "Gender:female"))
        .then(lit(1u32))
        .when(is(8507, "Gender:male"))
        .then(lit(2u32))
        .when(is(8521, "Gender:other"))
        .then(lit(3u32))
        .otherwise(lit(0u32))
}

/// The internal column with the key of a row, which says what record it was made from.
const ROW_KEY: &str = "_row_key";

/// Appends the events of `table` that match a query of the plan. Only where somebody's permission is `limited` does it
/// matter what record a row was made from, and only then it is read; rows without a key are their table's.
pub(super) fn events(
    plan: &Plan,
    (source, dataset): (&Source, u16),
    table: &str,
    limited: bool,
    out: &mut Vec<EventRow>,
) -> Result<(), ExecuteError> {
    let scan = Scan { source, table };
    let Some(mut frame) = scan.open()? else { return Ok(()) };
    let keyed = limited && frame.collect_schema().map_err(|_| scan.fail("columns"))?.contains(ROW_KEY);
    let Some(columns) = Columns::of(table) else { return Err(scan.fail("table")) };
    let queries: Vec<(u16, Option<Expr>)> = plan
        .queries
        .iter()
        .enumerate()
        .filter(|(_, q)| q.table == table)
        .map(|(i, q)| (i as u16, columns.query(q)))
        .collect();
    let mut wanted = vec![col("person_id"), col(columns.start).cast(DataType::Int32).alias("day")];
    let single = queries.len() == 1;
    if keyed {
        wanted.push(col(ROW_KEY));
    }
    if !single {
        let flag =
            |(i, p): &(u16, Option<Expr>)| p.clone().unwrap_or_else(|| lit(true)).alias(format!("q{i}"));
        wanted.extend(queries.iter().map(flag));
    }
    let predicate = if queries.iter().any(|(_, p)| p.is_none()) {
        None
    } else {
        queries.iter().filter_map(|(_, p)| p.clone()).reduce(Expr::or)
    };
    let frame = match predicate {
        Some(predicate) => frame.filter(predicate),
        None => frame,
    };
    let frame = frame.select(wanted).collect().map_err(|_| scan.fail("scan"))?;
    let series = |name: &str| {
        frame.column(name).map(|c| c.as_materialized_series().clone()).map_err(|_| scan.fail("columns"))
    };
    let flags = |name: String| series(&name)?.bool().cloned().map_err(|_| scan.fail("column types"));
    let (ids, days) = (series("person_id")?, series("day")?);
    let ids = ids.i64().map_err(|_| scan.fail("column types"))?;
    let days = days.i32().map_err(|_| scan.fail("column types"))?;
    let origins: Vec<Origin> = if keyed {
        let keys = series(ROW_KEY)?;
        let keys = keys.i64().map_err(|_| scan.fail("column types"))?;
        keys.iter().map(|key| RowKey::from_bits(key.unwrap_or_default() as u64).origin()).collect()
    } else {
        vec![Origin::Table; frame.height()]
    };
    for (query, _) in &queries {
        let row = |((subject, day), origin): ((Option<i64>, Option<i32>), Origin)| {
            Some(EventRow { subject: subject?, event: Event { day: day?, query: *query }, dataset, origin })
        };
        let rows = ids.iter().zip(days.iter()).zip(origins.iter().copied());
        if single {
            out.extend(rows.filter_map(row));
        } else {
            let matched = flags(format!("q{query}"))?;
            out.extend(rows.zip(matched.iter()).filter_map(|(r, m)| (m == Some(true)).then(|| row(r))?));
        }
    }
    Ok(())
}

/// The columns that queries of a table read.
struct Columns {
    start: &'static str,
    concept: &'static str,
    source_concept: &'static str,
    source_value: &'static str,
}

impl Columns {
    fn of(table: &str) -> Option<Self> {
        let c = |start, concept, source_concept, source_value| {
            Some(Self { start, concept, source_concept, source_value })
        };
        match table {
            "condition_occurrence" => c(
                "condition_start_date",
                "condition_concept_id",
                "condition_source_concept_id",
                "condition_source_value",
            ),
            "drug_exposure" => c(
                "drug_exposure_start_date",
                "drug_concept_id",
                "drug_source_concept_id",
                "drug_source_value",
            ),
            "procedure_occurrence" => c(
                "procedure_date",
                "procedure_concept_id",
                "procedure_source_concept_id",
                "procedure_source_value",
            ),
            "device_exposure" => c(
                "device_exposure_start_date",
                "device_concept_id",
                "device_source_concept_id",
                "device_source_value",
            ),
            "measurement" => c(
                "measurement_date",
                "measurement_concept_id",
                "measurement_source_concept_id",
                "measurement_source_value",
            ),
            "observation" => c(
                "observation_date",
                "observation_concept_id",
                "observation_source_concept_id",
                "observation_source_value",
            ),
            "visit_occurrence" => {
                c("visit_start_date", "visit_concept_id", "visit_source_concept_id", "visit_source_value")
            }
            "death" => c("death_date", "cause_concept_id", "cause_source_concept_id", "cause_source_value"),
            _ => None,
        }
    }

    /// The predicate of a query; `None` selects every row. Never null: a row without the value does not match.
    fn query(&self, query: &EventQuery) -> Option<Expr> {
        let value = query.value.as_ref().and_then(value);
        let start = || col(self.start).cast(DataType::Int32);
        let from = query.period.from.map(|d| start().gt_eq(lit(d.days())));
        let to = query.period.to.map(|d| start().lt_eq(lit(d.days())));
        let all = [self.selection(&query.selection), value, from, to];
        all.into_iter().flatten().reduce(Expr::and)
    }

    fn selection(&self, selection: &Selection) -> Option<Expr> {
        let parts = [
            any_of(self.concept, selection.concepts.iter().copied().map(lit), || {
                Series::from_iter(selection.concepts.iter().copied())
            }),
            any_of(self.source_concept, selection.source_concepts.iter().copied().map(lit), || {
                Series::from_iter(selection.source_concepts.iter().copied())
            }),
            any_of(self.source_value, selection.source_values.iter().map(|v| lit(v.as_str())), || {
                Series::from_iter(selection.source_values.iter().map(String::as_str))
            }),
        ];
        let parts = parts.into_iter().flatten();
        parts.map(|p| p.fill_null(lit(false))).reduce(Expr::or)
    }
}

fn any_of(
    column: &str,
    values: impl ExactSizeIterator<Item = Expr>,
    all: impl FnOnce() -> Series,
) -> Option<Expr> {
    if values.len() > FEW {
        return Some(col(column).is_in(lit(all()).implode(false), false));
    }
    values.map(|v| col(column).eq(v)).reduce(Expr::or)
}

fn value(filter: &ValueFilter) -> Option<Expr> {
    let number = || col("value_as_number");
    let min = filter.min.map(|min| number().gt_eq(lit(min)));
    let max = filter.max.map(|max| number().lt_eq(lit(max)));
    let unit = filter.unit.as_ref().map(|unit| {
        let by_source = col("unit_source_value").eq(lit(unit.as_str())).fill_null(lit(false));
        match filter.unit_concept {
            Some(concept) => by_source.or(col("unit_concept_id").eq(lit(concept)).fill_null(lit(false))),
            None => by_source,
        }
    });
    [min, max, unit].into_iter().flatten().map(|p| p.fill_null(lit(false))).reduce(Expr::and)
}
