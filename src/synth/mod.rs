//! A generator of hospitals' exports of our own making: FHIR R4 bulk files, OMOP CDM 5.4 tables, consent lists.
//!
//! The people are invented, and everything about them follows from a seed: the same options give the same bytes. A share
//! of them went to two hospitals under different numbers. Their identifiers are planted wherever real exports hide them
//! (displays of references, base64 notes, extensions, contained resources, conditional references, free text, unknown
//! fields, ids, file names, and lines that cannot be read), and `planted.tsv` lists them, so that a test can search for
//! them in whatever was made from the exports.
//!
//! Memory does not grow with the export: one person is made at a time and written at once. It is not a model of disease
//! and nothing medical can be learned from it.

mod codes;
mod faults;
mod fhir;
mod json;
mod life;
mod names;
mod omop;
mod output;
mod people;
mod planted;
mod rng;
mod site;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use planted::Planted;
use site::Site;

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// People in the population.
    pub patients: u64,
    /// Hospitals that they go to, 1 to 64.
    pub hospitals: usize,
    /// How many in a thousand go to two of them.
    pub overlap_per_mille: u64,
    /// Fixes every byte.
    pub seed: u64,
    /// Years of history, up to the end of 2025.
    pub years: u32,
    /// Whether to write FHIR bulk exports.
    pub fhir: bool,
    /// Whether to write OMOP tables.
    pub omop: bool,
    /// Whether to list what was planted.
    pub planted: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patients: 100,
            hospitals: 2,
            overlap_per_mille: 200,
            seed: 1,
            years: 5,
            fhir: true,
            omop: false,
            planted: true,
        }
    }
}

/// What was made. Says by itself what a faultless intake must find.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Summary {
    /// People in the population.
    pub patients: u64,
    /// One for each hospital.
    pub hospitals: Vec<Hospital>,
    /// Identifiers listed in `planted.tsv`.
    pub planted: u64,
    /// Bytes in all files.
    pub bytes: u64,
}

/// What was made for one hospital.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Hospital {
    /// Its folder, which is fit for a contributor's id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// People who went there.
    pub persons: u64,
    /// Of these, people who also went elsewhere.
    pub shared: u64,
    /// Consents in `consents.csv`.
    pub consents_on_paper: u64,
    /// Consent resources in the FHIR export.
    pub consents_in_fhir: u64,
    /// Lines of the FHIR export, faulty ones included.
    pub fhir_lines: u64,
    /// Of these, lines that no reader can accept.
    pub fhir_faults: u64,
    /// Rows of the OMOP tables, faulty ones included.
    pub omop_rows: u64,
    /// Of these, rows that no reader can accept.
    pub omop_faults: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The options make no sense.
    #[error("{0}")]
    Options(&'static str),
    /// The folder has something in it already.
    #[error("the folder is not empty: name a new one")]
    NotEmpty,
    /// A file could not be written.
    #[error("cannot write the export")]
    Io(#[from] io::Error),
}

/// Makes the exports of all hospitals in `dir`, which is new or empty, on as many threads as there are processors.
///
/// Each hospital gets a folder `<id>` with `fhir/`, `omop/` and `consents.csv`; beside them stand `planted.tsv` and
/// `summary.json`. `progress` is told how many people have been written since it was last called.
///
/// # Errors
/// If the options make no sense, the folder is not empty, or a file cannot be written.
pub fn generate(
    dir: &Path,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Summary, SynthError> {
    check(options)?;
    fs::create_dir_all(dir)?;
    if fs::read_dir(dir)?.next().is_some() {
        return Err(SynthError::NotEmpty);
    }
    let sites: Vec<Site> = (0..options.hospitals).map(|at| Site::new(options, at)).collect();
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<(usize, Hospital, u64)>> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(site) = sites.get(at) else { return Ok(done) };
            let (hospital, planted) = write_hospital(dir, options, site, progress)?;
            done.push((at, hospital, planted));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(options.hospitals);
    let results: Vec<io::Result<Vec<_>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended early"))))
            .collect()
    });
    let mut hospitals = Vec::with_capacity(options.hospitals);
    for result in results {
        hospitals.extend(result?);
    }
    hospitals.sort_by_key(|(at, ..)| *at);
    conclude(dir, options, hospitals)
}

const fn check(options: &Options) -> Result<(), SynthError> {
    if options.patients == 0 {
        return Err(SynthError::Options("--patients must be at least 1"));
    }
    if options.hospitals == 0 || options.hospitals > 64 {
        return Err(SynthError::Options("--hospitals must be between 1 and 64"));
    }
    if options.overlap_per_mille > 1000 {
        return Err(SynthError::Options("--overlap is a share between 0 and 1"));
    }
    if options.years == 0 || options.years > 60 {
        return Err(SynthError::Options("--years must be between 1 and 60"));
    }
    if !options.fhir && !options.omop {
        return Err(SynthError::Options("nothing to write: neither FHIR nor OMOP is wanted"));
    }
    Ok(())
}

fn part_of_list(dir: &Path, site: &Site) -> PathBuf {
    dir.join(format!(".planted-{:02}", site.ordinal))
}

fn write_hospital(
    dir: &Path,
    options: &Options,
    site: &Site,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<(Hospital, u64)> {
    let folder = dir.join(&site.id);
    fs::create_dir_all(&folder)?;
    let list = match options.planted {
        true => Some(BufWriter::with_capacity(1 << 17, File::create(part_of_list(dir, site))?)),
        false => None,
    };
    let mut planted = Planted::new(list, options);
    let hospital = site::write(&folder, options, site, &mut planted, progress)?;
    Ok((hospital, planted.finish()?))
}

/// Joins the lists of the hospitals and writes the summary.
fn conclude(
    dir: &Path,
    options: &Options,
    hospitals: Vec<(usize, Hospital, u64)>,
) -> Result<Summary, SynthError> {
    if options.planted {
        let mut out = BufWriter::new(File::create(dir.join("planted.tsv"))?);
        out.write_all(b"resource\tid\tkind\tvalue\n")?;
        for (at, ..) in &hospitals {
            let part = dir.join(format!(".planted-{at:02}"));
            io::copy(&mut File::open(&part)?, &mut out)?;
            fs::remove_file(part)?;
        }
        out.flush()?;
    }
    let summary = Summary {
        patients: options.patients,
        planted: hospitals.iter().map(|(.., n)| n).sum(),
        bytes: hospitals.iter().map(|(_, h, _)| h.bytes).sum(),
        hospitals: hospitals.into_iter().map(|(_, h, _)| h).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&summary).map_err(io::Error::other)?;
    text.push(b'\n');
    fs::write(dir.join("summary.json"), text)?;
    Ok(summary)
}

#[cfg(test)]
mod tests;
