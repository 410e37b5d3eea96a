//! Bar `count-million`: a two-criteria cohort counted over one million synthetic persons, warm.
//!
//! Writes a dataset version of the shape that the exchange keeps (16 buckets, sorted runs of persons, zstd, canonical
//! columns) into a temporary folder, counts once cold, then nine times, and prints the median and the greatest. The
//! number of persons can be given as the first argument.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "this program measures and prints")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use almoner::cohort::SimpleCohort;
use almoner::cohort::execute::{Permitted, Source, SourceFile, run};
use almoner::cohort::plan::{DatasetFacts, Held, TableFacts, plan};
use almoner_deid::arrow_schema;
use almoner_model::{DatePrecision, Entropy, SeededEntropy, Tables};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

const BUCKET_BITS: u8 = 4;
const CONDITIONS_EACH: u64 = 10;
const MEASUREMENTS_EACH: u64 = 10;

const DEFINITION: &str = r#"{"name": "Women of 40 to 75 with diabetes and a high HbA1c within two years", "sex": ["female"],
    "age": {"min": 40, "max": 75, "at": "index"},
    "all": [{"domain": "condition", "codes": ["SNOMED:44054006"]},
            {"domain": "measurement", "codes": ["LOINC:4548-4"], "value": {"min": 6.5, "unit": "UCUM:%"},
             "window": {"after": "index", "days": [0, 730]}}]}"#;

/// A small fast generator; the same seed, the same data.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Columns given by name; the others are null, or 0 or false where they may not be.
fn batch(tables: &Tables, table: &str, rows: usize, given: &mut BTreeMap<&str, ArrayRef>) -> RecordBatch {
    let schema = arrow_schema(tables.get(table).expect("canonical"), false);
    let columns = schema.fields().iter().map(|field| {
        given.remove(field.name().as_str()).unwrap_or_else(|| {
            match (field.is_nullable(), field.data_type()) {
                (false, DataType::Int64) => Arc::new(Int64Array::from(vec![0; rows])),
                (false, DataType::Date32) => Arc::new(Date32Array::from(vec![0; rows])),
                (false, DataType::Boolean) => Arc::new(BooleanArray::from(vec![false; rows])),
                (_, kind) => new_null_array(kind, rows),
            }
        })
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("of the table")
}

fn write(dir: &Path, table: &str, bucket: u32, batch: &RecordBatch) -> SourceFile {
    let path = dir.join(format!("{table}-{bucket}.parquet"));
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).expect("a level"));
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let file = File::create(&path).expect("creates");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("opens");
    writer.write(batch).expect("writes");
    writer.close().expect("closes");
    SourceFile { table: table.to_owned(), bucket, path, rows: batch.num_rows() as u64 }
}

fn strings(values: Vec<String>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn bucket(tables: &Tables, dir: &Path, bucket: u32, ids: &[i64], random: &mut Random) -> Vec<SourceFile> {
    let n = ids.len();
    let sex: Vec<i64> = ids.iter().map(|_| 8507 + 25 * random.below(2) as i64).collect();
    let born: Vec<i64> = ids.iter().map(|_| 1930 + random.below(80) as i64).collect();
    let persons = batch(
        tables,
        "person",
        n,
        &mut BTreeMap::from([
            ("person_id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
            ("gender_concept_id", Arc::new(Int64Array::from(sex))),
            ("year_of_birth", Arc::new(Int64Array::from(born))),
        ]),
    );
    let runs = |each: u64, random: &mut Random| -> (Vec<i64>, Vec<i32>) {
        let mut rows: Vec<(i64, i32)> = ids.iter().flat_map(|id| (0..each).map(|_| (*id, 0))).collect();
        rows.iter_mut().for_each(|row| row.1 = 14_000 + random.below(5_500) as i32);
        rows.sort_unstable();
        rows.into_iter().unzip()
    };
    let (who, when) = runs(CONDITIONS_EACH, random);
    let rows = who.len();
    let codes = (0..rows).map(|_| match random.below(100) {
        0 => "SNOMED:44054006".to_owned(),
        other => format!("SNOMED:{}", 100_000_000 + other * 7919 + random.below(5)),
    });
    let codes = strings(codes.collect());
    let conditions = batch(
        tables,
        "condition_occurrence",
        rows,
        &mut BTreeMap::from([
            ("condition_occurrence_id", Arc::new(Int64Array::from_iter_values(1..=rows as i64)) as ArrayRef),
            ("person_id", Arc::new(Int64Array::from(who))),
            ("condition_start_date", Arc::new(Date32Array::from(when))),
            ("condition_source_value", codes),
        ]),
    );
    let (who, when) = runs(MEASUREMENTS_EACH, random);
    let rows = who.len();
    let kinds: Vec<u64> = (0..rows).map(|_| random.below(40)).collect();
    let codes = strings(
        kinds
            .iter()
            .map(|k| if *k < 2 { "LOINC:4548-4".into() } else { format!("LOINC:{}-1", 1000 + k) })
            .collect(),
    );
    let units = strings(
        kinds.iter().map(|k| if *k < 2 { "UCUM:%".into() } else { "UCUM:mg/dL".to_owned() }).collect(),
    );
    let values = Float64Array::from_iter_values((0..rows).map(|_| 4.0 + random.below(80) as f64 / 10.0));
    let measurements = batch(
        tables,
        "measurement",
        rows,
        &mut BTreeMap::from([
            ("measurement_id", Arc::new(Int64Array::from_iter_values(1..=rows as i64)) as ArrayRef),
            ("person_id", Arc::new(Int64Array::from(who))),
            ("measurement_date", Arc::new(Date32Array::from(when))),
            ("measurement_source_value", codes),
            ("unit_source_value", units),
            ("value_as_number", Arc::new(values)),
        ]),
    );
    vec![
        write(dir, "person", bucket, &persons),
        write(dir, "condition_occurrence", bucket, &conditions),
        write(dir, "measurement", bucket, &measurements),
    ]
}

fn main() {
    let persons: u64 = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a folder");
    let tables = Tables::embedded().expect("consistent");
    let mut random = Random(SeededEntropy::new(1).u64() | 1);
    let mut buckets: Vec<Vec<i64>> = vec![Vec::new(); 1 << BUCKET_BITS];
    for _ in 0..persons {
        let id = 1 + random.below((1 << 53) - 1) as i64;
        buckets[random.below(1 << BUCKET_BITS) as usize].push(id);
    }
    let mut files = Vec::new();
    for (n, ids) in buckets.iter_mut().enumerate() {
        ids.sort_unstable();
        files.extend(bucket(&tables, dir.path(), n as u32, ids, &mut random));
    }
    let rows: u64 = files.iter().map(|f| f.rows).sum();
    let source = Source {
        dataset: "synthetic".parse().expect("slug"),
        bucket_bits: BUCKET_BITS,
        date_precision: DatePrecision::Day,
        offset_epoch: Some(0),
        files,
    };
    let table = TableFacts { rows: 1, concept_ids: Held::None, source_codes: Held::All };
    let facts = DatasetFacts {
        dataset: source.dataset.clone(),
        date_precision: DatePrecision::Day,
        offset_epoch: Some(0),
        age_top_code: Some(90),
        tables: ["condition_occurrence", "measurement"].map(|t| (t.to_owned(), table)).into(),
    };
    let mut ids: Vec<i64> = buckets.concat();
    ids.sort_unstable();
    // One person in ten permits nothing.
    let ids: Vec<i64> = ids.into_iter().enumerate().filter(|(i, _)| i % 10 != 0).map(|(_, id)| id).collect();
    let limits = BTreeMap::new();
    let permitted = Permitted { ids: &ids, limits: &limits };
    let count = || {
        let started = Instant::now();
        let cohort = SimpleCohort::parse(DEFINITION.as_bytes()).expect("reads");
        let plan = plan(&cohort, std::slice::from_ref(&facts), None).expect("plans");
        let found = run(&plan, std::slice::from_ref(&source), &[permitted], &|_, _| -100).expect("runs");
        (started.elapsed(), found)
    };
    let (cold, found) = count();
    let mut times: Vec<Duration> = (0..9).map(|_| count().0).collect();
    times.sort_unstable();
    let (median, greatest) = (times[4], times[8]);
    println!(
        "count-million: {persons} persons, {rows} rows, {} members of {} permitted; first {} ms, warm median {} \
         ms, greatest of nine {} ms",
        found.members.len(),
        found.report.permitted,
        cold.as_millis(),
        median.as_millis(),
        greatest.as_millis()
    );
    assert!(!found.members.is_empty(), "the cohort has members");
    assert!(persons < 1_000_000 || median < Duration::from_secs(1), "the bar is one second");
}
