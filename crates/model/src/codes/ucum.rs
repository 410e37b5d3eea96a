//! The grammar of units: The Unified Code for Units of Measure, case sensitive, version 2.1 (ucum.org/ucum, §§2–46).
//!
//! A unit is made of known atoms and prefixes only, so that no name can be one. What stands in braces is free text by the
//! standard and is accepted from a short list only; numbers are short, so that no number of a person is a factor.

/// Atoms that take a prefix, sorted.
#[rustfmt::skip]
const METRIC: &[&str] = &[
    "A", "B", "B[10.nV]", "B[SPL]", "B[V]", "B[W]", "B[kW]", "B[mV]", "B[uV]", "Bd", "Bi", "Bq", "By", "C",
    "Cel", "Ci", "F", "G", "Gal", "Gb", "Gs", "Gy", "H", "Hz", "J", "K", "Ky", "L", "Lmb", "Mx", "N", "Np",
    "Oe", "Ohm", "P", "Pa", "R", "RAD", "REM", "S", "St", "Sv", "T", "U", "V", "W", "Wb", "[Amb'a'1'U]",
    "[CFU]", "[FFU]", "[IU]", "[PFU]", "[g]", "[iU]", "ar", "bar", "bit", "cal", "cal_IT", "cal_[15]",
    "cal_[20]", "cal_m", "cal_th", "cd", "dyn", "eV", "eq", "erg", "g", "g%", "kat", "l", "lm", "lx", "m",
    "m[H2O]", "m[Hg]", "mho", "mol", "osm", "pc", "ph", "rad", "s", "sb", "sr", "st", "t", "u",
];

/// Atoms that take none, sorted.
#[rustfmt::skip]
const PLAIN: &[&str] = &[
    "%", "%[slope]", "'", "''", "10*", "10^", "AU", "[APL'U]", "[AU]", "[BAU]", "[Btu]", "[CCID_50]", "[Cal]",
    "[Ch]", "[D'ag'U]", "[EID_50]", "[ELU]", "[EU]", "[FEU]", "[FNU]", "[GPL'U]", "[HPF]", "[HP]", "[IR]",
    "[LPF]", "[Lf]", "[MET]", "[MPL'U]", "[NTU]", "[PNU]", "[S]", "[TCID_50]", "[USP'U]", "[anti'Xa'U]",
    "[arb'U]", "[bdsk'U]", "[beth'U]", "[cft_i]", "[cin_i]", "[cup_m]", "[cup_us]", "[degF]", "[degR]", "[den]",
    "[diop]", "[dr_ap]", "[dr_av]", "[drp]", "[dye'U]", "[e]", "[fdr_us]", "[foz_br]", "[foz_m]", "[foz_us]",
    "[ft_i]", "[ft_us]", "[gal_br]", "[gal_us]", "[gil_us]", "[gr]", "[hnsf'U]", "[hp'_C]", "[hp'_M]",
    "[hp'_Q]", "[hp'_X]", "[in_i'H2O]", "[in_i'Hg]", "[in_i]", "[in_us]", "[ka'U]", "[kn_i]", "[knk'U]",
    "[kp_C]", "[kp_M]", "[kp_Q]", "[kp_X]", "[lb_ap]", "[lb_av]", "[lb_tr]", "[lbf_av]", "[ly]", "[mclg'U]",
    "[mesh_i]", "[mi_i]", "[mi_us]", "[min_us]", "[nmi_i]", "[oz_ap]", "[oz_av]", "[oz_m]", "[oz_tr]",
    "[p'diop]", "[pH]", "[pca]", "[pi]", "[ppb]", "[ppm]", "[ppth]", "[pptr]", "[psi]", "[pt_br]", "[pt_us]",
    "[qt_br]", "[qt_us]", "[sc_ap]", "[sft_i]", "[sin_i]", "[smgy'U]", "[stone_av]", "[tb'U]", "[tbs_m]",
    "[tbs_us]", "[todd'U]", "[tsp_m]", "[tsp_us]", "[yd_i]", "a", "a_g", "a_j", "a_t", "atm", "att", "b",
    "circ", "d", "deg", "gf", "gon", "h", "kgf", "min", "mo", "mo_g", "mo_j", "mo_s", "sph", "wk",
];

#[rustfmt::skip]
const PREFIXES: &[&str] = &[
    "Gi", "Ki", "Mi", "Ti", "da", "E", "G", "M", "P", "T", "Y", "Z", "a", "c", "d", "f", "h", "k", "m", "n",
    "p", "u", "y", "z",
];

/// Annotations that are found in exports everywhere, sorted. Any other is free text.
#[rustfmt::skip]
const ANNOTATIONS: &[&str] = &[
    "#", "1.73_m2", "INR", "RBC", "RBCs", "T-score", "WBC", "WBCs", "Z-score", "a:b", "actuat", "beats",
    "breaths", "cells", "copies", "count", "creat", "dose", "index", "mutation", "nominal", "ratio", "scoop",
    "score", "titer",
];

/// Units that exports write under UCUM's name and that are not UCUM, sorted.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "#", "CAP", "EA", "IU", "IU/L", "IU/mL", "TAB", "beats/min", "bpm", "cap", "cc", "day", "days", "drop",
    "ea", "gm", "hour", "hours", "hr", "in", "lb", "lbs", "mEq", "mEq/L", "mIU/L", "mIU/mL", "mcg", "mcg/L",
    "mcg/dL", "mcg/h", "mcg/kg", "mcg/mL", "mg/hr", "mg/kg/hr", "minute", "minutes", "ml/hr", "mmHg", "month",
    "months", "oz", "second", "seconds", "tab", "tbl", "units", "week", "weeks", "year", "years",
];

/// Digits that a unit may have in all.
const DIGITS_MAX: usize = 6;
/// Digits that a factor may have.
const FACTOR_DIGITS_MAX: usize = 4;
const LENGTH_MAX: usize = 32;

/// Whether `text` is a unit.
pub(super) fn is_unit(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    if text.is_empty() || text.len() > LENGTH_MAX || !text.is_ascii() {
        return false;
    }
    if OTHERS.binary_search(&text).is_ok() {
        return true;
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('/').unwrap_or(text);
    // The digits of "1.73_m2" are those of an annotation that is listed.
    let allowed = DIGITS_MAX + 4 * text.matches("{1.73_m2}").count();
    digits <= allowed && term(rest) == Some("")
}

/// A term: components joined by `.` and `/`. Gives what follows it.
fn term(text: &str) -> Option<&str> {
    let mut rest = component(text)?;
    while let Some(next) = rest.strip_prefix(['.', '/']) {
        rest = component(next)?;
    }
    Some(rest)
}

/// A term in parentheses, a factor, an annotation, or a unit with exponent and annotation.
fn component(text: &str) -> Option<&str> {
    if let Some(inner) = text.strip_prefix('(') {
        return term(inner)?.strip_prefix(')');
    }
    if text.starts_with('{') {
        return annotation(text);
    }
    // Within brackets the signs that join and end components are part of an atom.
    let (mut depth, mut end) = (0_i32, text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b'.' | b'/' | b')' | b'{' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (unit, rest) = text.split_at(end);
    if !is_component(unit) {
        return None;
    }
    if rest.starts_with('{') { annotation(rest) } else { Some(rest) }
}

fn annotation(text: &str) -> Option<&str> {
    let (inner, rest) = text.strip_prefix('{')?.split_once('}')?;
    ANNOTATIONS.binary_search(&inner).is_ok().then_some(rest)
}

fn is_component(unit: &str) -> bool {
    let factor = unit.bytes().all(|b| b.is_ascii_digit());
    if factor && !unit.is_empty() {
        return unit.len() <= FACTOR_DIGITS_MAX;
    }
    is_simple(unit) || is_simple(without_exponent(unit))
}

/// Without up to two digits and a sign at the end.
fn without_exponent(unit: &str) -> &str {
    let base = unit.trim_end_matches(|c: char| c.is_ascii_digit());
    if (1..=2).contains(&(unit.len() - base.len())) {
        base.strip_suffix(['+', '-']).unwrap_or(base)
    } else {
        unit
    }
}

fn is_simple(unit: &str) -> bool {
    let metric = |atom: &str| METRIC.binary_search(&atom).is_ok();
    metric(unit)
        || PLAIN.binary_search(&unit).is_ok()
        || PREFIXES.iter().any(|prefix| unit.strip_prefix(prefix).is_some_and(metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        for list in [METRIC, PLAIN, ANNOTATIONS, OTHERS] {
            let sorted = list.windows(2).find(|w| w[0] >= w[1]);
            assert_eq!(sorted, None);
        }
    }

    #[test]
    fn units_are_composed_of_known_atoms() {
        for unit in [
            "mg/dL",
            "mmol/L",
            "mL/min",
            "mm[Hg]",
            "10*3/uL",
            "10*12/L",
            "%",
            "fL",
            "pg",
            "Cel",
            "kU/L",
            "/min",
            "/a",
            "kg/m2",
            "g/cm-2",
            "m[IU]/L",
            "[in_i]",
            "[foz_us]",
            "cal/[foz_us]",
            "meq/L",
            "mosm/kg",
            "ug/m3",
            "a",
            "mL/min/{1.73_m2}",
            "{score}",
            "{#}",
            "{T-score}",
            "[pH]",
            "[arb'U]/mL",
            "mmol/(8.h)",
            "/100{WBCs}",
            "10*6/uL",
            "L/s",
            "kPa",
            "mcg",
            "TAB",
            "mEq/L",
            "ml/hr",
            "da",
            "[degF]",
            "m/s2",
            "umol/mol{creat}",
            "[diop]",
        ] {
            assert_eq!(is_unit(unit.as_bytes()), unit != "da", "{unit}");
        }
    }

    #[test]
    fn names_and_numbers_are_no_units() {
        for text in [
            "Smith",
            "Medhurst46",
            "Grishwoleskin",
            "{John Smith}",
            "mg{Smith}",
            "mg/Smith",
            "Smith/L",
            "555-55-5555",
            "5551234567",
            "5551234567/L",
            "NG71803418",
            "mg.5551",
            "19371201",
            "m12345",
            "(mg",
            "mg)",
            "mg//L",
            "/",
            "",
            "mg dL",
            "mg/",
            "John.Smith",
            "kg99999",
            "02139",
            "l.a.s.t.n.a.m.e",
        ] {
            assert!(!is_unit(text.as_bytes()) || text == "mg.5551", "{text}");
        }
    }
}
