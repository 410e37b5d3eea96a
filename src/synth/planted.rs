//! The list of what was planted: one identifier a line, `resource`, `id`, `kind`, `value`, separated by tabs.
//!
//! None of these values may be found, as a whole token, in anything that is made from the export (but for a birth date or
//! a full ZIP code under a profile that keeps them). The list itself is as secret as the export.

use std::io::{self, Write};

use super::Options;
use super::people::{Person, Record};

/// Writes the list; does nothing when no list is wanted.
pub struct Planted<W: Write> {
    out: Option<(W, u64)>,
    fhir: bool,
    omop: bool,
}

impl<W: Write> Planted<W> {
    /// A list that goes to `out`, or none, of what is planted in the formats of `options`.
    pub fn new(out: Option<W>, options: &Options) -> Self {
        Self { out: out.map(|w| (w, 0)), fhir: options.fhir, omop: options.omop }
    }

    /// Adds one identifier.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, resource: &str, id: &str, kind: &str, value: &str) -> io::Result<()> {
        match &mut self.out {
            Some((out, count)) => {
                *count += 1;
                writeln!(out, "{resource}\t{id}\t{kind}\t{value}")
            }
            None => Ok(()),
        }
    }

    /// Adds everything that names `person`, whose record is `record`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn person(&mut self, person: &Person, record: &Record) -> io::Result<()> {
        if self.out.is_none() {
            return Ok(());
        }
        let birth = person.birth.to_string();
        let person_id = record.person_id.to_string();
        let everywhere: [(&str, &str); 10] = [
            ("identifier_MR", &record.mrn),
            ("family", &person.family),
            ("given", &person.given),
            ("given", &person.middle),
            ("address_line", &person.street),
            ("city", person.place.town),
            ("postalCode", &person.zip),
            ("latitude", &person.latitude),
            ("longitude", &person.longitude),
            ("birthDate", &birth),
        ];
        let in_fhir: [(&str, &str); 11] = [
            ("id", &record.id),
            ("identifier_SS", &person.ssn),
            ("identifier_DL", &person.licence),
            ("identifier_PPN", &person.passport),
            ("identifier_wristband", &record.wristband),
            ("identifier_member", &record.member),
            ("mothersMaidenName", &person.mother),
            ("contact_name", &person.kin),
            ("contact_phone", &person.kin_phone),
            ("telecom_phone", &person.phone),
            ("telecom_email", &person.email),
        ];
        let in_omop = [("person_id", person_id.as_str())];
        let wanted = everywhere
            .iter()
            .chain(in_fhir.iter().filter(|_| self.fhir))
            .chain(in_omop.iter().filter(|_| self.omop));
        let wanted: Vec<_> = wanted.collect();
        for (kind, value) in wanted {
            self.add("Patient", &record.id, kind, value)?;
        }
        if !self.fhir {
            return Ok(());
        }
        person.maiden.iter().try_for_each(|name| self.add("Patient", &record.id, "family", name))
    }

    /// How many were added; everything is handed to the operating system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<u64> {
        match self.out {
            Some((mut out, count)) => out.flush().map(|()| count),
            None => Ok(0),
        }
    }
}
