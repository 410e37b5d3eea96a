//! The ZIP3 allow-list: areas of all ZIP codes with the same first three digits that hold more than 20,000 people
//! (45 CFR 164.514(b)(2)(i)(B)), from the census facts in `schemas/deid/zip3.toml`.
//!
//! An area that the census does not list counts as holding nobody, so an unknown prefix becomes `000`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What stands for an area that may not be named.
pub const RESTRICTED: &str = "000";

const EMBEDDED: &str = include_str!("../../../schemas/deid/zip3.toml");

/// Which three-digit prefixes may be kept, with the population of each area.
#[derive(Clone, PartialEq, Eq)]
pub struct Zip3 {
    census: u16,
    more_than: u32,
    people: Vec<u32>,
}

impl std::fmt::Debug for Zip3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Zip3(census {})", self.census)
    }
}

/// Why the ZIP3 facts do not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Zip3Error {
    /// Not the TOML that it must be.
    #[error("schemas/deid/zip3.toml: {0}")]
    Toml(String),
    /// The file has no such census.
    #[error("schemas/deid/zip3.toml has no census of {0}")]
    Census(u16),
    /// A key that is not three digits, or not one number for each census.
    #[error("schemas/deid/zip3.toml: area {0:?} is not three digits with one population for each census")]
    Area(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    format: String,
    censuses: Vec<u16>,
    more_than: u32,
    people: BTreeMap<String, Vec<u32>>,
}

impl Zip3 {
    /// The compiled-in facts of the newest census, which is what the rule asks for.
    ///
    /// # Errors
    /// [`Zip3Error`] if the file is not what it should be; a test of this crate keeps that from shipping.
    pub fn current() -> Result<Self, Zip3Error> {
        Self::load(EMBEDDED, None)
    }

    /// The compiled-in facts of one census year.
    ///
    /// # Errors
    /// [`Zip3Error::Census`] if it is not in the file.
    pub fn of_census(year: u16) -> Result<Self, Zip3Error> {
        Self::load(EMBEDDED, Some(year))
    }

    /// Reads facts in the format of `schemas/deid/zip3.toml`; the newest census where no year is given.
    ///
    /// # Errors
    /// [`Zip3Error`] says what is wrong.
    pub fn load(text: &str, census: Option<u16>) -> Result<Self, Zip3Error> {
        let facts: Facts = toml::from_str(text).map_err(|e| Zip3Error::Toml(e.message().to_owned()))?;
        if facts.format != "almoner-zip3/1" {
            return Err(Zip3Error::Toml("format is not almoner-zip3/1".to_owned()));
        }
        let census = census.or_else(|| facts.censuses.iter().max().copied()).unwrap_or_default();
        let at = facts.censuses.iter().position(|c| *c == census).ok_or(Zip3Error::Census(census))?;
        let mut people = vec![0; 1000];
        for (area, counts) in facts.people {
            match (prefix(area.as_bytes()), area.len() == 3 && counts.len() == facts.censuses.len()) {
                (Some(index), true) => people[index] = counts[at],
                _ => return Err(Zip3Error::Area(area)),
            }
        }
        Ok(Self { census, more_than: facts.more_than, people })
    }

    /// The census year of the facts.
    pub const fn census(&self) -> u16 {
        self.census
    }

    /// The people who live in the area of a three-digit prefix; 0 if it is unknown.
    pub fn population(&self, area: &str) -> u32 {
        if area.len() == 3 { prefix(area.as_bytes()).map_or(0, |i| self.people[i]) } else { 0 }
    }

    /// All people of the census.
    pub fn total(&self) -> u64 {
        self.people.iter().map(|p| u64::from(*p)).sum()
    }

    /// The first three digits of a US ZIP code (`12345`, `12345-6789`, `123456789`, or three digits that were cut
    /// before) if their area holds enough people, else [`RESTRICTED`]; `None` for what is no ZIP code.
    pub fn generalise<'v>(&self, zip: &'v str) -> Option<&'v str> {
        let zip = zip.trim();
        if zip.len() != 3 {
            zip5(zip)?;
        }
        let index = prefix(zip.as_bytes())?;
        Some(if self.people[index] > self.more_than { &zip[..3] } else { RESTRICTED })
    }
}

/// The first five digits of a US ZIP code, or `None` for what is no ZIP code.
pub fn zip5(zip: &str) -> Option<&str> {
    let zip = zip.trim();
    let bytes = zip.as_bytes();
    let digits = |s: &[u8]| s.iter().all(u8::is_ascii_digit);
    let ok = match bytes.len() {
        5 | 9 => digits(bytes),
        10 => digits(&bytes[..5]) && bytes[5] == b'-' && digits(&bytes[6..]),
        _ => false,
    };
    ok.then(|| &zip[..5])
}

fn prefix(bytes: &[u8]) -> Option<usize> {
    let three = bytes.get(..3)?;
    three.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + usize::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_cut_restricted_or_refused() {
        let zip3 = Zip3::current().expect("embedded facts load");
        assert_eq!(zip3.census(), 2020);
        for (zip, expected) in [
            ("02139", Some("021")),
            ("02139-4307", Some("021")),
            ("021394307", Some("021")),
            ("021", Some("021")),
            (" 02139 ", Some("021")),
            ("03601", Some("000")),
            ("00000", Some("000")),
            ("000", Some("000")),
            ("SW1A 1AA", None),
            ("2139", None),
            ("0213", None),
            ("02139-43", None),
            ("02139 4307", None),
            ("0213a", None),
            ("٠٢١", None),
            ("", None),
        ] {
            assert_eq!(zip3.generalise(zip), expected, "{zip}");
        }
        assert_eq!(
            (zip5("02139-4307"), zip5("021"), zip5("021394307")),
            (Some("02139"), None, Some("02139"))
        );
    }

    #[test]
    fn the_threshold_is_strict() {
        let text = "format = \"almoner-zip3/1\"\ncensuses = [2020]\nmore_than = 20000\n[people]\n\
                    001 = [20000]\n002 = [20001]\n";
        let zip3 = Zip3::load(text, None).expect("loads");
        assert_eq!((zip3.generalise("00100"), zip3.generalise("00200")), (Some("000"), Some("002")));
        assert_eq!((zip3.population("002"), zip3.population("0021"), zip3.total()), (20_001, 0, 40_001));
        assert_eq!(Zip3::load(text, Some(2010)).err(), Some(Zip3Error::Census(2010)));
        assert!(matches!(Zip3::load(&text.replace("001 =", "01 ="), None), Err(Zip3Error::Area(_))));
        assert!(matches!(Zip3::load(&text.replace("more", "some"), None), Err(Zip3Error::Toml(_))));
        assert!(matches!(Zip3::load(&text.replace("zip3/1", "zip3/2"), None), Err(Zip3Error::Toml(_))));
    }

    /// Oracle: restricted lists that were derived independently from the same two censuses.
    #[test]
    fn restricted_areas_are_those_of_the_oracle() {
        let Some(path) = crate::testing::data("reference/zip/restricted_zip3.json") else { return };
        let text = std::fs::read_to_string(path).expect("readable");
        let oracle: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (year, key) in [(2010, "derived_2010"), (2020, "derived_2020")] {
            let zip3 = Zip3::of_census(year).expect("in the file");
            let oracle: Vec<&str> =
                oracle[key].as_array().expect("a list").iter().filter_map(|v| v.as_str()).collect();
            for area in (0..1000).map(|i| format!("{i:03}")) {
                let restricted = zip3.generalise(&area) == Some(RESTRICTED);
                if oracle.contains(&area.as_str()) || zip3.population(&area) > 0 {
                    assert_eq!(restricted, oracle.contains(&area.as_str()), "{area} in {year}");
                } else {
                    assert!(restricted, "{area} is unknown to the census of {year}");
                }
            }
        }
    }

    /// The facts are the sums of the census files, area by area.
    #[test]
    fn populations_are_the_sums_of_the_census_files() {
        for year in [2010, 2020] {
            let Some(path) = crate::testing::data(&format!("reference/zip/zcta_population_{year}.csv"))
            else {
                return;
            };
            let text = std::fs::read_to_string(path).expect("readable");
            let mut sums = vec![0_u32; 1000];
            for line in text.lines().filter(|l| !l.starts_with('#')) {
                let (zip, people) = line.split_once(',').expect("two columns");
                sums[prefix(zip.as_bytes()).expect("digits")] +=
                    people.trim().parse::<u32>().expect("a count");
            }
            assert_eq!(Zip3::of_census(year).expect("in the file").people, sums, "{year}");
        }
    }
}
