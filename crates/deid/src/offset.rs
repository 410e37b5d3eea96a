//! Date offsets: a keyed pseudo-random number of days, always backward, one for each subject.
//!
//! The offset at ingest depends on (subject, epoch), the further one at release on (project, subject), so that the dates
//! of two releases do not match each other. Structured data and text of one person take the same offset: intervals
//! between a person's dates stay exact.

use almoner_model::{ProjectId, SubjectId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The furthest that one application moves a date, in days.
pub const SHIFT_DAYS_MAX: u32 = 365;

/// The offset of a subject at ingest: −1 … −365 days. `key` is the key ring's `date-offset/v1`; a new `epoch` gives every
/// subject a new offset.
pub fn offset_days(key: &[u8; 32], subject: SubjectId, epoch: u32) -> i32 {
    prf(key, &[&subject.get().to_be_bytes(), &epoch.to_be_bytes()])
}

/// The further offset of a subject in the releases of one project: −1 … −365 days. `key` is `release-offset/v1`.
pub fn release_offset_days(key: &[u8; 32], project: &ProjectId, subject: SubjectId) -> i32 {
    prf(key, &[&subject.get().to_be_bytes(), project.as_str().as_bytes()])
}

/// HMAC-SHA256, its first 64 bits reduced to 1 … 365 (the bias of the reduction is below 2^-55), negated.
fn prf(key: &[u8; 32], parts: &[&[u8]]) -> i32 {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    let bytes = mac.finalize().into_bytes();
    let bits = bytes[..8].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    -((bits % u64::from(SHIFT_DAYS_MAX)) as i32) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: i64) -> SubjectId {
        SubjectId::new(id).expect("in range")
    }

    #[test]
    fn offsets_are_backward_and_use_the_whole_range() {
        let mut seen = [false; 366];
        for id in 1..20_000 {
            let days = offset_days(&[3; 32], subject(id), 0);
            assert!((-365..=-1).contains(&days));
            seen[days.unsigned_abs() as usize] = true;
        }
        assert_eq!(seen.iter().filter(|s| **s).count(), 365);
    }

    #[test]
    fn key_subject_epoch_and_project_each_matter() {
        let vector = |f: &dyn Fn(SubjectId) -> i32| (1..50).map(|i| f(subject(i))).collect::<Vec<_>>();
        let (a, b): (ProjectId, ProjectId) = ("a".parse().expect("slug"), "b".parse().expect("slug"));
        let base = vector(&|s| offset_days(&[1; 32], s, 0));
        assert_eq!(base, vector(&|s| offset_days(&[1; 32], s, 0)));
        assert_ne!(base, vector(&|s| offset_days(&[2; 32], s, 0)));
        assert_ne!(base, vector(&|s| offset_days(&[1; 32], s, 1)));
        assert_ne!(
            vector(&|s| release_offset_days(&[1; 32], &a, s)),
            vector(&|s| release_offset_days(&[1; 32], &b, s))
        );
    }

    /// Golden vector, computed with Python's `hmac`: a change would move the dates of every dataset.
    #[test]
    fn the_function_is_pinned() {
        assert_eq!(offset_days(&[1; 32], subject(42), 7), -163);
    }
}
