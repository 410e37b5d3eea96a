//! What the codes of each system look like, as narrowly as the system's own rules say: check digits, partitions, layouts,
//! closed lists. Numbers of people are not made by these rules, so nearly none of them passes.

/// SNOMED CT identifier of a concept (SNOMED CT Technical Implementation Guide, "SCTID"): 6 to 18 digits, partition `00`
/// (core) or `10` (extension), Verhoeff check digit.
pub(super) fn sctid(s: &[u8]) -> bool {
    let n = s.len();
    (6..=18).contains(&n)
        && s.iter().all(u8::is_ascii_digit)
        && s[0] != b'0'
        && matches!(&s[n - 3..n - 1], b"00" | b"10")
        && verhoeff(s)
}

/// Verhoeff's check over all digits, the last of which is the check digit: a walk in the dihedral group D5.
fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTED: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b) % 5 + 5,
        (false, true) => (a - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let check = digits.iter().rev().enumerate().fold(0, |check, (at, byte)| {
        let digit = (0..at % 8).fold(byte - b'0', |digit, _| PERMUTED[usize::from(digit)]);
        product(check, digit)
    });
    check == 0
}

/// LOINC: up to seven digits, `-`, and their check digit by mod 10 (LOINC Users' Guide). Parts, answers, lists and groups
/// (`LP`, `LA`, `LL`, `LG`) have a check digit of another kind.
pub(super) fn loinc(s: &[u8]) -> bool {
    let letters = [b"LP", b"LA", b"LL", b"LG"].iter().find_map(|l| s.strip_prefix(*l));
    let Some((check, number)) = letters.unwrap_or(s).split_last().filter(|(c, _)| c.is_ascii_digit()) else {
        return false;
    };
    let Some(number) = number.strip_suffix(b"-").filter(|n| digits(n, 1, 7)) else { return false };
    letters.is_some() || mod10(number) == check - b'0'
}

/// The mod 10 (Luhn) check digit of a number.
fn mod10(number: &[u8]) -> u8 {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0') * if at % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    ((10 - sum % 10) % 10) as u8
}

fn digits(s: &[u8], least: usize, most: usize) -> bool {
    (least..=most).contains(&s.len()) && s.iter().all(u8::is_ascii_digit)
}

const fn upper_or_digit(b: u8) -> bool {
    b.is_ascii_digit() || b.is_ascii_uppercase()
}

/// RxNorm concept: up to seven digits.
pub(super) fn rxcui(s: &[u8]) -> bool {
    digits(s, 1, 7) && s[0] != b'0'
}

/// CVX: up to three digits.
pub(super) fn cvx(s: &[u8]) -> bool {
    digits(s, 1, 3)
}

/// ICD-10 and its clinical modifications: a letter, a digit, a digit or `A` or `B`; then, after an optional dot, up to four
/// more, of which all but the last are digits, `A` or `X`.
pub(super) fn icd10(s: &[u8]) -> bool {
    if s.len() < 3 || !s[0].is_ascii_uppercase() || !s[1].is_ascii_digit() {
        return false;
    }
    let rest = s[3..].strip_prefix(b".").filter(|rest| !rest.is_empty()).unwrap_or(&s[3..]);
    let Some((last, middle)) = rest.split_last() else { return third(s[2]) };
    third(s[2])
        && rest.len() <= 4
        && upper_or_digit(*last)
        && middle.iter().all(|b| b.is_ascii_digit() || matches!(b, b'A' | b'X'))
}

const fn third(b: u8) -> bool {
    b.is_ascii_digit() || matches!(b, b'A' | b'B')
}

/// ICD-10-PCS: seven characters, no `I` or `O`, the section one that exists, at least one digit.
pub(super) fn icd10pcs(s: &[u8]) -> bool {
    s.len() == 7
        && s.iter().all(|b| upper_or_digit(*b) && !matches!(b, b'I' | b'O'))
        && (s[0].is_ascii_digit() || matches!(s[0], b'B' | b'C' | b'D' | b'F' | b'G' | b'H' | b'X'))
        && s.iter().any(u8::is_ascii_digit)
}

/// ICD-9-CM: three digits (`V` and two, `E` and three; two for procedures) and up to two more after an optional dot.
pub(super) fn icd9(s: &[u8]) -> bool {
    let (body, category) = match s.first() {
        Some(b'V') => (&s[1..], 2),
        Some(b'E') => (&s[1..], 3),
        _ => (s, 3),
    };
    match body.iter().position(|b| *b == b'.') {
        Some(dot) => {
            let procedure = dot == 2 && body.len() == s.len();
            (dot == category || procedure) && digits(&body[..dot], 2, 3) && digits(&body[dot + 1..], 1, 2)
        }
        None => digits(body, category, category + 2),
    }
}

/// CPT: four digits, and a digit or the letter of a category.
pub(super) fn cpt(s: &[u8]) -> bool {
    s.len() == 5
        && digits(&s[..4], 4, 4)
        && (s[4].is_ascii_digit() || matches!(s[4], b'F' | b'T' | b'U' | b'M'))
}

/// HCPCS level II (a letter and four digits), or level I, which is CPT.
pub(super) fn hcpcs(s: &[u8]) -> bool {
    cpt(s) || (s.len() == 5 && matches!(s[0], b'A'..=b'V') && digits(&s[1..], 4, 4))
}

/// CDT: `D` and four digits.
pub(super) fn cdt(s: &[u8]) -> bool {
    s.len() == 5 && s[0] == b'D' && digits(&s[1..], 4, 4)
}

/// Labeler of four or five digits, product of three or four, package of one or two; or eleven digits; or ten that begin
/// like a labeler of four. Numbers of social security (3-2-4) and telephones (3-3-4, ten digits from 2 on) look otherwise.
pub(super) fn ndc(s: &[u8]) -> bool {
    if !s.iter().all(|b| b.is_ascii_digit() || *b == b'-') {
        return false;
    }
    let parts: Vec<usize> = s.split(|b| *b == b'-').map(<[u8]>::len).collect();
    match parts.as_slice() {
        [10] => matches!(s[0], b'0' | b'1'),
        [11] => true,
        [labeler, product] => matches!(labeler, 4 | 5) && matches!(product, 3 | 4),
        [labeler, product, package] => {
            matches!(labeler, 4 | 5) && matches!(product, 3 | 4) && matches!(package, 1 | 2)
        }
        _ => false,
    }
}

/// ATC: the five levels, a letter of the fourteen groups, two digits, a letter, a letter, two digits.
pub(super) fn atc(s: &[u8]) -> bool {
    matches!(s.len(), 1 | 3 | 4 | 5 | 7)
        && b"ABCDGHJLMNPRSV".contains(&s[0])
        && s[1..].iter().enumerate().all(|(at, b)| match at {
            0 | 1 | 4 | 5 => b.is_ascii_digit(),
            _ => b.is_ascii_uppercase(),
        })
}

/// CDC race and ethnicity: four digits from 1000 to 2999 with their check digit by mod 10.
pub(super) fn omb(s: &[u8]) -> bool {
    matches!(s, b"UNK" | b"ASKU")
        || (s.len() == 6
            && digits(&s[..4], 4, 4)
            && matches!(s[0], b'1' | b'2')
            && s[4] == b'-'
            && s[5] == b'0' + mod10(&s[..4]))
}

/// Whether a closed list, one code a line, has the code.
pub(super) fn listed(list: &str, s: &[u8]) -> bool {
    !s.is_empty() && s[0] != b'#' && list.lines().any(|line| line.as_bytes() == s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_those_of_the_standards() {
        for good in
            ["44054006", "22298006", "195967001", "710824005", "999480451000087102", "10939881000119105"]
        {
            assert!(sctid(good.as_bytes()), "{good}");
        }
        for bad in ["44054007", "44054060", "555551234", "071803418", "10939881000119104", "1234567890"] {
            assert!(!sctid(bad.as_bytes()), "{bad}");
        }
        for good in ["8302-2", "30525-0", "2160-0", "LA6576-8", "LP14449-0", "100000-9"] {
            assert!(loinc(good.as_bytes()), "{good}");
        }
        for bad in ["8302-3", "5555-5", "555-55-5555", "-1", "LX1-1", "8302", "123456789-7"] {
            assert!(!loinc(bad.as_bytes()), "{bad}");
        }
        for good in ["2106-3", "2028-9", "2054-5", "2135-2", "1002-5", "UNK"] {
            assert!(omb(good.as_bytes()), "{good}");
        }
        assert!(!omb(b"2106-4") && !omb(b"5551-2"));
    }

    #[test]
    fn partitions_of_descriptions_and_relationships_are_no_concepts() {
        // 751689013 is a description of 22298006: a good check digit, another partition.
        assert!(verhoeff(b"751689013") && !sctid(b"751689013"));
    }

    #[test]
    fn layouts() {
        type Is = fn(&[u8]) -> bool;
        let cases: [(Is, &[&str], &[&str]); 9] = [
            (
                icd10,
                &[
                    "E11.9", "E119", "A00", "C7A.00", "M1A.00X0", "S52.501A", "T45.1X5A", "F32.A", "Z3A.20",
                    "O9A.111",
                ],
                &["Upton", "E1", "E11.", "E11.98765", "ABC", "A1C.Z", "E11.SMITH", "123456", "R20MITH"],
            ),
            (icd10pcs, &["0DTJ4ZZ", "GZB4ZZZ", "HZ2ZZZZ"], &["SANDERS", "GARRETT", "0DTI4ZZ", "0DTJ4Z"]),
            (
                icd9,
                &["250.00", "25000", "V45.81", "V4581", "E888.9", "36.15", "410"],
                &["555-12", "2.5000", "25", "250.123", "E88.99", "5551234", "V4.5", "", "V", "E"],
            ),
            (cpt, &["99213", "0001F", "0001U"], &["SMITH", "9921", "99213A", "A1234"]),
            (hcpcs, &["J1815", "99213"], &["SMITH", "W1234", "J18155"]),
            (cdt, &["D0120"], &["SMITH", "E0120"]),
            (rxcui, &["860975", "1191", "2670000"], &["555512345", "Marine", "0123", ""]),
            (
                ndc,
                &["0069-2587-10", "50580-506-02", "50090-0001", "00069258710", "0264751010"],
                &["999-12-3456", "555-555-5555", "5555551234", "----------", ""],
            ),
            (atc, &["A10BA02", "A10BA", "A10B", "A10", "A"], &["SMITH", "A10BA0", "Z10BA02", "AA10", ""]),
        ];
        for (is, good, bad) in cases {
            for code in good {
                assert!(is(code.as_bytes()), "{code}");
            }
            for code in bad {
                assert!(!is(code.as_bytes()), "{code}");
            }
        }
    }
}
