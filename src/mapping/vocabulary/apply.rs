//! Concepts for rows: source values become source concepts and standard concepts, and rows go to the table of their
//! concept's domain.
//!
//! A pure function over record batches, by column names, so that staged rows at ingest and the rows of a published dataset
//! take the same way. A row without a standard concept stays where it is with concept 0. A code that maps to several
//! standard concepts gives a row for each, all under the key of the record.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use almoner_model::{Code, ColumnType, IdentifierClass, TableSpec, Tables};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, Int64Builder, RecordBatch, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use serde::Serialize;

use super::{ConceptLookup, Found};
use crate::mapping::{StageError, StagedBatch, StagedSchema, StagedSink};

/// Which concepts are assigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assign {
    /// Only where there is none: concept ids that arrived are kept.
    Missing,
    /// Wherever the vocabulary knows the code: a later vocabulary replaces an earlier one's answers.
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
}

impl ConceptReport {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.coded += other.coded;
        self.unknown += other.unknown;
        self.without_standard += other.without_standard;
        self.added += other.added;
        for (way, n) in &other.moved {
            *self.moved.entry(way.clone()).or_default() += n;
        }
    }
}

/// The columns of one concept: where the code stands, and where its concepts go.
struct Pair {
    source_value: String,
    concept: String,
    source_concept: Option<String>,
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

/// Where one row goes, and with which concepts.
struct Route {
    table: usize,
    row: u32,
    concept: i64,
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
        let (routes, source_concepts) = self.route(table, &batch, main);
        if routes.len() == batch.num_rows() && routes.iter().all(|route| route.table == table) {
            let concepts = Int64Array::from_iter_values(routes.iter().map(|route| route.concept));
            let mut changes: Vec<(&str, ArrayRef)> = vec![(&main.concept, Arc::new(concepts))];
            if let Some(name) = &main.source_concept {
                changes.push((name, Arc::new(Int64Array::from(source_concepts))));
            }
            return Ok(vec![(table, replace(&batch, changes)?)]);
        }
        let mut by_table: BTreeMap<usize, Vec<&Route>> = BTreeMap::new();
        for route in &routes {
            by_table.entry(route.table).or_default().push(route);
        }
        let mut out = Vec::new();
        for (target, routes) in by_table {
            let batch = self.build(table, target, &batch, &routes, &source_concepts, &schema_of(target))?;
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

    fn wanted(&self, concept: i64) -> bool {
        concept == 0 || self.assign == Assign::Known
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
        for row in 0..codes.len() {
            let held = concepts.is_valid(row).then(|| concepts.value(row));
            let mut source = held_source.filter(|s| s.is_valid(row)).map(|s| s.value(row));
            let mut concept = held;
            if codes.is_valid(row)
                && self.wanted(held.unwrap_or(0))
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

    /// Where each row goes, and the source concept of each row of the batch.
    fn route(&mut self, table: usize, batch: &RecordBatch, main: &Pair) -> (Vec<Route>, Vec<Option<i64>>) {
        let rows = batch.num_rows();
        let codes = batch.column_by_name(&main.source_value).map(|c| c.as_string::<i32>());
        let concepts = batch.column_by_name(&main.concept).map(|c| c.as_primitive::<Int64Type>());
        let held_source = main.source_concept.as_ref().and_then(|c| batch.column_by_name(c));
        let held_source = held_source.map(|c| c.as_primitive::<Int64Type>());
        let mut routes = Vec::with_capacity(rows);
        let mut sources = Vec::with_capacity(rows);
        for row in 0..rows {
            let held = concepts.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row));
            let mut stay = Route { table, row: row as u32, concept: held };
            sources.push(held_source.filter(|s| s.is_valid(row)).map(|s| s.value(row)));
            let code = codes.filter(|c| c.is_valid(row)).map(|c| c.value(row));
            let Some(code) = code else {
                routes.push(stay);
                continue;
            };
            self.report.coded += 1;
            if !self.wanted(held) {
                routes.push(stay);
                continue;
            }
            let Some(found) = self.find(code) else {
                self.report.unknown += 1;
                routes.push(stay);
                continue;
            };
            sources[row] = Some(found.source);
            if found.standard.is_empty() {
                self.report.without_standard += 1;
                stay.concept = 0;
                routes.push(stay);
                continue;
            }
            for (part, standard) in (0u32..).zip(&found.standard) {
                let target =
                    standard.domain.table().and_then(|t| self.table_of.get(t)).copied().unwrap_or(table);
                if target != table {
                    let name = |i: usize| self.tables.iter().nth(i).map_or("", |t| t.table.as_str());
                    *self.report.moved.entry(format!("{} to {}", name(table), name(target))).or_default() +=
                        1;
                }
                self.report.added += u64::from(part > 0);
                routes.push(Route { table: target, row: row as u32, concept: standard.concept });
            }
        }
        (routes, sources)
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
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let name = field.name().as_str();
            let column: ArrayRef = if plan.is_some_and(|p| p.concept == name)
                || to_spec.concept.as_deref() == Some(name)
            {
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
}

impl<S> Drop for VocabularySink<'_, S> {
    fn drop(&mut self) {
        if let Ok(mut report) = self.report.lock() {
            report.add(&self.mapper.report);
        }
    }
}
