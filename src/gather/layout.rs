//! The bucket of a person: leading bits of HMAC-SHA256 (RFC 2104) of the subject id under the layout key.
//!
//! Part of the arrow `gather → dataset`. As many bits as the size of the data needs, so that one bucket is a comfortable
//! piece of work in memory; because they are *leading* bits, the buckets of datasets with different bits nest. The key is
//! the same for all datasets of an exchange and never leaves it, so that a bucket number says nothing about a person.
//!
//! An export of changes keeps the bits of the version that it continues, whose files it takes over by bucket: a dataset
//! that grows by changes alone has buckets that grow with it. The next whole export chooses the bits anew.

use almoner_model::SubjectId;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// More buckets than this would be more files than anyone wants.
pub const BITS_MAX: u8 = 12;
/// Bytes of export (uncompressed) that make one bucket.
const BYTES_PER_BUCKET: u64 = 64 << 20;

/// How people are spread over buckets.
#[derive(Clone)]
pub struct Layout {
    mac: Hmac<Sha256>,
    bits: u8,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layout({} bits)", self.bits)
    }
}

impl Layout {
    /// A layout of `2^bits` buckets; bits above `BITS_MAX` are cut to it.
    pub fn new(key: &[u8; 32], bits: u8) -> Self {
        let mac =
            <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §2)");
        Self { mac, bits: bits.min(BITS_MAX) }
    }

    /// As many bits as an export of `bytes` (uncompressed) needs.
    pub fn bits_for(bytes: u64) -> u8 {
        let buckets = bytes.div_ceil(BYTES_PER_BUCKET).max(1).next_power_of_two();
        (buckets.trailing_zeros() as u8).min(BITS_MAX)
    }

    /// The number of leading bits.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of buckets.
    pub const fn buckets(&self) -> u32 {
        1 << self.bits
    }

    /// The bucket of a person.
    pub fn bucket(&self, subject: SubjectId) -> u32 {
        let mut mac = self.mac.clone();
        mac.update(&subject.get().to_be_bytes());
        let digest = mac.finalize().into_bytes();
        let leading = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        leading.checked_shr(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// The part of all records that the one with this row key is in, as many as there are buckets. The key is a keyed hash.
    pub(super) fn part(&self, row_key: u64) -> u32 {
        ((row_key >> 32) as u32).checked_shr(32 - u32::from(self.bits)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_nest() {
        let key = [7; 32];
        for id in 1..200 {
            let subject = SubjectId::new(id).expect("in range");
            let fine = Layout::new(&key, 6).bucket(subject);
            assert_eq!(fine >> 4, Layout::new(&key, 2).bucket(subject));
            assert_eq!(Layout::new(&key, 0).bucket(subject), 0);
            assert!(fine < 64);
        }
    }

    #[test]
    fn people_are_spread_evenly() {
        let layout = Layout::new(&[1; 32], 3);
        let mut seen = [0; 8];
        for id in 1..=8000 {
            seen[layout.bucket(SubjectId::new(id).expect("in range")) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
    }

    #[test]
    fn bits_follow_the_size() {
        assert_eq!((Layout::bits_for(0), Layout::bits_for(64 << 20), Layout::bits_for(65 << 20)), (0, 0, 1));
        assert_eq!((Layout::bits_for(4 << 30), Layout::bits_for(u64::MAX / 2)), (6, BITS_MAX));
    }
}
