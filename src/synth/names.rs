//! Invented names of people, streets and towns. None is taken from a list of real ones; they are put together from
//! syllables so that a name met in an output can only come from here.
//!
//! States, three-digit ZIP areas and rough coordinates are facts, needed for the ZIP rule to have something to do
//! (45 CFR 164.514(b)(2)(i)(B)); areas of 20,000 people or fewer are among them.

use super::rng::Rng;

const FAMILY_STARTS: [&str; 40] = [
    "Ostr", "Quill", "Branv", "Velk", "Thorv", "Marrw", "Ulsk", "Jesp", "Krell", "Dravn", "Fennw", "Gorl",
    "Halvr", "Indrw", "Kestr", "Lommr", "Nysk", "Orlw", "Pendr", "Raskv", "Salvr", "Tambr", "Urmw", "Vaskr",
    "Wexl", "Yarrv", "Zellw", "Corvn", "Dunkv", "Ebbrw", "Falkr", "Grishw", "Hodrv", "Istrw", "Jurvn",
    "Kolbr", "Lindrw", "Mosvr", "Narvw", "Opprw",
];
const FAMILY_ENDS: [&str; 32] = [
    "imore",
    "asund",
    "ovette",
    "erlund",
    "ingdahl",
    "ostrum",
    "averty",
    "elwick",
    "umbrey",
    "inchamp",
    "ardonne",
    "oleskin",
    "anquist",
    "etherow",
    "iscombey",
    "ovarik",
    "undstrem",
    "eraldine",
    "axworthy",
    "ibaldon",
    "ormandel",
    "esquith",
    "ullivar",
    "orvathen",
    "andrillo",
    "ekhardin",
    "élandre",
    "øgaarden",
    "uñezal",
    "ińskova",
    "özgenal",
    "ißmeyer",
];
const FEMALE_STARTS: [&str; 20] = [
    "Ysol", "Brynd", "Cael", "Dorv", "Elsp", "Fior", "Gwyl", "Hesm", "Isav", "Jorl", "Katv", "Liev", "Merv",
    "Nolw", "Orsv", "Prisv", "Rosv", "Sigv", "Tamv", "Ulvr",
];
const FEMALE_ENDS: [&str; 16] = [
    "wenna", "alith", "inora", "elisse", "amira", "oriane", "ethea", "ulina", "ivette", "asenna", "ildane",
    "omera", "ysande", "erinde", "adelle", "éanne",
];
const MALE_STARTS: [&str; 20] = [
    "Arnv", "Bertw", "Corw", "Dagv", "Edrw", "Ferv", "Gustw", "Hakv", "Ingv", "Jarv", "Kaspw", "Lorv",
    "Matv", "Norw", "Oskv", "Perw", "Radv", "Sorv", "Torv", "Wilw",
];
const MALE_ENDS: [&str; 16] = [
    "ander", "ibald", "orrick", "emund", "uthard", "issimo", "alder", "oswin", "ekiel", "avrett", "inald",
    "ordan", "ymond", "eleth", "adrick", "ório",
];
const STREET_STARTS: [&str; 24] = [
    "Amberlyn",
    "Birchmoss",
    "Cinderfall",
    "Dovetarn",
    "Elderquay",
    "Foxmantle",
    "Gorsewell",
    "Heronsgill",
    "Ivystead",
    "Juniperley",
    "Kettlebrae",
    "Larkhollow",
    "Mossgarth",
    "Nettlewick",
    "Otterfleet",
    "Pepperlade",
    "Quarrelgate",
    "Rushmarren",
    "Saltfennel",
    "Thistledown",
    "Umberleigh",
    "Vinehallow",
    "Willowsike",
    "Yewcastle",
];
const STREET_ENDS: [&str; 8] =
    ["Hollow", "Parade", "Crescent", "Wharf", "Steps", "Mews", "Causeway", "Green"];

/// Where a person lives.
#[derive(Debug)]
pub struct Place {
    /// An invented town.
    pub town: &'static str,
    /// Two-letter state.
    pub state: &'static str,
    /// The first three digits of its ZIP codes.
    pub zip3: &'static str,
    /// Latitude and longitude in hundredths of a degree.
    pub near: (i64, i64),
}

const fn place(town: &'static str, state: &'static str, zip3: &'static str, lat: i64, lon: i64) -> Place {
    Place { town, state, zip3, near: (lat, lon) }
}

/// Every place. Those at the end lie in ZIP areas of 20,000 people or fewer.
pub const PLACES: [Place; 22] = [
    place("Velkasund Harbor", "IL", "606", 4188, -8763),
    place("Quillimore", "MA", "021", 4236, -7106),
    place("Ostrander Falls", "WA", "981", 4761, -12233),
    place("Branvellton", "TX", "787", 3027, -9774),
    place("Marrowick", "GA", "303", 3375, -8439),
    place("Thorvane Heights", "CO", "802", 3974, -10499),
    place("Jespersund", "MN", "554", 4498, -9327),
    place("Lommerville", "FL", "331", 2576, -8019),
    place("Kestrelmoor", "OR", "972", 4552, -12268),
    place("Pendrigan", "OH", "441", 4150, -8169),
    place("Raskvale", "PA", "191", 3995, -7516),
    place("Salvermere", "AZ", "850", 3345, -11207),
    place("Tambrook Junction", "MO", "631", 3863, -9020),
    place("Urmwold", "MD", "212", 3929, -7661),
    place("Vaskerton", "TN", "372", 3616, -8678),
    place("Wexlanding", "WI", "532", 4304, -8791),
    place("Yarrowdene", "NM", "871", 3508, -10665),
    place("Zellwater", "NE", "681", 4126, -9594),
    place("Corvanter", "VT", "059", 4498, -7187),
    place("Dunkvarra", "WY", "821", 4476, -11050),
    place("Ebbrowgate", "NV", "893", 3925, -11490),
    place("Falkrest", "NM", "878", 3313, -10725),
];

/// A family name; one in twelve is double-barrelled, one in fifteen has an apostrophe.
pub fn family(rng: &mut Rng) -> String {
    let mut name = String::with_capacity(24);
    if rng.below(15) == 0 {
        name.push_str("O'");
    }
    name.push_str(rng.word(&FAMILY_STARTS));
    name.push_str(rng.word(&FAMILY_ENDS));
    if rng.below(12) == 0 {
        name.push('-');
        name.push_str(rng.word(&FAMILY_STARTS));
        name.push_str(rng.word(&FAMILY_ENDS));
    }
    name
}

/// A given name.
pub fn given(rng: &mut Rng, female: bool) -> String {
    if female {
        format!("{}{}", rng.word(&FEMALE_STARTS), rng.word(&FEMALE_ENDS))
    } else {
        format!("{}{}", rng.word(&MALE_STARTS), rng.word(&MALE_ENDS))
    }
}

/// A street address, sometimes with a flat.
pub fn street(rng: &mut Rng) -> String {
    let number = rng.between(11, 9899);
    let street = format!("{number} {} {}", rng.word(&STREET_STARTS), rng.word(&STREET_ENDS));
    if rng.below(5) == 0 { format!("{street} Flat {}", rng.between(1, 60)) } else { street }
}

/// Lower-case ASCII letters and digits of `name`, for addresses and ids made of names.
pub fn folded(name: &str) -> String {
    name.chars()
        .filter_map(|c| match c {
            'é' => Some('e'),
            'ø' | 'ö' | 'ó' => Some('o'),
            'ñ' | 'ń' => Some('n'),
            'ß' => Some('s'),
            c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The display form of a person's name.
pub fn full(given: &str, family: &str) -> String {
    format!("{given} {family}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_name_is_fit_for_an_id() {
        let mut rng = Rng::named(3, &[]);
        for _ in 0..500 {
            let name = folded(&family(&mut rng));
            assert!(name.len() >= 7 && name.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }

    #[test]
    fn no_two_syllables_are_the_same() {
        for list in [&FAMILY_STARTS[..], &FAMILY_ENDS[..], &FEMALE_STARTS[..], &MALE_STARTS[..]] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len());
        }
    }
}
