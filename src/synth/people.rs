//! The invented population: who a person is, where they live, which illnesses they have, which hospitals they go to.
//!
//! A person depends on the seed and their number only, so that each hospital's export can be made on its own and still
//! tells of the same people. A person's record at a hospital ([`Record`]) has that hospital's own numbers.

use almoner_model::Date;

use super::codes::{DIABETES, HYPERTENSION, ILLNESSES, KIDNEY};
use super::names::{self, PLACES, Place, folded};
use super::rng::Rng;

/// The last day of every history.
pub const TODAY: Date = Date::from_days(20_453);

/// One person.
#[derive(Debug)]
pub struct Person {
    /// Number in the population, from 0.
    pub number: u64,
    /// Whether female (else male).
    pub female: bool,
    /// Date of birth.
    pub birth: Date,
    /// Date of death.
    pub death: Option<Date>,
    /// First name.
    pub given: String,
    /// Second name.
    pub middle: String,
    /// Family name.
    pub family: String,
    /// Family name before marriage.
    pub maiden: Option<String>,
    /// Mother's name before marriage.
    pub mother: String,
    /// Next of kin.
    pub kin: String,
    /// Their telephone.
    pub kin_phone: String,
    /// Social security number.
    pub ssn: String,
    /// Driver's licence.
    pub licence: String,
    /// Passport.
    pub passport: String,
    /// Telephone.
    pub phone: String,
    /// Electronic mail.
    pub email: String,
    /// First line of the address.
    pub street: String,
    /// Town, state, ZIP area.
    pub place: &'static Place,
    /// Five-digit ZIP code.
    pub zip: String,
    /// Decimal degrees.
    pub latitude: String,
    /// Decimal degrees.
    pub longitude: String,
    /// Index into the races of the OMB.
    pub race: usize,
    /// Whether Hispanic or Latino.
    pub hispanic: bool,
    /// When each of [`ILLNESSES`] began.
    pub illnesses: [Option<Date>; ILLNESSES.len()],
    /// Height in millimetres and weight in hectograms, as an adult.
    pub body: (i64, i64),
    /// 0 never, 1 formerly, 2 now.
    pub smoker: usize,
    /// Hospitals they go to: the usual one, and perhaps another.
    pub hospitals: (usize, Option<usize>),
}

/// A person's numbers at one hospital.
#[derive(Debug)]
pub struct Record {
    /// Record number.
    pub mrn: String,
    /// The FHIR id.
    pub id: String,
    /// What is printed on the wristband.
    pub wristband: String,
    /// Number of the insurance policy.
    pub member: String,
    /// The OMOP person id.
    pub person_id: i64,
}

/// Whether person `number` goes to `hospital`: decided first, so that others can be passed over at little cost.
///
/// `overlap` is in thousandths.
pub fn hospitals(seed: u64, number: u64, hospitals: usize, overlap: u64) -> (usize, Option<usize>) {
    let mut rng = Rng::named(seed, &[1, number]);
    let usual = rng.below(hospitals as u64) as usize;
    if hospitals < 2 || !rng.chance(overlap) {
        return (usual, None);
    }
    let step = 1 + rng.below(hospitals as u64 - 1) as usize;
    (usual, Some((usual + step) % hospitals))
}

impl Person {
    /// Person `number` of the population of `seed`.
    pub fn new(seed: u64, number: u64, hospitals: (usize, Option<usize>)) -> Self {
        let rng = &mut Rng::named(seed, &[2, number]);
        let female = rng.chance(510);
        // Older people are met in hospitals more often than younger ones.
        let age = rng.between(0, 96).max(if rng.chance(500) { rng.between(25, 96) } else { 0 });
        let birth = TODAY.plus_days(-(age * 365 + age / 4 + rng.between(0, 364)) as i32);
        let (given, middle) = (names::given(rng, female), names::given(rng, female));
        let family = names::family(rng);
        let maiden = (female && age > 25 && rng.chance(550)).then(|| names::family(rng));
        let place = rng.pick(&PLACES);
        let zip = format!("{}{:02}", place.zip3, rng.between(1, 98));
        let degrees = |rng: &mut Rng, near: i64| {
            let tiny = near.abs() * 10_000_000_000 + rng.between(-299_999_999_999, 299_999_999_999);
            let sign = if near < 0 { "-" } else { "" };
            format!("{sign}{}.{:012}", tiny / 1_000_000_000_000, tiny % 1_000_000_000_000)
        };
        let email = format!("{}.{}{:02}@example.org", folded(&given), folded(&family), rng.below(100));
        let mut person = Self {
            number,
            female,
            birth,
            death: None,
            mother: names::full(&names::given(rng, true), &names::family(rng)),
            kin: names::full(&names::given(rng, !female), &family),
            kin_phone: phone(rng),
            ssn: format!("999-{:02}-{:04}", rng.between(10, 99), rng.between(1000, 9999)),
            licence: format!("S{:08}", rng.between(10_000_000, 99_999_999)),
            passport: format!("X{:08}X", rng.between(10_000_000, 99_999_999)),
            phone: phone(rng),
            email,
            street: names::street(rng),
            latitude: degrees(rng, place.near.0),
            longitude: degrees(rng, place.near.1),
            zip,
            place,
            race: *rng.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 3]),
            hispanic: rng.chance(180),
            illnesses: [None; ILLNESSES.len()],
            body: (
                rng.bell(if female { 1630 } else { 1760 }, 60),
                rng.bell(if female { 720 } else { 850 }, 160),
            ),
            smoker: *rng.pick(&[0, 0, 0, 1, 1, 2]),
            hospitals,
            given,
            middle,
            family,
            maiden,
        };
        person.fall_ill(rng);
        person
    }

    fn fall_ill(&mut self, rng: &mut Rng) {
        let heavy = self.body.1 > 950;
        for (at, illness) in ILLNESSES.iter().enumerate() {
            let linked = match at {
                KIDNEY => self.illnesses[DIABETES].is_some() || self.illnesses[HYPERTENSION].is_some(),
                HYPERTENSION | DIABETES => heavy,
                _ => false,
            };
            let weight = if linked { 2 } else { 1 };
            if !rng.chance((illness.by_80 * weight).min(900)) {
                continue;
            }
            let age = rng.between(illness.from_age, 84);
            let onset = self.birth.plus_days((age * 365 + age / 4 + rng.between(0, 364)) as i32);
            self.illnesses[at] = (onset <= TODAY).then_some(onset);
        }
        if TODAY.age_since(self.birth) > 60 && rng.chance(90) {
            self.death = Some(TODAY.plus_days(-rng.between(0, 1400) as i32));
        }
    }

    /// Age in completed years.
    pub fn age(&self, at: Date) -> i64 {
        i64::from(at.age_since(self.birth))
    }

    /// Whether the illness has begun by `at`.
    pub fn has(&self, illness: usize, at: Date) -> bool {
        self.illnesses[illness].is_some_and(|onset| onset <= at)
    }

    /// The title and name under which letters are addressed.
    pub fn addressed(&self) -> String {
        let title = if self.female { "Mrs." } else { "Mr." };
        format!("{title} {} {} {}", self.given, self.middle, self.family)
    }

    /// This person's record at a hospital. Every second hospital makes its ids from names and dates of birth.
    pub fn record(&self, seed: u64, hospital: usize, initials: &str) -> Record {
        let rng = &mut Rng::named(seed, &[3, self.number, hospital as u64]);
        // An odd multiplier that 5 does not divide: no two people share a number.
        let serial = (self.number * 61_803_399 + 10_000_019 * (hospital as u64 + 1)) % 100_000_000;
        let id = if hospital % 2 == 1 {
            let (family, given) = (folded(&self.family), folded(&self.given));
            format!("{family:.24}-{given:.16}-{}-{:x}", self.birth.year(), self.number)
        } else {
            let mut json = super::json::Json::default();
            json.uuid(rng.wide());
            String::from_utf8_lossy(json.bytes()).into_owned()
        };
        // Real OMOP ids are hashes as often as counters; some systems make them negative.
        let magnitude = (rng.bits() >> 2) as i64 | 1 << 60;
        Record {
            mrn: format!("{initials}{serial:08}"),
            id,
            wristband: format!("WB-{:04}-{:06}", rng.below(10_000), rng.below(1_000_000)),
            member: format!("HX{:010}Q", rng.below(10_000_000_000)),
            person_id: if hospital % 2 == 1 { -magnitude } else { magnitude },
        }
    }
}

fn phone(rng: &mut Rng) -> String {
    format!("555-{:03}-{:04}", rng.between(200, 999), rng.between(0, 9999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_population_looks_like_one() {
        let people: Vec<Person> = (0..4000).map(|n| Person::new(11, n, hospitals(11, n, 3, 200))).collect();
        let share =
            |test: &dyn Fn(&Person) -> bool| people.iter().filter(|p| test(p)).count() * 1000 / people.len();
        assert!((480..540).contains(&share(&|p| p.female)));
        assert!((150..250).contains(&share(&|p| p.hospitals.1.is_some())));
        assert!((80..300).contains(&share(&|p| p.has(DIABETES, TODAY))), "diabetes");
        assert!((20..120).contains(&share(&|p| p.age(TODAY) >= 90)), "over 89");
        assert!(people.iter().all(|p| p.birth <= TODAY && p.hospitals.1 != Some(p.hospitals.0)));
        assert!(people.iter().all(|p| p.illnesses.iter().flatten().all(|d| *d >= p.birth)));
    }

    #[test]
    fn record_numbers_are_unique_within_a_hospital() {
        let records: Vec<Record> =
            (0..3000).map(|n| Person::new(5, n, (1, None)).record(5, 1, "SF")).collect();
        assert_eq!(records.iter().map(|r| &r.mrn).collect::<HashSet<_>>().len(), 3000);
        assert_eq!(records.iter().map(|r| &r.id).collect::<HashSet<_>>().len(), 3000);
        assert!(records.iter().all(|r| r.id.len() <= 64 && r.person_id < 0));
    }

    #[test]
    fn the_last_day_is_that_of_2025() {
        assert_eq!(TODAY.to_string(), "2025-12-31");
    }
}
