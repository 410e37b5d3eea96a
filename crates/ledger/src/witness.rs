//! What a witness answers (C2SP tlog-witness § add-checkpoint): a pure function of the request, the logs that it knows and
//! the checkpoint that it cosigned last.
//!
//! A request is `old <size>`, up to 63 lines of a consistency proof in base64, an empty line, and the signed checkpoint.
//! The checks stand in the order of the specification:
//!
//! | answer | when |
//! |---|---|
//! | 400 | the body is not in the format; the old size is larger than the checkpoint's |
//! | 404 | no log of that origin is known |
//! | 403 | no signature by a known key of that log fits |
//! | 409, `text/x.tlog.size` and the size | the old size is not the one cosigned last; or sizes are equal and roots are not |
//! | 422 | the consistency proof does not verify |
//! | 200, cosignature lines | else, once the checkpoint is recorded |
//!
//! Whoever runs it holds one lock per log from [`Submission::decide`] until the new checkpoint is durable; without that two
//! requests can roll a log back.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::cosignature::split;
use crate::fork::prefix_root;
use crate::note::VerifierKey;
use crate::proof::check_consistency;
use crate::tree::{EMPTY_ROOT, Hash};

/// Longest request that is read, in bytes: 63 hashes, and a note with many signatures.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Media type of an answer that tells the size cosigned last.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// Most lines of a proof.
const PROOF_MAX: usize = 63;

/// A request to cosign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The size that the witness cosigned last, as far as the client knows.
    pub old: u64,
    /// Proof that the log of that size is the beginning of the checkpoint's.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: Vec<u8>,
}

impl Request {
    /// The body of the request.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("old {}\n", self.old);
        for hash in &self.proof {
            head += &BASE64_STANDARD.encode(hash);
            head.push('\n');
        }
        head.push('\n');
        [head.as_bytes(), &self.note].concat()
    }

    /// Reads a body; `None` if it is not in the format.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let at = body.windows(2).position(|two| two == b"\n\n")?;
        let (head, note) = (std::str::from_utf8(&body[..at]).ok()?, &body[at + 2..]);
        let mut lines = head.split('\n');
        let old = size(lines.next()?.strip_prefix("old ")?)?;
        let hash = |line: &str| BASE64_STANDARD.decode(line).ok()?.try_into().ok();
        let proof = lines.map(hash).collect::<Option<Vec<Hash>>>()?;
        (proof.len() <= PROOF_MAX).then(|| Self { old, proof, note: note.to_vec() })
    }
}

/// A size in decimal digits without leading zeroes, at most 2⁶³ − 1; `None` if it is none.
pub fn size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text && size <= i64::MAX.unsigned_abs()).then_some(size)
}

/// The logs that a witness knows: for each origin the keys that may sign for it.
#[derive(Clone, Default, Debug)]
pub struct Logs(BTreeMap<String, Vec<VerifierKey>>);

impl Logs {
    /// Those of these keys; a log may have several.
    pub fn new(keys: impl IntoIterator<Item = VerifierKey>) -> Self {
        let mut logs = Self::default();
        for key in keys {
            let of_log = logs.0.entry(key.name().to_owned()).or_default();
            if of_log.iter().all(|known| known.line() != key.line()) {
                of_log.push(key);
            }
        }
        logs
    }

    /// Their origins, in order.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The keys of a log.
    pub fn keys(&self, origin: &str) -> &[VerifierKey] {
        self.0.get(origin).map_or(&[], Vec::as_slice)
    }

    /// Opens a checkpoint that a known key of its log signed. In the note only the signatures of such keys are left.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], [`Refusal::UnknownLog`], [`Refusal::Untrusted`].
    pub fn open(&self, note: &[u8]) -> Result<SignedCheckpoint, Refusal> {
        let (text, _) = split(note).map_err(|_| Refusal::Malformed)?;
        let stated = Checkpoint::parse(text).ok_or(Refusal::Malformed)?;
        let keys = self.0.get(&stated.origin).ok_or(Refusal::UnknownLog)?;
        let lines: String = keys.iter().filter_map(|key| key.signature_line(note)).collect();
        if lines.is_empty() {
            return Err(Refusal::Untrusted);
        }
        Ok(SignedCheckpoint { checkpoint: stated, note: format!("{text}\n{lines}").into_bytes() })
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Not in the format.
    #[error("the request is not in the format of c2sp.org/tlog-witness")]
    Malformed,
    /// The old size is larger than the checkpoint's.
    #[error("the old size is larger than the checkpoint's")]
    Backwards,
    /// No such log.
    #[error("the log is not one that this witness knows")]
    UnknownLog,
    /// No signature by a known key.
    #[error("no key of the log that this witness knows signed the checkpoint")]
    Untrusted,
    /// The old size is not the one cosigned last.
    #[error("the size cosigned last is {size}")]
    OtherSize {
        /// The size cosigned last; 0 if none was.
        size: u64,
        /// What the request shows all the same.
        shows: Option<Suspicion>,
    },
    /// Of this size another root was cosigned: the log forked.
    #[error("another root was cosigned for {size} entries")]
    OtherRoot {
        /// The size.
        size: u64,
    },
    /// The proof does not lead from the checkpoint cosigned last to this one.
    #[error("the consistency proof does not verify")]
    BadProof {
        /// What the request shows all the same.
        shows: Option<Suspicion>,
    },
}

/// What a refused request tells about its log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suspicion {
    /// The log signed two histories: proven by the two checkpoints and the proof.
    Forked,
    /// The log signed a checkpoint for which no proof was found: it may have forked, or whoever sent it made the proof up.
    Unproven,
    /// The log signed fewer entries than were cosigned: it may have been rolled back, or an old checkpoint was sent again.
    Smaller,
}

impl Refusal {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed | Self::Backwards => 400,
            Self::Untrusted => 403,
            Self::UnknownLog => 404,
            Self::OtherSize { .. } | Self::OtherRoot { .. } => 409,
            Self::BadProof { .. } => 422,
        }
    }

    /// The size that the answer tells as [`SIZE_MEDIA_TYPE`], with a 409.
    pub const fn size(&self) -> Option<u64> {
        match self {
            Self::OtherSize { size, .. } | Self::OtherRoot { size } => Some(*size),
            _ => None,
        }
    }

    /// What it tells about the log, if its request is to be kept.
    pub const fn shows(&self) -> Option<Suspicion> {
        match self {
            Self::OtherSize { shows, .. } | Self::BadProof { shows } => *shows,
            Self::OtherRoot { .. } => Some(Suspicion::Forked),
            _ => None,
        }
    }
}

/// A request that is well formed and signed by its log; what the answer is depends on what was cosigned last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The size that the client says was cosigned last.
    pub old: u64,
    /// Its proof.
    pub proof: Vec<Hash>,
    /// The checkpoint, opened.
    pub signed: SignedCheckpoint,
}

impl Submission {
    /// Reads a body and checks everything that does not depend on what was cosigned.
    ///
    /// # Errors
    /// [`Refusal`] with the status 400, 403 or 404.
    pub fn read(body: &[u8], logs: &Logs) -> Result<Self, Refusal> {
        let Request { old, proof, note } = Request::parse(body).ok_or(Refusal::Malformed)?;
        let signed = logs.open(&note)?;
        match signed.checkpoint.size {
            size if size > i64::MAX.unsigned_abs() => Err(Refusal::Malformed),
            size if old > size => Err(Refusal::Backwards),
            _ => Ok(Self { old, proof, signed }),
        }
    }

    /// Whether it may be cosigned by a witness that cosigned `latest` of this log last.
    ///
    /// # Errors
    /// [`Refusal`] with the status 409 or 422.
    pub fn decide(&self, latest: Option<&Checkpoint>) -> Result<(), Refusal> {
        let new = &self.signed.checkpoint;
        let last = latest.map_or(0, |latest| latest.size);
        if self.old != last {
            let shows = latest.and_then(|latest| match (new.size == latest.size, new.size < latest.size) {
                (true, _) => (new.root != latest.root).then_some(Suspicion::Forked),
                (_, smaller) => smaller.then_some(Suspicion::Smaller),
            });
            return Err(Refusal::OtherSize { size: last, shows });
        }
        if let Some(latest) = latest.filter(|latest| latest.size == new.size) {
            return match (latest.root == new.root, self.proof.is_empty()) {
                (false, _) => Err(Refusal::OtherRoot { size: last }),
                (true, false) => Err(Refusal::BadProof { shows: None }),
                (true, true) => Ok(()),
            };
        }
        let old_root = latest.map_or(EMPTY_ROOT, |latest| latest.root);
        if last == 0 {
            // The empty tree is the beginning of every tree, and has one root.
            let fits = self.proof.is_empty() && (new.size > 0 || new.root == EMPTY_ROOT);
            return if fits { Ok(()) } else { Err(Refusal::BadProof { shows: None }) };
        }
        check_consistency(last, new.size, &old_root, &new.root, &self.proof).map_err(|_| {
            let other = prefix_root(last, new.size, &new.root, &self.proof);
            let forked = other.is_some_and(|other| other != old_root);
            let shows = if forked { Suspicion::Forked } else { Suspicion::Unproven };
            Refusal::BadProof { shows: Some(shows) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::Fork;
    use crate::testing::Tree;
    use crate::{LogKey, cosignature::attach};

    struct World {
        log: LogKey,
        real: Tree,
        /// As `real` up to 5 leaves, then another.
        forked: Tree,
        logs: Logs,
    }

    fn world() -> World {
        let log = LogKey::new("log.example/a", &[1; 32]).expect("a name");
        let key = VerifierKey::parse(&log.vkey()).expect("a key");
        World { log, real: Tree::of(0, 12), forked: Tree::forked(0, 5, 12), logs: Logs::new([key]) }
    }

    impl World {
        fn note(&self, tree: &Tree, size: u64) -> SignedCheckpoint {
            tree.checkpoint(self.log.name(), size).sign(&self.log).expect("signs")
        }

        /// What a witness that cosigned `latest` entries of the real log answers.
        fn answer(&self, latest: Option<u64>, request: &Request) -> Result<(), Refusal> {
            let latest = latest.map(|size| self.real.checkpoint(self.log.name(), size));
            Submission::read(&request.to_bytes(), &self.logs)?.decide(latest.as_ref())
        }
    }

    fn request(old: u64, tree: &Tree, signed: &SignedCheckpoint) -> Request {
        let size = signed.checkpoint.size;
        let proof = if old == 0 || old >= size { Vec::new() } else { tree.consistency(old, size) };
        Request { old, proof, note: signed.note.clone() }
    }

    #[test]
    fn the_status_table_of_the_specification() {
        let w = world();
        let real = |old: u64, size: u64| request(old, &w.real, &w.note(&w.real, size));
        let fork = |old: u64, size: u64| request(old, &w.forked, &w.note(&w.forked, size));
        let sent = |latest: Option<u64>, request: &Request| match w.answer(latest, request) {
            Ok(()) => (200, None, None),
            Err(refusal) => (refusal.status(), refusal.size(), refusal.shows()),
        };
        let with = |mut request: Request, proof: &[Hash]| {
            request.proof = proof.to_vec();
            request
        };
        use Suspicion::{Forked, Smaller, Unproven};
        for (what, latest, request, expected) in [
            ("first contact", None, real(0, 7), (200, None, None)),
            ("the empty log", None, real(0, 0), (200, None, None)),
            ("from the empty log", Some(0), real(0, 7), (200, None, None)),
            ("growth", Some(7), real(7, 10), (200, None, None)),
            ("from a power of two", Some(4), real(4, 10), (200, None, None)),
            ("the same again", Some(7), real(7, 7), (200, None, None)),
            ("first contact with an old size", None, real(3, 7), (409, Some(0), None)),
            ("an old size that was passed", Some(7), real(5, 10), (409, Some(7), None)),
            ("no old size", Some(7), real(0, 10), (409, Some(7), None)),
            ("rolled back", Some(10), real(7, 7), (409, Some(10), Some(Smaller))),
            ("another root of that size", Some(10), fork(10, 10), (409, Some(10), Some(Forked))),
            ("the same by another old size", Some(10), fork(4, 10), (409, Some(10), Some(Forked))),
            ("a fork that grew", Some(10), fork(10, 12), (422, None, Some(Forked))),
            ("a fork from a power of two", Some(8), fork(8, 12), (422, None, Some(Unproven))),
            ("no proof", Some(7), with(real(7, 10), &[]), (422, None, Some(Unproven))),
            ("a made-up proof", Some(7), with(real(7, 10), &[[9; 32]; 4]), (422, None, Some(Unproven))),
            ("a proof of nothing", None, with(real(0, 7), &[[9; 32]]), (422, None, None)),
            ("a proof of the same", Some(7), with(real(7, 7), &[[9; 32]]), (422, None, None)),
            ("an old size beyond", Some(7), with(real(8, 7), &[]), (400, None, None)),
        ] {
            assert_eq!(sent(latest, &request), expected, "{what}");
        }
        let rootless = Checkpoint { origin: w.log.name().into(), size: 0, root: [5; 32] };
        let rootless = rootless.sign(&w.log).expect("signs");
        let request = Request { old: 0, proof: vec![], note: rootless.note };
        assert_eq!(sent(None, &request).0, 422, "an empty log with a root");
    }

    #[test]
    fn who_signed_is_asked_before_what_was_cosigned() {
        let w = world();
        let signed = w.note(&w.real, 7);
        let stranger = LogKey::new("log.example/a", &[2; 32]).expect("a name");
        let forged = w.real.checkpoint("log.example/a", 7).sign(&stranger).expect("signs");
        let status = |note: &[u8]| {
            w.answer(Some(3), &Request { old: 9, proof: vec![], note: note.to_vec() })
                .expect_err("refused")
                .status()
        };
        assert_eq!(status(&forged.note), 403);
        assert_eq!(status(&signed.note), 400, "known and signed, but the old size is beyond");
        let other = LogKey::new("log.example/b", &[1; 32]).expect("a name");
        assert_eq!(status(&w.real.checkpoint("log.example/b", 7).sign(&other).expect("signs").note), 404);
        // A signature by an unknown key beside the log's is passed over; a bad one by the log's is not.
        let beside =
            forged.note[forged.note.windows(2).position(|t| t == b"\n\n").expect("a note") + 2..].to_vec();
        let both = attach(&signed.note, [std::str::from_utf8(&beside).expect("text")]).expect("a note");
        assert_eq!(w.logs.open(&both).expect("known").note, signed.note);
        let proof = w.real.consistency(3, 7);
        assert_eq!(w.answer(Some(3), &Request { old: 3, proof: proof.clone(), note: both }), Ok(()));
        let text = String::from_utf8(signed.note.clone()).expect("text");
        let changed = text.replace("\n7\n", "\n8\n").into_bytes();
        assert_eq!(w.answer(Some(3), &Request { old: 3, proof, note: changed }), Err(Refusal::Untrusted));
        // A log may have two keys.
        let two = [w.log.vkey(), stranger.vkey()].map(|k| VerifierKey::parse(&k).expect("a key"));
        let logs = Logs::new(two);
        let request = Request { old: 0, proof: vec![], note: forged.note };
        assert!(Submission::read(&request.to_bytes(), &logs).is_ok());
        assert_eq!((logs.origins().count(), logs.keys("log.example/a").len()), (1, 2));
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        let w = world();
        let good = request(3, &w.real, &w.note(&w.real, 7));
        assert_eq!(Request::parse(&good.to_bytes()), Some(good.clone()));
        let text = String::from_utf8(good.to_bytes()).expect("text");
        let first = text.lines().nth(1).expect("a hash");
        for bad in [
            String::new(),
            "garbage".into(),
            text.replacen("old 3", "old 03", 1),
            text.replacen("old 3", "old +3", 1),
            text.replacen("old 3", "old -3", 1),
            text.replacen("old 3", "old 9223372036854775808", 1),
            text.replacen("old 3", "Old 3", 1),
            text.replacen("old 3\n", "", 1),
            text.replacen("old 3\n", "old 3\r\n", 1),
            text.replacen(first, "AAAA", 1),
            text.replacen(first, &first.replace('=', ""), 1),
            text.replacen(first, &format!(" {first}"), 1),
            text.replacen(first, &vec![first; 64].join("\n"), 1),
            text.trim_end().to_owned(),
            text.split("\n\n").take(2).collect::<Vec<_>>().join("\n\n"),
            text.replacen("\n7\n", "\n07\n", 1),
        ] {
            assert_eq!(Submission::read(bad.as_bytes(), &w.logs), Err(Refusal::Malformed), "{bad}");
        }
        let many = text.replacen(first, &vec![first; 60].join("\n"), 1);
        assert!(Submission::read(many.as_bytes(), &w.logs).is_ok(), "63 lines and less are read");
    }

    #[test]
    fn a_failed_proof_is_evidence_where_it_shows_the_other_beginning() {
        let w = world();
        let key = VerifierKey::parse(&w.log.vkey()).expect("a key");
        for old in 1..12 {
            for size in old + 1..=12 {
                let (first, second) = (w.note(&w.real, old), w.note(&w.forked, size));
                let request = request(old, &w.forked, &second);
                let refused = w.answer(Some(old), &request);
                if old <= 5 {
                    assert_eq!(refused, Ok(()), "{old} {size}: the same beginning");
                    continue;
                }
                let told = prefix_root(old, size, &second.checkpoint.root, &request.proof);
                let fork = Fork::new("", &first.note, &second.note, told, &request.proof);
                let shown = Fork::parse(&fork.to_bytes()).expect("reads").check(&key);
                let shows = refused.expect_err("a fork").shows();
                assert_eq!(shows == Some(Suspicion::Forked), shown.is_ok(), "{old} {size}");
                assert_eq!(old.is_power_of_two(), shown.is_err(), "{old} {size}");
            }
        }
    }
}
