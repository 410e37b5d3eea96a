//! What an input is, judged by its name alone.
//!
//! FHIR bulk files are named for their type somewhere in the name (`Patient.ndjson`, `Patient.000.ndjson`,
//! `1.Patient.ndjson`); NDJSON named for no type is read as mixed, because the lines say what they are. OMOP tables are
//! named for their table in any case, with parts as `table_3.csv` or as files in a folder of that name.

use crate::mapping::fhir::types;

/// What an input file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputKind {
    /// FHIR NDJSON, one resource a line.
    Fhir(FhirFile),
    /// FHIR bulk deletions: transaction Bundles of DELETE entries, one a line.
    Deleted,
    /// A table of the OMOP CDM, of whatever kind; mapping knows which it carries.
    Omop {
        /// Its CDM name, lower case.
        table: &'static str,
        /// How it is written.
        format: TableFormat,
    },
    /// A vocabulary table: reported, and not ingested as data.
    Vocabulary {
        /// Its CDM name, lower case.
        table: &'static str,
        /// How it is written.
        format: TableFormat,
    },
}

/// What the name of an NDJSON file says about its lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FhirFile {
    /// Resources of this type.
    Named(&'static str),
    /// Nothing: any type.
    Mixed,
}

impl FhirFile {
    /// Whether the reference pass must look into it for patients and medications.
    pub fn may_hold_references(self) -> bool {
        matches!(self, Self::Mixed | Self::Named("Patient" | "Medication"))
    }
}

/// How a table is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableFormat {
    /// Delimited text with a header; the delimiter is found in the header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl InputKind {
    /// A word for reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fhir(FhirFile::Named(name)) => name,
            Self::Fhir(FhirFile::Mixed) => "mixed",
            Self::Deleted => "deleted",
            Self::Omop { table, .. } | Self::Vocabulary { table, .. } => table,
        }
    }
}

/// Why an entry of an export was left alone.
pub mod stranger {
    /// Nothing that an export has.
    pub const UNKNOWN_KIND: &str = "unknown-kind";
    /// An operating system's file.
    pub const HIDDEN: &str = "hidden";
    /// A log or manifest of the export job.
    pub const EXPORT_LOG: &str = "export-log";
    /// A delimited or Parquet file that is no table of the CDM.
    pub const NOT_A_CDM_TABLE: &str = "not-a-cdm-table";
    /// The same table is there in another form, which is taken.
    pub const OTHER_FORM_TAKEN: &str = "other-form-taken";
    /// A zip archive in a zip archive, or one that is encrypted, or packed in a way that is not read.
    pub const ARCHIVE_NOT_READ: &str = "archive-not-read";
    /// Not a zip archive although it is named so, or damaged.
    pub const ARCHIVE_DAMAGED: &str = "archive-damaged";
    /// A symbolic link to a folder, or something that is neither file nor folder.
    pub const NOT_A_FILE: &str = "not-a-file";
    /// Deeper than folders are followed.
    pub const TOO_DEEP: &str = "too-deep";
}

const CDM: &[&str] = &[
    "care_site",
    "cdm_source",
    "cohort",
    "cohort_definition",
    "condition_era",
    "condition_occurrence",
    "cost",
    "death",
    "device_exposure",
    "dose_era",
    "drug_era",
    "drug_exposure",
    "episode",
    "episode_event",
    "fact_relationship",
    "location",
    "measurement",
    "metadata",
    "note",
    "note_nlp",
    "observation",
    "observation_period",
    "payer_plan_period",
    "person",
    "procedure_occurrence",
    "provider",
    "specimen",
    "survey_conduct",
    "visit_detail",
    "visit_occurrence",
];

const VOCABULARY: &[&str] = &[
    "concept",
    "concept_ancestor",
    "concept_class",
    "concept_cpt4",
    "concept_relationship",
    "concept_synonym",
    "domain",
    "drug_strength",
    "relationship",
    "source_to_concept_map",
    "vocabulary",
];

/// The name under which an uploaded file is spooled: it says what the file holds and nothing of what it was called, because
/// file names of exports hold people's names. `None` for what is no input. A canonical name is its own canonical name.
pub fn canonical_name(path: &str) -> Option<String> {
    let (judged, gzip) = judge(path);
    let name = match judged {
        Judged::Stranger(_) => return None,
        Judged::Zip => return Some("export.zip".into()),
        Judged::Input(InputKind::Fhir(FhirFile::Named(name))) => format!("{name}.ndjson"),
        Judged::Input(InputKind::Fhir(FhirFile::Mixed)) => "mixed.ndjson".into(),
        Judged::Input(InputKind::Deleted) => "deleted/bundles.ndjson".into(),
        Judged::Input(InputKind::Omop { table, format } | InputKind::Vocabulary { table, format }) => {
            match format {
                TableFormat::Csv => format!("{table}.csv"),
                TableFormat::Parquet => format!("{table}.parquet"),
            }
        }
    };
    Some(if gzip { format!("{name}.gz") } else { name })
}

/// Why a file with this path is left alone, as a word of [`stranger`]; `None` for an input.
pub fn left_alone(path: &str) -> Option<&'static str> {
    match judge(path).0 {
        Judged::Stranger(reason) => Some(reason),
        Judged::Input(_) | Judged::Zip => None,
    }
}

/// A name, judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    Input(InputKind),
    Zip,
    Stranger(&'static str),
}

/// Judges a path relative to the export's root; `/` separates. The flag says whether the file is gzip.
pub(super) fn judge(path: &str) -> (Judged, bool) {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    if path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX") {
        return (Judged::Stranger(stranger::HIDDEN), false);
    }
    let folder = parts.next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let (plain, gzip) = lower.strip_suffix(".gz").map_or((lower.as_str(), false), |stem| (stem, true));
    let Some((stem, extension)) = plain.rsplit_once('.') else {
        return (Judged::Stranger(stranger::UNKNOWN_KIND), gzip);
    };
    let judged = match extension {
        "ndjson" | "jsonl" => ndjson(&name[..stem.len()], folder),
        "csv" | "tsv" | "txt" => table(stem, folder, TableFormat::Csv, extension == "txt"),
        "parquet" if !gzip => table(stem, folder, TableFormat::Parquet, false),
        "zip" if !gzip => Judged::Zip,
        _ => Judged::Stranger(stranger::UNKNOWN_KIND),
    };
    (judged, gzip)
}

fn ndjson(stem: &str, folder: &str) -> Judged {
    if folder.eq_ignore_ascii_case("deleted") {
        return Judged::Input(InputKind::Deleted);
    }
    if ["log", "logs", "manifest", "error", "errors"].iter().any(|name| stem.eq_ignore_ascii_case(name)) {
        return Judged::Stranger(stranger::EXPORT_LOG);
    }
    let named = stem.split(['.', '-', '_']).find_map(types::known).or_else(|| types::known(folder));
    Judged::Input(InputKind::Fhir(named.map_or(FhirFile::Mixed, FhirFile::Named)))
}

fn table(stem: &str, folder: &str, format: TableFormat, text: bool) -> Judged {
    let is_part = |rest: &str| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
    };
    let find = |list: &'static [&'static str], stem: &str| {
        list.iter().copied().find(|name| {
            stem.strip_prefix(name).is_some_and(|rest| rest.is_empty() || is_part(rest))
                || (*name == "device_exposure" && stem == "devices_exposure")
        })
    };
    let folder = folder.to_ascii_lowercase();
    for name in [stem, folder.as_str()] {
        if let Some(table) = find(VOCABULARY, name) {
            return Judged::Input(InputKind::Vocabulary { table, format });
        }
        if let Some(table) = find(CDM, name) {
            return Judged::Input(InputKind::Omop { table, format });
        }
    }
    Judged::Stranger(if text { stranger::UNKNOWN_KIND } else { stranger::NOT_A_CDM_TABLE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_keep_the_kind_and_nothing_else() {
        for (path, expected) in [
            ("a/Smith_Patient.000.NDJSON.GZ", Some("Patient.ndjson.gz")),
            ("Smith_John.ndjson", Some("mixed.ndjson")),
            ("deleted/Smith.ndjson", Some("deleted/bundles.ndjson")),
            ("Smith/MEASUREMENT_3.tsv", Some("measurement.csv")),
            ("person/part-0.parquet", Some("person.parquet")),
            ("Smith.zip", Some("export.zip")),
            ("Smith.pdf", None),
            ("log.ndjson", None),
        ] {
            let name = canonical_name(path);
            assert_eq!(name.as_deref(), expected);
            if let Some(name) = name {
                assert_eq!(judge(path), judge(&name), "{path}");
                assert_eq!(canonical_name(&format!("000007/{name}")), Some(name));
            }
        }
    }

    #[test]
    fn names_are_judged() {
        let fhir = |name| Judged::Input(InputKind::Fhir(name));
        let omop = |table, format| Judged::Input(InputKind::Omop { table, format });
        for (path, expected, gzip) in [
            ("Patient.ndjson", fhir(FhirFile::Named("Patient")), false),
            ("a/b/Patient.000.ndjson.gz", fhir(FhirFile::Named("Patient")), true),
            ("1.Observation.ndjson", fhir(FhirFile::Named("Observation")), false),
            ("MedicationRequest_2.NDJSON", fhir(FhirFile::Named("MedicationRequest")), false),
            ("Encounter/part-1.ndjson", fhir(FhirFile::Named("Encounter")), false),
            ("Smith_John.ndjson", fhir(FhirFile::Mixed), false),
            ("log.ndjson", Judged::Stranger(stranger::EXPORT_LOG), false),
            ("deleted/Patient.ndjson", Judged::Input(InputKind::Deleted), false),
            ("PERSON.csv", omop("person", TableFormat::Csv), false),
            ("x/measurement_12.csv.gz", omop("measurement", TableFormat::Csv), true),
            ("measurement/part-0.parquet", omop("measurement", TableFormat::Parquet), false),
            ("DEVICES_EXPOSURE.csv", omop("device_exposure", TableFormat::Csv), false),
            ("note_nlp.csv", omop("note_nlp", TableFormat::Csv), false),
            ("LICENSE", Judged::Stranger(stranger::UNKNOWN_KIND), false),
            ("patients.csv", Judged::Stranger(stranger::NOT_A_CDM_TABLE), false),
            ("__MACOSX/._PERSON.csv", Judged::Stranger(stranger::HIDDEN), false),
            ("export.zip", Judged::Zip, false),
        ] {
            assert_eq!(judge(path), (expected, gzip), "{path}");
        }
        let vocabulary = InputKind::Vocabulary { table: "concept_ancestor", format: TableFormat::Csv };
        assert_eq!(judge("CONCEPT_ANCESTOR.csv"), (Judged::Input(vocabulary), false));
    }
}
