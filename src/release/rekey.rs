//! Keys of a release: every id column becomes another number for each (project, recipient).
//!
//! A keyed permutation of the whole numbers from 1 to 2^53 − 1 replaces ids, so two ids never become one, and no table of
//! given ids is kept: a Feistel network in the shape of NIST SP 800-38G's FF1 over binary numerals (halves of 26 and 27
//! bits, ten rounds) with AES-256 as round function; the tweak separates the id columns of different tables. The results
//! are exact in doubles (R, JavaScript). The same recipient gets the same pseudonym of a person in every release of the
//! project; two recipients' pseudonyms are unrelated without the key. Ids of rows are keyed for each release: dataset
//! versions number their rows anew, and a row of one release must not look like another row of the next.
//!
//! Also here: the further date offset of a project, chosen so that no two of up to 365 projects share a person's offset.

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::generic_array::GenericArray;
use aes_gcm::aes::cipher::{BlockEncrypt, KeyInit};
use almoner_model::{ProjectId, RecipientId, ReleaseId, SubjectId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::keys::{Keyring, label};

const LOW_BITS: u32 = 27;
const HIGH_BITS: u32 = 26;
const ROUNDS: u8 = 10;

/// Bits of an event id within its dataset; the dataset's place among the release's datasets stands above them.
const EVENT_BITS: u32 = 45;
/// Most datasets in a release.
pub const DATASETS_MAX: usize = 1 << (53 - EVENT_BITS);

/// The keyed permutation of one (project, recipient).
pub struct Rekey {
    people: Aes256,
    rows: Aes256,
}

/// Which ids: those of people, or those of the rows of one table (its index in `Tables`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// People.
    Person,
    /// Rows of a table.
    Table(usize),
}

/// An id that the permutation does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is outside what a release can carry")]
pub struct OutOfRange;

impl Rekey {
    /// Of a project and recipient, and for rows of a release.
    pub fn new(keys: &Keyring, project: &ProjectId, recipient: &RecipientId, release: &ReleaseId) -> Self {
        // Slugs have no space, so what is joined is unambiguous.
        let cipher = |scope: String| {
            let key = keys.scoped(label::RELEASE_PSEUDONYM, &scope);
            Aes256::new(GenericArray::from_slice(key.as_slice()))
        };
        let people = cipher(format!("{project} {recipient}"));
        Self { people, rows: cipher(format!("{project} {recipient} {release}")) }
    }

    /// The new id of `id`, from 1 to 2^53 − 1 both.
    ///
    /// # Errors
    /// [`OutOfRange`] if `id` is not in that range.
    pub fn id(&self, space: Space, id: i64) -> Result<i64, OutOfRange> {
        if !(1..SubjectId::LIMIT).contains(&id) {
            return Err(OutOfRange);
        }
        let (cipher, tweak) = match space {
            Space::Person => (&self.people, 0),
            Space::Table(index) => (&self.rows, index as u32 + 1),
        };
        let mut x = permute(cipher, tweak, id as u64);
        while x == 0 {
            x = permute(cipher, tweak, x);
        }
        Ok(x as i64)
    }
}

fn permute(cipher: &Aes256, tweak: u32, x: u64) -> u64 {
    let mut a = x >> LOW_BITS;
    let mut b = x & ((1 << LOW_BITS) - 1);
    for round in 0..ROUNDS {
        let bits = if round % 2 == 0 { HIGH_BITS } else { LOW_BITS };
        let mut block = GenericArray::from([0u8; 16]);
        block[0] = round;
        block[1..5].copy_from_slice(&tweak.to_be_bytes());
        block[8..].copy_from_slice(&b.to_be_bytes());
        cipher.encrypt_block(&mut block);
        let f = block[..8].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let c = a.wrapping_add(f) & ((1 << bits) - 1);
        (a, b) = (b, c);
    }
    a << LOW_BITS | b
}

/// An event id made distinct across the datasets of a release: `dataset` is its place in their sorted list.
///
/// # Errors
/// [`OutOfRange`] for an id that is not positive and below 2^45, or a place of 256 or more.
pub fn across_datasets(dataset: usize, event_id: i64) -> Result<i64, OutOfRange> {
    if !(1..1i64 << EVENT_BITS).contains(&event_id) || dataset >= DATASETS_MAX {
        return Err(OutOfRange);
    }
    Ok((dataset as i64) << EVENT_BITS | event_id)
}

/// The further offset of a person's dates in a project: −1 … −365 days. For one person it is a keyed permutation of the
/// 365 offsets, taken at the project's place in the order in which projects were created, so two projects give a person
/// the same offset only if their places differ by a multiple of 365.
pub fn offset_days(keys: &Keyring, project_ordinal: u64, subject: SubjectId) -> i32 {
    const DAYS: usize = 365;
    let key = keys.key(label::RELEASE_OFFSET);
    let mut order: [u16; DAYS] = std::array::from_fn(|i| i as u16);
    let wanted = (project_ordinal % DAYS as u64) as usize;
    let mut words = Words { key: &key, subject, block: 0, bytes: [0; 32], at: 32 };
    // Fisher–Yates from the front: positions up to the wanted one are final after its step.
    for i in 0..=wanted {
        let j = i + (words.next() % (DAYS - i) as u64) as usize;
        order.swap(i, j);
    }
    -i32::from(order[wanted]) - 1
}

/// A stream of pseudo-random 64-bit words: HMAC-SHA256 of (subject, counter).
struct Words<'a> {
    key: &'a [u8; 32],
    subject: SubjectId,
    block: u32,
    bytes: [u8; 32],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> u64 {
        if self.at == 32 {
            let mut mac =
                <Hmac<Sha256> as Mac>::new_from_slice(self.key).expect("HMAC takes keys of any length");
            mac.update(&self.subject.get().to_be_bytes());
            mac.update(&self.block.to_be_bytes());
            self.bytes = mac.finalize().into_bytes().into();
            (self.block, self.at) = (self.block + 1, 0);
        }
        let word = self.bytes[self.at..self.at + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        self.at += 8;
        word
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn keys() -> Keyring {
        Keyring::from_root(&[7; 32])
    }

    fn rekey(project: &str, recipient: &str) -> Rekey {
        of_release(project, recipient, "rel-1")
    }

    fn of_release(project: &str, recipient: &str, release: &str) -> Rekey {
        let (project, recipient) = (project.parse().expect("slug"), recipient.parse().expect("slug"));
        Rekey::new(&keys(), &project, &recipient, &release.parse().expect("slug"))
    }

    #[test]
    fn people_keep_their_ids_from_release_to_release_and_rows_do_not() {
        let (first, second) = (of_release("p", "r", "rel-1"), of_release("p", "r", "rel-2"));
        let ids = |rekey: &Rekey, space| -> BTreeSet<i64> {
            (1..2000).map(|id| rekey.id(space, id).expect("in range")).collect()
        };
        assert_eq!(ids(&first, Space::Person), ids(&second, Space::Person));
        assert!(ids(&first, Space::Table(1)).is_disjoint(&ids(&second, Space::Table(1))));
    }

    proptest! {
        #[test]
        fn ids_stay_apart_and_in_range(a in 1..SubjectId::LIMIT, b in 1..SubjectId::LIMIT) {
            let r = rekey("p", "r");
            let (x, y) = (r.id(Space::Person, a), r.id(Space::Person, b));
            prop_assert_eq!(x == y, a == b);
            prop_assert!((1..SubjectId::LIMIT).contains(&x.expect("in range")));
        }
    }

    #[test]
    fn neighbours_recipients_and_tables_are_unrelated() {
        let ids = |project, recipient, space| -> BTreeSet<i64> {
            let r = rekey(project, recipient);
            (1..2000).map(|id| r.id(space, id).expect("in range")).collect()
        };
        let base = ids("p", "r", Space::Person);
        assert_eq!(base.len(), 1999);
        for other in
            [ids("p", "s", Space::Person), ids("q", "r", Space::Person), ids("p", "r", Space::Table(0))]
        {
            assert!(base.is_disjoint(&other));
        }
        let upper_half = base.iter().filter(|id| **id >= 1 << 52).count();
        assert!((800..1200).contains(&upper_half), "small ids spread over the whole range: {upper_half}");
        let r = rekey("p", "r");
        assert_eq!(
            (r.id(Space::Person, 0), r.id(Space::Person, SubjectId::LIMIT)),
            (Err(OutOfRange), Err(OutOfRange))
        );
    }

    #[test]
    fn no_two_of_365_projects_share_a_persons_offset() {
        for id in [1, 77, 9_000_000_001] {
            let subject = SubjectId::new(id).expect("in range");
            let offsets: BTreeSet<i32> = (0..365).map(|p| offset_days(&keys(), p, subject)).collect();
            assert_eq!((offsets.len(), offsets.first(), offsets.last()), (365, Some(&-365), Some(&-1)));
        }
        let of = |id| offset_days(&keys(), 3, SubjectId::new(id).expect("in range"));
        let spread: BTreeSet<i32> = (1..3000).map(of).collect();
        assert!(spread.len() > 360, "offsets of one project use the whole range");
    }

    #[test]
    fn event_ids_of_two_datasets_stay_apart() {
        assert_ne!(across_datasets(0, 5), across_datasets(1, 5));
        assert_eq!(across_datasets(0, 0), Err(OutOfRange));
        assert_eq!(across_datasets(256, 1), Err(OutOfRange));
        assert!(across_datasets(255, (1 << 45) - 1).expect("fits") < SubjectId::LIMIT);
    }
}
