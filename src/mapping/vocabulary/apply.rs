//! Concepts for rows: source values become source concepts and standard concepts, and rows go to the table of their
//! concept's domain where their record claims an event of it (see [`super::place`]).
//!
//! A pure function over record batches, by column names, so that staged rows at ingest and the rows of a published dataset
//! take the same way. A row without a standard concept stays where its record begins, with concept 0. A code that maps to
//! several standard concepts gives a row for each, all of the same record; those that were added say so in their key, so
//! that a later vocabulary begins from the record again and mapping twice is mapping once. Concept ids that arrived in a
//! table of the CDM are never replaced.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_model::{Code, ColumnType, IdentifierClass, Origin, TableSpec, Tables};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, Int64Builder, RecordBatch, UInt32Array, new_null_array,
};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{Int64Type, SchemaRef};
use serde::Serialize;

use super::facts::{Facts, Keys, Pair, ROW_KEY, Route, number};
use super::place::{ALLERGY_TO_DRUG, Place, Stands, place};
use super::{ConceptLookup, Domain, Found};
use crate::mapping::{StageError, StagedBatch, StagedSchema, StagedSink, Stated};

/// Which concepts are assigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assign {
    /// Only where there is none.
    Missing,
    /// Wherever the vocabulary knows the code: a later vocabulary replaces an earlier one's answers. Concept ids that
    /// arrived are kept.
    Known,
}

/// What applying a vocabulary did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConceptReport {
    /// Rows of event tables that have a code.
    pub coded: u64,
    /// Of those, rows whose code the vocabulary does not know.
    pub unknown: u64,
    /// Of those, rows whose code is known and maps to no standard concept.
    pub without_standard: u64,
    /// Rows that went to another table, by table from and to.
    pub moved: BTreeMap<String, u64>,
    /// Rows added because a code maps to several concepts.
    pub added: u64,
    /// Rows that an earlier vocabulary had added, and that were made again or are no more.
    pub taken_back: u64,
    /// Concepts that were not assigned, because they are of a domain that the row's record does not claim.
    pub held_back: u64,
}

impl ConceptReport {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.coded += other.coded;
        self.unknown += other.unknown;
        self.without_standard += other.without_standard;
        self.added += other.added;
        self.taken_back += other.taken_back;
        self.held_back += other.held_back;
        for (way, n) in &other.moved {
            *self.moved.entry(way.clone()).or_default() += n;
        }
    }
}

struct TablePlan {
    main: Option<Pair>,
    others: Vec<Pair>,
}

impl TablePlan {
    fn of(spec: &TableSpec) -> Self {
        let main_concept = spec.concept.as_deref().unwrap_or_default();
        let mut plan = Self { main: None, others: Vec::new() };
        for column in &spec.columns {
            let Some(stem) = column.name.strip_suffix("_source_value") else { continue };
            if column.class != IdentifierClass::SourceCode {
                continue;
            }
            let concept =
                if stem == "value" { "value_as_concept_id".to_owned() } else { format!("{stem}_concept_id") };
            let source_concept = format!("{stem}_source_concept_id");
            let pair = Pair {
                source_value: column.name.clone(),
                source_concept: spec.column(&source_concept).map(|_| source_concept),
                concept,
            };
            if spec.column(&pair.concept).is_none() {
                continue;
            }
            if pair.concept == main_concept { plan.main = Some(pair) } else { plan.others.push(pair) }
        }
        plan
    }
}

/// Applies a vocabulary to batches. One a thread; remembers codes that it has met.
pub struct ConceptMapper<'v> {
    tables: Tables,
    plans: Arc<Vec<TablePlan>>,
    table_of: HashMap<String, usize>,
    lookup: &'v dyn ConceptLookup,
    assign: Assign,
    known: HashMap<Box<str>, Option<Arc<Found>>>,
    report: ConceptReport,
}

/// Where the rows of a batch go.
struct Routed {
    routes: Vec<Route>,
    /// The source concept of each row of the batch.
    sources: Vec<Option<i64>>,
    /// For each row of the batch: the concept that is its value.
    substances: Vec<Option<i64>>,
}

impl<'v> ConceptMapper<'v> {
    /// A mapper over `tables`.
    pub fn new(tables: &Tables, lookup: &'v dyn ConceptLookup, assign: Assign) -> Self {
        Self {
            tables: tables.clone(),
            plans: Arc::new(tables.iter().map(TablePlan::of).collect()),
            table_of: tables.iter().enumerate().map(|(i, t)| (t.table.clone(), i)).collect(),
            lookup,
            assign,
            known: HashMap::new(),
            report: ConceptReport::default(),
        }
    }

    /// What was done so far.
    pub const fn report(&self) -> &ConceptReport {
        &self.report
    }

    /// Assigns concepts to the rows of `batch`, which are of `table`, and gives batches by table. `schema_of` says what
    /// the batches of a table look like; columns go by name, and by role (start, end, code, type) where a row moves.
    /// Event ids of rows that move or are added are those of the row they came from.
    ///
    /// # Errors
    /// [`StageError::Arrow`] if a column has another type than its table says.
    pub fn apply(
        &mut self,
        table: usize,
        batch: &RecordBatch,
        schema_of: &dyn Fn(usize) -> SchemaRef,
    ) -> Result<Vec<(usize, RecordBatch)>, StageError> {
        let plans = Arc::clone(&self.plans);
        let mut batch = batch.clone();
        for pair in &plans[table].others {
            batch = self.assign_in_place(&batch, pair)?;
        }
        let Some(main) = &plans[table].main else { return Ok(vec![(table, batch)]) };
        let routed = self.route(table, &batch, main);
        if routed.substances.iter().any(Option::is_some) {
            batch = with_substances(&batch, &routed.substances)?;
        }
        let routes = &routed.routes;
        let stays = |(at, route): (usize, &Route)| route.row as usize == at && route.table == table;
        if routes.len() == batch.num_rows() && routes.iter().enumerate().all(stays) {
            let concepts = Int64Array::from_iter_values(routes.iter().map(|route| route.concept));
            let mut changes: Vec<(&str, ArrayRef)> = vec![(&main.concept, Arc::new(concepts))];
            if let Some(name) = &main.source_concept {
                changes.push((name, Arc::new(Int64Array::from(routed.sources))));
            }
            return Ok(vec![(table, replace(&batch, changes)?)]);
        }
        let mut by_table: BTreeMap<usize, Vec<&Route>> = BTreeMap::new();
        for route in routes {
            by_table.entry(route.table).or_default().push(route);
        }
        let mut out = Vec::new();
        for (target, routes) in by_table {
            let batch = self.build(table, target, &batch, &routes, &routed.sources, &schema_of(target))?;
            out.push((target, batch));
        }
        Ok(out)
    }

    fn find(&mut self, source_value: &str) -> Option<Arc<Found>> {
        if let Some(known) = self.known.get(source_value) {
            return known.clone();
        }
        let found = Code::parse(source_value)
            .and_then(|code| self.lookup.find(code.vocabulary().id(), code.code()))
            .map(Arc::new);
        self.known.insert(source_value.into(), found.clone());
        found
    }

    /// Whether a row of `origin` that has this concept gets another.
    fn wanted(&self, concept: i64, origin: Origin) -> bool {
        let arrived = matches!(origin, Origin::Table | Origin::Derived);
        // The concept of an allergy stands there before its drug is known to a vocabulary.
        concept == 0 || origin == Origin::Allergy || (self.assign == Assign::Known && !arrived)
    }

    /// Concepts beside the main one: units, values, routes. They move nothing; the first standard concept is taken.
    fn assign_in_place(&mut self, batch: &RecordBatch, pair: &Pair) -> Result<RecordBatch, StageError> {
        let (Some(codes), Some(concepts)) =
            (batch.column_by_name(&pair.source_value), batch.column_by_name(&pair.concept))
        else {
            return Ok(batch.clone());
        };
        if codes.null_count() == codes.len() {
            return Ok(batch.clone());
        }
        let (codes, concepts) = (codes.as_string::<i32>(), concepts.as_primitive::<Int64Type>());
        let mut out = Int64Builder::with_capacity(codes.len());
        let mut sources = Int64Builder::with_capacity(codes.len());
        let held_source = pair
            .source_concept
            .as_ref()
            .and_then(|c| batch.column_by_name(c))
            .map(|c| c.as_primitive::<Int64Type>());
        let keys = Keys::of(batch);
        for row in 0..codes.len() {
            let held = concepts.is_valid(row).then(|| concepts.value(row));
            let mut source = number(held_source, row);
            let mut concept = held;
            if codes.is_valid(row)
                && self.wanted(held.unwrap_or(0), keys.at(row).origin())
                && let Some(found) = self.find(codes.value(row))
            {
                source = Some(found.source);
                concept = found.standard.first().map(|s| s.concept).or(concept);
            }
            out.append_option(concept);
            sources.append_option(source);
        }
        let mut changes: Vec<(&str, ArrayRef)> = vec![(&pair.concept, Arc::new(out.finish()))];
        if let (Some(name), Some(_)) = (&pair.source_concept, held_source) {
            changes.push((name, Arc::new(sources.finish())));
        }
        replace(batch, changes)
    }

    /// Where each row goes.
    fn route(&mut self, table: usize, batch: &RecordBatch, main: &Pair) -> Routed {
        let (rows, tables) = (batch.num_rows(), self.tables.clone());
        let name = tables.iter().nth(table).map_or("", |spec| spec.table.as_str());
        let facts = Facts::of(batch, main);
        let mut out = Routed {
            routes: Vec::with_capacity(rows),
            sources: Vec::with_capacity(rows),
            substances: vec![None; rows],
        };
        for row in 0..rows {
            let (held, key) = (facts.concept(row), facts.keys.at(row));
            let stay = Route { table, row: row as u32, concept: held, added: key.is_added() };
            out.sources.push(number(facts.sources, row));
            let Some(code) = facts.code(row) else {
                out.routes.push(stay);
                continue;
            };
            self.report.coded += 1;
            if !self.wanted(held, key.origin()) {
                out.routes.push(stay);
                continue;
            }
            let Some(found) = self.find(code) else {
                self.report.unknown += 1;
                out.routes.push(stay);
                continue;
            };
            if key.is_added() {
                // The row of the record itself is mapped anew, and adds what it must.
                self.report.coded -= 1;
                self.report.taken_back += 1;
                continue;
            }
            out.sources[row] = Some(found.source);
            self.route_found(&facts.stands(name, row), &found, stay, &mut out);
        }
        out
    }

    /// The routes of one row whose code is known.
    fn route_found(&mut self, row: &Stands<'_>, found: &Found, stay: Route, out: &mut Routed) {
        self.report.without_standard += u64::from(found.standard.is_empty());
        let mut placed: Vec<(usize, i64)> = Vec::with_capacity(found.standard.len());
        for standard in &found.standard {
            match place(row, standard.domain) {
                Place::Here => placed.push((stay.table, standard.concept)),
                Place::There(target) => {
                    placed.push((self.table_of.get(target).copied().unwrap_or(stay.table), standard.concept));
                }
                Place::Substance => {
                    let value = &mut out.substances[stay.row as usize];
                    if value.is_none() {
                        *value = Some(standard.concept);
                        let drug = standard.domain == Domain::Drug;
                        placed.push((stay.table, if drug { ALLERGY_TO_DRUG } else { 0 }));
                    }
                }
                Place::Unnamed => self.report.held_back += 1,
            }
        }
        if placed.is_empty() {
            let home = row.origin.home().and_then(|home| self.table_of.get(home).copied());
            placed.push((home.unwrap_or(stay.table), 0));
        }
        // The record's own row is one that keeps its table, and with it its columns, where there is one.
        let own = placed.iter().position(|(table, _)| *table == stay.table).unwrap_or(0);
        for (at, (table, concept)) in placed.into_iter().enumerate() {
            if table != stay.table {
                let way = format!("{} to {}", self.name(stay.table), self.name(table));
                *self.report.moved.entry(way).or_default() += 1;
            }
            self.report.added += u64::from(at != own);
            out.routes.push(Route { table, row: stay.row, concept, added: at != own });
        }
    }

    fn name(&self, table: usize) -> &str {
        self.tables.iter().nth(table).map_or("", |spec| spec.table.as_str())
    }

    fn build(
        &self,
        from: usize,
        to: usize,
        batch: &RecordBatch,
        routes: &[&Route],
        source_concepts: &[Option<i64>],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, StageError> {
        let rows = UInt32Array::from_iter_values(routes.iter().map(|route| route.row));
        let (Some(from_spec), Some(to_spec)) = (self.tables.iter().nth(from), self.tables.iter().nth(to))
        else {
            return Ok(batch.clone());
        };
        let plan = self.plans[to].main.as_ref();
        let keys = Keys::of(batch).routed(routes);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let name = field.name().as_str();
            let column: ArrayRef = if let (ROW_KEY, Some(keys)) = (name, &keys) {
                Arc::clone(keys)
            } else if plan.is_some_and(|p| p.concept == name) || to_spec.concept.as_deref() == Some(name) {
                Arc::new(Int64Array::from_iter_values(routes.iter().map(|route| route.concept)))
            } else if source_column(to_spec).as_deref() == Some(name) {
                Arc::new(Int64Array::from_iter(
                    routes.iter().map(|route| source_concepts[route.row as usize]),
                ))
            } else {
                let held = batch
                    .column_by_name(name)
                    .or_else(|| batch.column_by_name(&counterpart(from_spec, to_spec, name)?));
                match held.filter(|c| c.data_type() == field.data_type()) {
                    Some(column) if !field.is_nullable() && column.null_count() > 0 => {
                        take(&ended(from_spec, batch, column)?, &rows, None)?
                    }
                    Some(column) => take(column, &rows, None)?,
                    None => {
                        default_column(field.is_nullable(), to_spec, name, field.data_type(), routes.len())
                    }
                }
            };
            columns.push(column);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

/// An end where there must be one: an event without an end ends when it starts.
fn ended(from: &TableSpec, batch: &RecordBatch, ends: &ArrayRef) -> Result<ArrayRef, StageError> {
    let start = from.start.as_deref().and_then(|start| batch.column_by_name(start));
    match start.filter(|start| start.data_type() == ends.data_type()) {
        Some(start) => Ok(zip(&is_not_null(ends)?, ends, start)?),
        None => Ok(Arc::clone(ends)),
    }
}

/// The value of each row that has a substance becomes it.
fn with_substances(batch: &RecordBatch, substances: &[Option<i64>]) -> Result<RecordBatch, StageError> {
    const VALUE: &str = "value_as_concept_id";
    let held = batch.column_by_name(VALUE).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let values: Int64Array =
        substances.iter().enumerate().map(|(row, value)| value.or(number(held, row))).collect();
    replace(batch, vec![(VALUE, Arc::new(values))])
}

fn stem(spec: &TableSpec) -> &str {
    spec.concept.as_deref().and_then(|c| c.strip_suffix("_concept_id")).unwrap_or_default()
}

fn source_column(spec: &TableSpec) -> Option<String> {
    let name = format!("{}_source_concept_id", stem(spec));
    spec.column(&name).map(|_| name)
}

/// The column of `from` that has the role of `name` in `to`: id, start, end, code, type.
fn counterpart(from: &TableSpec, to: &TableSpec, name: &str) -> Option<String> {
    let datetime = |date: &str| date.strip_suffix("_date").map(|stem| format!("{stem}_datetime"));
    if to.event_id.as_deref() == Some(name) {
        return from.event_id.clone();
    }
    let (from_end, to_end) = (from.end.as_ref().or(from.start.as_ref()), to.end.as_ref());
    for (theirs, ours) in [(from.start.as_ref(), to.start.as_ref()), (from_end, to_end)] {
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            if ours == name {
                return Some(theirs.clone());
            }
            if datetime(ours).as_deref() == Some(name) {
                return datetime(theirs);
            }
        }
    }
    for suffix in ["_type_concept_id", "_source_value"] {
        if name == format!("{}{suffix}", stem(to)) {
            return Some(format!("{}{suffix}", stem(from)));
        }
    }
    None
}

/// Nulls, or zeros where a concept may not be null.
fn default_column(
    nullable: bool,
    spec: &TableSpec,
    name: &str,
    kind: &arrow::datatypes::DataType,
    rows: usize,
) -> ArrayRef {
    let concept = spec.column(name).is_some_and(|c| c.kind == ColumnType::Int64);
    if !nullable && concept { Arc::new(Int64Array::from_value(0, rows)) } else { new_null_array(kind, rows) }
}

fn replace(batch: &RecordBatch, changes: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, StageError> {
    let mut columns = batch.columns().to_vec();
    for (name, column) in changes {
        columns[batch.schema_ref().index_of(name)?] = column;
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// A sink that gives staged rows their concepts on their way to another sink.
pub struct VocabularySink<'v, S> {
    mapper: ConceptMapper<'v>,
    schemas: Vec<SchemaRef>,
    inner: S,
    report: Arc<std::sync::Mutex<ConceptReport>>,
}

impl<'v, S: StagedSink> VocabularySink<'v, S> {
    /// Applies `mapper` before `inner`; when the sink is dropped, what was done is added to `report`.
    pub fn new(mapper: ConceptMapper<'v>, inner: S, report: Arc<std::sync::Mutex<ConceptReport>>) -> Self {
        let schemas = mapper.tables.iter().map(|t| StagedSchema::of(t).arrow).collect();
        Self { mapper, schemas, inner, report }
    }
}

impl<S: StagedSink> StagedSink for VocabularySink<'_, S> {
    fn push(&mut self, batch: StagedBatch) -> Result<(), StageError> {
        let schemas = &self.schemas;
        let schema_of = |table: usize| Arc::clone(&schemas[table]);
        for (table, batch) in self.mapper.apply(batch.table, &batch.batch, &schema_of)? {
            self.inner.push(StagedBatch { table, batch })?;
        }
        Ok(())
    }

    fn stated(&mut self, records: &[Stated]) -> Result<(), StageError> {
        self.inner.stated(records)
    }
}

impl<S> Drop for VocabularySink<'_, S> {
    fn drop(&mut self) {
        if let Ok(mut report) = self.report.lock() {
            report.add(&self.mapper.report);
        }
    }
}
