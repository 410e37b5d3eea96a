//! Counts: how many permitted people meet a definition. Protected, logged before it is said.
//!
//! Protection, the same for everyone and said with every answer:
//! - an answer of its own is the number of people, moved by up to 3 by a keyed function of *who* is counted and rounded to a
//!   multiple of 5: the same people always give the same answer, so asking again or otherwise does not average it away;
//! - for a recipient, in whichever of its projects, a cohort that differs from one that had an answer of its own by fewer than
//!   its *edge* gets that answer, so two counts cannot be subtracted to see a few. The edge lies from [`SMALLEST_CELL`] to
//!   [`FEW`], by a keyed function of who is counted: where an answer is another's ends softly, so that whoever adds people
//!   they know to a cohort until it ends does not learn of one person by it;
//! - nobody at all is a cohort that everyone has counted: fewer than the edge are told as "fewer than [`FEW`]", by the same
//!   rule. Of several cohorts that are near, the one that was answered first counts, not the nearest: which is nearer would
//!   be a sharp edge again;
//! - a recipient gets [`NEW_MAX`] answers to new questions in [`WINDOW_DAYS`] days, since each soft edge tells a little.
//!   What is new depends on what was asked alone, never on who was found.
//!
//! What is kept of an answer of its own is how many there were and a sketch of keyed hashes, not a list.
//!
//! Counts of one recipient follow one another: an answer is made with all earlier ones known, and appended with the
//! precondition that no other came in between. Its sketch is written before the append under the act's own event id, and
//! counts only once that event is in the ledger: a crash in between leaves a sketch that nobody looks at.

use std::collections::{BTreeMap, BTreeSet};

use almoner_control::judge::Counting;
use almoner_model::{
    ContributorId, DatasetId, Digest, Duo, ProjectId, RecipientId, Seq, SubjectId, Timestamp,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::SipHasher24;

use super::Act;
use super::access::{AccessContext, AccessError, entry};
use super::decide::{last_of_day, may_count};
use super::meanwhile::{Then, append_unless_less_is_permitted, decided};
use super::permitted::{PermittedSubjects, permitted_subjects};
use super::question::{DataContext, DataError, Question};
use crate::cohort::execute;
use crate::consent::{CategorySet, Purpose, Use};
use crate::events::{CountAnswered, Event};
use crate::keys::{Keyring, label};
use crate::request::is_purpose;
use crate::state::{read, topic};
use crate::store::{Precondition, StoreError, Write};

/// Fewer people than this are never told apart: the least edge.
pub const SMALLEST_CELL: u64 = 11;
/// What fewer than the edge are told as: no edge is greater.
pub const FEW: u64 = 25;
/// The edge is [`SMALLEST_CELL`] and three numbers from 0 to below these, so that its ends are rare.
const EDGE: [u64; 3] = [5, 5, 7];
/// The greatest shift before rounding.
const NOISE_MAX: i64 = 3;
/// What answers are rounded to.
const ROUND: i64 = 5;
/// The greatest difference from the true number: the noise, the rounding, and fewer than the greatest edge of other people.
const ERROR_MAX: u64 = NOISE_MAX as u64 + ROUND as u64 / 2 + FEW - 1;
/// New questions that a recipient has answered in [`WINDOW_DAYS`].
pub const NEW_MAX: u64 = 300;
/// Days for which [`NEW_MAX`] holds.
pub const WINDOW_DAYS: i64 = 30;
/// Cells of a sketch.
const CELLS: usize = 256;
/// Kind of the primary records that hold sketches, by recipient and event id.
const KIND: &str = "count-sketch";
/// Scope of the key of the digest that the ledger has of an answer.
const ANSWER: &str = "answer";

/// A question.
#[derive(Clone, Debug)]
pub struct CountRequest {
    /// For which project.
    pub project: ProjectId,
    /// What for.
    pub purpose: Duo,
    /// What the user binds itself to.
    pub modifiers: Vec<Duo>,
    /// The definition's exact bytes.
    pub definition: Vec<u8>,
    /// In which datasets, in order of precedence.
    pub datasets: Vec<DatasetId>,
}

/// A protected number of people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Fewer than this, possibly none.
    FewerThan(u64),
    /// About this many.
    About(u64),
}

/// How an answer was protected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Protection {
    /// Fewer people than this are never told apart, and up to 14 more sometimes are not.
    pub smallest_cell: u64,
    /// The greatest difference of "about" from the true number, answers of cohorts counted before included.
    pub error_max: u64,
    /// The same in words.
    pub how: &'static str,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CountAnswer {
    /// How many.
    pub count: Shown,
    /// How that was protected.
    pub protection: Protection,
    /// Which dataset versions were read.
    pub datasets: BTreeMap<DatasetId, u32>,
    /// Digest of the definition.
    pub cohort: Digest,
    /// Where nobody or not everybody is permitted: why, each a sentence.
    pub reasons: Vec<String>,
    /// What the datasets answer only nearly (ages, codes in another form), each a sentence.
    pub notes: Vec<String>,
    /// Ledger size that consent was evaluated at.
    pub as_of: Seq,
    /// The answer's own ledger entry.
    pub seq: Seq,
}

const HOW: &str = "A number is moved by up to 3 by a keyed function of who is counted, and rounded to a multiple of 5; the \
    same people always give the same answer. A cohort that differs from one counted before for this recipient by a few people \
    gets that one's answer, and a cohort of a few is told as 'fewer than 25': a few is fewer than 11 to 25, by a keyed \
    function of who is counted. So a number is up to 29 from the true one, mostly up to 5. A recipient has 300 new questions \
    answered in 30 days.";

/// How often an answer is protected again because the recipient had another meanwhile.
const TURNS: usize = 64;

/// Answers a count.
///
/// # Errors
/// [`DataError::Definition`] if it cannot be answered as asked; refusals by house rules and contracts; an unknown project.
pub fn count(ctx: &DataContext<'_>, act: &Act, request: &CountRequest) -> Result<CountAnswer, DataError> {
    let _still = ctx.catalog.still();
    let act = &ctx.access.unused(act)?;
    decided(|| attempt(ctx, act, request))
}

fn attempt(ctx: &DataContext<'_>, act: &Act, request: &CountRequest) -> Result<CountAnswer, DataError> {
    if !is_purpose(request.purpose) {
        return Err(AccessError::invalid("/purpose", "not a purpose of research").into());
    }
    let state = ctx.access.state();
    let project =
        read::project(&state, &request.project)?.ok_or(super::access::AccessError::Unknown("project"))?;
    let (looked, now) = (ctx.access.store.size(), ctx.access.now()?);
    let question = Question::new(ctx, &request.definition, &request.datasets)?;
    let recipient = &project.body.recipient;
    let contributors = question.contributors();
    let rules = may_count(
        &ctx.access,
        Counting {
            project: &request.project,
            recipient,
            purpose: request.purpose,
            modifiers: &request.modifiers,
            contributors: &contributors,
        },
        now,
    )?;
    let wanted = Use {
        purpose: Purpose::of(request.purpose, request.modifiers.iter().copied()),
        recipient: recipient.clone(),
        project: request.project.clone(),
        required: question.categories()?,
        delivered: CategorySet::EMPTY,
        at: now,
    };
    let permitted = permitted_subjects(&ctx.access, &wanted, &request.datasets, None)?;
    let found =
        execute::run(&question.plan, &question.sources, &question.permitted(&permitted), ctx.offset_days)?;
    let members: Vec<i64> = found.members.iter().map(|m| m.subject).collect();
    let reasons = if permitted.is_empty() { permitted.explanation() } else { Vec::new() };
    let cohort = ctx.access.documents.put(&request.definition).map_err(DataError::failed)?;
    let mut answer = CountAnswer {
        count: Shown::FewerThan(FEW),
        protection: Protection { smallest_cell: SMALLEST_CELL, error_max: ERROR_MAX, how: HOW },
        datasets: question.version_numbers(),
        cohort,
        reasons,
        notes: question.plan.notes.clone(),
        as_of: permitted.as_of,
        seq: 0,
    };
    let asked = Asked {
        request,
        wanted: &wanted,
        contributors: &contributors,
        house: rules.policies().get("house").copied(),
        looked,
        permitted: &permitted,
        members: &members,
    };
    let question = asked.question(&answer)?;
    (answer.count, answer.seq) = say(ctx, act, (recipient, question), &members, &|count, as_of| {
        asked.log(ctx, act, count, &answer, as_of)
    })?;
    Ok(answer)
}

/// Protects the number of `members`, ascending, and logs it by `log`, which is given the answer and the ledger size that the
/// recipient's earlier answers were read at. `question` stands for what was asked. Gives the answer and its position.
///
/// # Errors
/// Those of `log`; [`DataError::Counts`] if too much that is new was asked for the recipient; a conflict if so much is asked
/// for it at once that its turn does not come.
pub(super) fn say(
    ctx: &DataContext<'_>,
    act: &Act,
    (recipient, question): (&RecipientId, Digest),
    members: &[i64],
    log: &dyn Fn(Shown, Seq) -> Result<Seq, DataError>,
) -> Result<(Shown, Seq), DataError> {
    let own = act.event_id(0);
    let (protected, sketch) = (Protected::of(ctx.keys, members), Sketch::of(ctx.keys, members));
    for _ in 0..TURNS {
        let as_of = ctx.access.store.size();
        let now = ctx.access.now()?;
        let near = first_near(ctx, recipient, &own, (&protected, &sketch), (question, now))?;
        let origin = || Origin { sketch: sketch.clone(), persons: members.len() };
        let (count, origin) = match near {
            _ if protected.is_few() => (Shown::FewerThan(FEW), None),
            Some(count) => (count, None),
            None => (protected.shown, Some(origin())),
        };
        let kept = Counted { count, origin, question, at: now };
        let key = format!("{recipient}/{own}");
        ctx.access.store.put_primary(vec![Write { kind: KIND.into(), key, value: Some(kept.json()) }])?;
        match log(count, as_of) {
            Err(DataError::Access(AccessError::Store(StoreError::Precondition { topic, .. })))
                if topic == topic::counts(recipient) => {}
            other => return Ok((count, other?)),
        }
    }
    Err(AccessError::Conflict("many counts are asked for this recipient at once; count again".into()).into())
}

/// What was answered by the entry at `seq`.
///
/// # Errors
/// If the store fails.
pub fn answered(
    ctx: &AccessContext<'_>,
    recipient: &RecipientId,
    seq: Seq,
) -> Result<Option<Shown>, AccessError> {
    let Some(entry) = ctx.store.entry(seq)? else { return Ok(None) };
    let kept = ctx.store.get_primary(KIND, &format!("{recipient}/{}", entry.leaf.event_id))?;
    Ok(kept.and_then(|value| Counted::read(&value)).map(|counted| counted.count))
}

/// What was counted, for the entry.
struct Asked<'a> {
    request: &'a CountRequest,
    wanted: &'a Use,
    contributors: &'a [ContributorId],
    /// Ledger size at which the datasets were looked up.
    /// The house rules that let it be counted.
    house: Option<Digest>,
    looked: Seq,
    permitted: &'a PermittedSubjects,
    /// Who is counted, ascending.
    members: &'a [i64],
}

impl Asked<'_> {
    /// Stands for what was asked: of the same data, for the same, the same question.
    fn question(&self, answer: &CountAnswer) -> Result<Digest, DataError> {
        let request = self.request;
        let asked = (&request.project, request.purpose, &request.modifiers, answer.cohort, &answer.datasets);
        let bytes = serde_json::to_vec(&asked).map_err(|_| DataError::failed("a question is not JSON"))?;
        Ok(Digest::of(bytes))
    }

    /// Logs the answer; durable on return. Gives its position. `as_of` is the size at which the
    /// recipient's earlier answers were read. Whoever permits less since the data was read is not counted, and a rule that
    /// changed is asked again.
    fn log(
        &self,
        ctx: &DataContext<'_>,
        act: &Act,
        count: Shown,
        answer: &CountAnswer,
        as_of: Seq,
    ) -> Result<Seq, DataError> {
        let (request, decided) = (self.request, answer.as_of);
        let own = act.event_id(0);
        let said = serde_json::to_vec(&(&own, count, &answer.datasets, answer.cohort, decided));
        let said = said.map_err(|_| DataError::failed("an answer is not JSON"))?;
        let event = Event::CountAnswered(CountAnswered {
            project: request.project.clone(),
            purpose: request.purpose,
            modifiers: request.modifiers.clone(),
            required: self.wanted.required,
            cohort: answer.cohort,
            datasets: answer.datasets.clone(),
            // There are few answers: a digest without a key would tell which it was.
            answer: Digest(hmac(ctx.keys.scoped(label::COUNT_NOISE, ANSWER).as_slice(), &said)),
            as_of: decided,
        });
        let counts = topic::counts(&self.wanted.recipient);
        let mut new = entry(&event, own, act, None, vec![topic::project(&request.project), counts.clone()])?;
        new.as_of = Some(decided);
        new.until = Some(last_of_day(self.wanted.at));
        new.policy = self.house;
        new.decision = Some("answered".into());
        let mut unchanged = vec![Precondition { topic: counts, as_of }];
        let rules = self.contributors.iter().map(topic::contributor).chain([topic::ERASED.to_owned()]);
        unchanged.extend(rules.map(|topic| Precondition { topic, as_of: decided }));
        let data = answer.datasets.keys().map(topic::dataset);
        unchanged.extend(data.map(|topic| Precondition { topic, as_of: self.looked }));
        let counted =
            |ids: &BTreeSet<SubjectId>| ids.iter().any(|id| self.members.binary_search(&id.get()).is_ok());
        let (wanted, holders, aliases) = (self.wanted, self.contributors, &self.permitted.aliases);
        let then = Then { wanted, holders, as_of: decided, aliases };
        append_unless_less_is_permitted(&ctx.access, &new, &unchanged, then, counted)
    }
}

/// Of the cohorts that were counted for the recipient by earlier acts than `own`, had an answer of their own and are near,
/// the answer of the first.
///
/// # Errors
/// [`DataError::Counts`] if the question is new and too many were new; if the store fails.
fn first_near(
    ctx: &DataContext<'_>,
    recipient: &RecipientId,
    own: &str,
    (protected, sketch): (&Protected, &Sketch),
    (question, now): (Digest, Timestamp),
) -> Result<Option<Shown>, DataError> {
    let window = now.millis() - WINDOW_DAYS * 86_400_000;
    let prefix = format!("{recipient}/");
    let mut after: Option<String> = None;
    let (mut first, mut asked): (Option<(Seq, Shown)>, BTreeMap<Digest, Timestamp>) = (None, BTreeMap::new());
    loop {
        let page = ctx.access.store.scan_primary(KIND, &prefix, after.as_deref(), 200)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in &page {
            let event = &key[prefix.len()..];
            let earlier = Counted::read(value)
                .ok_or_else(|| DataError::failed("a record of an earlier count is not intact"))?;
            let near = earlier.origin.as_ref().is_some_and(|origin| origin.is_near(protected, sketch));
            let lately = earlier.at.millis() > window;
            if event == own || !(near || lately) {
                continue;
            }
            let Some(seq) = ctx.access.store.find_event(event)? else { continue };
            if near && first.is_none_or(|(before, _)| seq < before) {
                first = Some((seq, earlier.count));
            }
            if lately {
                let last = asked.entry(earlier.question).or_insert(earlier.at);
                *last = earlier.at.max(*last);
            }
        }
    }
    if asked.len() as u64 >= NEW_MAX && !asked.contains_key(&question) {
        let oldest = asked.values().min().map_or(now.millis(), |t| t.millis());
        let again = Timestamp::from_millis(oldest + WINDOW_DAYS * 86_400_000);
        return Err(DataError::Counts { asked: asked.len() as u64, again });
    }
    Ok(first.map(|(_, count)| count))
}

/// What is kept of a count.
struct Counted {
    count: Shown,
    /// Who was counted, where the answer is its own; `None` where it is another's, or of a few.
    origin: Option<Origin>,
    question: Digest,
    at: Timestamp,
}

/// Who an answer was made for.
#[derive(Clone)]
struct Origin {
    sketch: Sketch,
    persons: usize,
}

impl Counted {
    fn json(&self) -> serde_json::Value {
        json!({
            "count": self.count, "question": self.question, "at": self.at.millis(),
            "origin": self.origin.as_ref().map(|o| json!({"sketch": STANDARD.encode(o.sketch.bytes()), "persons": o.persons})),
        })
    }

    fn read(value: &serde_json::Value) -> Option<Self> {
        let origin = match &value["origin"] {
            serde_json::Value::Null => None,
            origin => Some(Origin {
                sketch: Sketch::read(&STANDARD.decode(origin["sketch"].as_str()?).ok()?)?,
                persons: usize::try_from(origin["persons"].as_u64()?).ok()?,
            }),
        };
        let count = serde_json::from_value(value["count"].clone()).ok()?;
        let question = serde_json::from_value(value["question"].clone()).ok()?;
        Some(Self { count, origin, question, at: Timestamp::from_millis(value["at"].as_i64()?) })
    }
}

impl Origin {
    /// Whether fewer people than the edge may be the difference. Sets that differ in so many or more can look near in their
    /// sketches; then the answer is the earlier one too, unless their sizes tell.
    fn is_near(&self, other: &Protected, sketch: &Sketch) -> bool {
        self.persons.abs_diff(other.persons) < other.edge && sketch.distance(&self.sketch) < other.edge
    }
}

/// How a number of people is told where no earlier answer is near.
struct Protected {
    persons: usize,
    /// Fewer people than this are a few.
    edge: usize,
    shown: Shown,
}

impl Protected {
    /// Of `members`, ascending.
    fn of(keys: &Keyring, members: &[i64]) -> Self {
        let mut digest = Sha256::new();
        for id in members {
            digest.update(id.to_be_bytes());
        }
        let bytes = hmac(keys.key(label::COUNT_NOISE).as_slice(), &digest.finalize());
        // Four numbers of 8 bytes; the remainders are even to 2^-60.
        let [moved, a, b, c] = [0, 8, 16, 24].map(|at| number(&bytes[at..at + 8]));
        let noise = (moved % (2 * NOISE_MAX as u64 + 1)) as i64 - NOISE_MAX;
        let edge = SMALLEST_CELL + a % EDGE[0] + b % EDGE[1] + c % EDGE[2];
        let rounded = (members.len() as i64 + noise + ROUND / 2).div_euclid(ROUND) * ROUND;
        let least = SMALLEST_CELL as i64 / ROUND * ROUND + ROUND;
        Self { persons: members.len(), edge: edge as usize, shown: Shown::About(rounded.max(least) as u64) }
    }

    const fn is_few(&self) -> bool {
        self.persons < self.edge
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Sums of keyed hashes of who is in a set, by cell. Two sets that differ by d people differ in at most d cells.
#[derive(Clone, PartialEq, Eq)]
struct Sketch(Vec<u64>);

impl Sketch {
    fn of(keys: &Keyring, members: &[i64]) -> Self {
        let key = keys.scoped(label::COUNT_NOISE, "sketch");
        let mut halves = [[0u8; 8]; 2];
        halves[0].copy_from_slice(&key[..8]);
        halves[1].copy_from_slice(&key[8..16]);
        let [k0, k1] = halves.map(u64::from_le_bytes);
        let mut cells = vec![0u64; CELLS];
        for id in members {
            let hash = SipHasher24::new_with_keys(k0, k1).hash(&id.to_le_bytes());
            let cell = &mut cells[(hash.h1 % CELLS as u64) as usize];
            *cell = cell.wrapping_add(hash.h2 | 1);
        }
        Self(cells)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|c| c.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (cells, rest) = bytes.as_chunks::<8>();
        (rest.is_empty() && cells.len() == CELLS)
            .then(|| Self(cells.iter().map(|c| u64::from_le_bytes(*c)).collect()))
    }

    /// In how many cells two sets differ.
    fn distance(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).filter(|(a, b)| a != b).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keyring {
        Keyring::from_root(&[5; 32])
    }

    /// The protected number of `n` people from `first` on.
    fn people(first: i64, n: i64) -> Protected {
        Protected::of(&keys(), &(first..first + n).collect::<Vec<i64>>())
    }

    #[test]
    fn answers_are_near_the_truth_and_hide_small_groups() {
        let mut errors = BTreeSet::new();
        for n in 0..400i64 {
            let protected = people(n * 1000, n);
            assert!(n >= 11 || protected.is_few(), "{n}");
            assert!(n < 25 || !protected.is_few(), "{n}");
            let Shown::About(about) = protected.shown else { panic!("an answer of its own is a number") };
            if !protected.is_few() {
                assert!(about % 5 == 0 && about >= 15, "{n} shown as {about}");
                assert!((about as i64 - n).abs() <= 5, "{n} shown as {about}");
                errors.insert(about as i64 - n);
            }
            assert_eq!(
                (protected.shown, protected.edge),
                (people(n * 1000, n).shown, people(n * 1000, n).edge)
            );
        }
        assert!(errors.len() >= 9, "{errors:?}");
    }

    #[test]
    fn the_edge_is_soft_and_its_ends_are_rare() {
        let mut of = BTreeMap::<usize, u32>::new();
        let all = 20_000;
        for set in 0..all {
            *of.entry(people(set * 50, 18).edge).or_default() += 1;
        }
        let share = |edge: usize| f64::from(of.get(&edge).copied().unwrap_or(0)) / f64::from(all as u32);
        assert_eq!((of.keys().next(), of.keys().last()), (Some(&11), Some(&25)));
        assert!(share(11) < 0.012 && share(25) < 0.012, "{of:?}");
        // One person more or less changes how likely a cohort is near by at most this.
        assert!((11..=25).all(|edge| share(edge) < 0.16), "{of:?}");
    }

    #[test]
    fn other_people_in_the_same_number_are_moved_otherwise() {
        let seen: BTreeSet<u64> = (0..50i64)
            .map(|set| match people(1 + set * 1000, 100).shown {
                Shown::About(n) => n,
                Shown::FewerThan(_) => 0,
            })
            .collect();
        assert!(seen.len() > 1 && seen.iter().all(|n| (95..=105).contains(n)), "{seen:?}");
    }

    #[test]
    fn sketches_tell_small_differences_from_large_ones() {
        let base: Vec<i64> = (1..=5000).collect();
        let sketch = |members: &[i64]| Sketch::of(&keys(), members);
        assert_eq!(sketch(&base).distance(&sketch(&base)), 0);
        for d in 1..11 {
            let distance = sketch(&base).distance(&sketch(&base[..5000 - d]));
            assert!((1..=d).contains(&distance), "{d}: {distance}");
        }
        assert!(sketch(&base).distance(&sketch(&base[..4970])) >= 11);
        assert_eq!(Sketch::read(&sketch(&base).bytes()).map(|s| s.distance(&sketch(&base))), Some(0));
    }
}
