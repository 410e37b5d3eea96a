//! Counts: how many permitted people meet a definition. Protected, logged before it is said.
//!
//! Protection, the same for everyone and said with every answer:
//! - a number is moved by up to 3, by a keyed function of *who* is counted: the same people always give the same answer, so
//!   asking again or otherwise does not average it away;
//! - what is then fewer than [`SMALLEST_CELL`] people is not told apart, nor are fewer than that however they were moved, so
//!   the edge of the cell does not tell one person; other numbers are rounded to a multiple of 5;
//! - for a recipient, in whichever of its projects, a cohort that differs from one counted before by fewer than
//!   [`SMALLEST_CELL`] people gets that one's answer, so two counts cannot be subtracted to see a few. That holds of cohorts
//!   which got another's answer too; one that is near such a cohort and not near the one whose answer it was is refused,
//!   since no answer would tell nobody apart and be near the truth. That tells that it is near one, so it is logged as an
//!   answer is. What is kept is how many there were and a sketch of keyed hashes, not a list.
//!
//! Counts of one recipient follow one another: an answer is made with all earlier ones known, and appended with the
//! precondition that no other came in between. Its sketch is written before the append under the act's own event id, and
//! counts only once that event is in the ledger: a crash in between leaves a sketch that nobody looks at.

use std::collections::{BTreeMap, BTreeSet};

use almoner_model::{ContributorId, DatasetId, Digest, Duo, ProjectId, RecipientId, Seq, SubjectId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::SipHasher24;

use super::Act;
use super::access::{AccessContext, AccessError, entry};
use super::decide::may_count;
use super::permitted::{append_unless_less_is_permitted, permitted_subjects};
use super::question::{DataContext, DataError, Question};
use crate::cohort::execute;
use crate::consent::{CategorySet, Purpose, Use};
use crate::events::{CountAnswered, Event};
use crate::keys::{Keyring, label};
use crate::request::is_purpose;
use crate::state::{read, topic};
use crate::store::{Precondition, StoreError, Write};

/// Fewer people than this are never told apart.
pub const SMALLEST_CELL: u64 = 11;
/// The greatest shift before rounding.
const NOISE_MAX: i64 = 3;
/// What answers are rounded to.
const ROUND: i64 = 5;
/// The greatest difference from the true number: the noise, the rounding, and fewer than a cell of other people.
const ERROR_MAX: u64 = NOISE_MAX as u64 + ROUND as u64 / 2 + SMALLEST_CELL - 1;
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
    /// Fewer people than this are never told apart, and up to 3 more sometimes are not.
    pub smallest_cell: u64,
    /// The greatest difference of "about" from the true number, those counted before included; "fewer than 11" stands for
    /// at most 23.
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

const HOW: &str = "A number is moved by up to 3 by a keyed function of who is counted; the same people always give the same \
    answer. What is then fewer than 11 is not told apart, and never fewer than 11 people are; other numbers are rounded to a \
    multiple of 5. A cohort that differs from one counted before for this recipient by fewer than 11 people gets that one's \
    answer, so a number is up to 15 from the true one, and 'fewer than 11' is at most 23. A cohort that is near one that got \
    another's answer, and not near that other, is refused.";

const REFUSED: &str = "counted before for this recipient were cohorts that differ from this one by a few people, and from one \
    another by more: no answer tells nobody apart";

/// How often a count is made again because somebody withdrew, or a contributor's rules changed, meanwhile.
const ATTEMPTS: usize = 3;
/// How often an answer is protected again because the recipient had another meanwhile.
const TURNS: usize = 64;

/// Answers a count.
///
/// # Errors
/// [`DataError::Definition`] if it cannot be answered as asked; refusals by house rules and contracts; an unknown project.
pub fn count(ctx: &DataContext<'_>, act: &Act, request: &CountRequest) -> Result<CountAnswer, DataError> {
    let act = &ctx.access.unused(act)?;
    for _ in 0..ATTEMPTS {
        match attempt(ctx, act, request) {
            Err(DataError::Access(AccessError::Store(StoreError::Precondition { .. }))) => {}
            other => return other,
        }
    }
    Err(AccessError::Conflict("what people permit keeps changing; count again".into()).into())
}

fn attempt(ctx: &DataContext<'_>, act: &Act, request: &CountRequest) -> Result<CountAnswer, DataError> {
    if !is_purpose(request.purpose) {
        return Err(AccessError::invalid("/purpose", "not a purpose of research").into());
    }
    let state = ctx.access.state();
    let project =
        read::project(&state, &request.project)?.ok_or(super::access::AccessError::Unknown("project"))?;
    let question = Question::new(ctx, &request.definition, &request.datasets)?;
    let recipient = &project.body.recipient;
    let contributors = question.contributors();
    may_count(&ctx.access, &request.project, recipient, request.purpose, &request.modifiers, &contributors)?;
    let wanted = Use {
        purpose: Purpose::of(request.purpose, request.modifiers.iter().copied()),
        recipient: recipient.clone(),
        project: request.project.clone(),
        required: question.categories()?,
        delivered: CategorySet::EMPTY,
        at: ctx.access.now()?,
    };
    let permitted = permitted_subjects(&ctx.access, &wanted, &request.datasets, None)?;
    let found =
        execute::run(&question.plan, &question.sources, &question.permitted(&permitted), ctx.offset_days)?;
    let members: Vec<i64> = found.members.iter().map(|m| m.subject).collect();
    let reasons = if permitted.is_empty() { permitted.explanation() } else { Vec::new() };
    let cohort = ctx.access.documents.put(&request.definition).map_err(DataError::failed)?;
    let mut answer = CountAnswer {
        count: Shown::FewerThan(SMALLEST_CELL),
        protection: Protection { smallest_cell: SMALLEST_CELL, error_max: ERROR_MAX, how: HOW },
        datasets: question.version_numbers(),
        cohort,
        reasons,
        notes: question.plan.notes.clone(),
        as_of: permitted.as_of,
        seq: 0,
    };
    let asked = Asked { request, wanted: &wanted, contributors: &contributors, members: &members };
    (answer.count, answer.seq) =
        say(ctx, act, recipient, &members, &|count, as_of| asked.log(ctx, act, count, &answer, as_of))?;
    Ok(answer)
}

/// Protects the number of `members`, ascending, and logs it by `log`, which is given the answer (`None`: refused) and the
/// ledger size that the recipient's earlier answers were read at. Gives the answer and its position.
///
/// # Errors
/// Those of `log`; a conflict if no answer would tell nobody apart, or if so much is asked for the recipient that its turn does
/// not come.
pub(super) fn say(
    ctx: &DataContext<'_>,
    act: &Act,
    recipient: &RecipientId,
    members: &[i64],
    log: &dyn Fn(Option<Shown>, Seq) -> Result<Seq, DataError>,
) -> Result<(Shown, Seq), DataError> {
    let (own, sketch) = (act.event_id(0), Sketch::of(ctx.keys, members));
    for _ in 0..TURNS {
        let as_of = ctx.access.store.size();
        let of_its_own = shown(ctx.keys, members);
        let answer = match near(ctx, recipient, members.len(), &sketch, &own)? {
            Near::Nothing => Some((own.clone(), of_its_own)),
            // The same answer by itself: others can be near it as they can be near any.
            Near::Answered { count, .. } if count == of_its_own => Some((own.clone(), count)),
            Near::Answered { origin, count } => Some((origin, count)),
            Near::Inherited => None,
        };
        // Of a refusal nothing is kept, nor what an earlier turn of this act had for an answer.
        let kept = answer.as_ref().map(|(origin, count)| {
            json!({
                "sketch": STANDARD.encode(sketch.bytes()), "persons": members.len(), "count": count, "origin": origin,
            })
        });
        let key = format!("{recipient}/{own}");
        ctx.access.store.put_primary(vec![Write { kind: KIND.into(), key, value: kept }])?;
        let count = answer.map(|(_, count)| count);
        match log(count, as_of) {
            Err(DataError::Access(AccessError::Store(StoreError::Precondition { topic, .. })))
                if topic == topic::counts(recipient) => {}
            other => return Ok((count.ok_or_else(|| AccessError::Conflict(REFUSED.into()))?, other?)),
        }
    }
    Err(AccessError::Conflict("many counts are asked for this recipient at once; count again".into()).into())
}

/// What was answered by the entry at `seq`; `None` if it was refused.
///
/// # Errors
/// If the store fails.
pub fn answered(
    ctx: &AccessContext<'_>,
    recipient: &RecipientId,
    seq: Seq,
) -> Result<Option<Shown>, AccessError> {
    let Some(entry) = ctx.store.entry(seq)? else { return Ok(None) };
    if entry.leaf.decision.as_deref() == Some("refused") {
        return Ok(None);
    }
    let kept = ctx.store.get_primary(KIND, &format!("{recipient}/{}", entry.leaf.event_id))?;
    Ok(kept.and_then(|value| Counted::read(&value)).map(|counted| counted.count))
}

/// What was counted, for the entry.
struct Asked<'a> {
    request: &'a CountRequest,
    wanted: &'a Use,
    contributors: &'a [ContributorId],
    /// Who is counted, ascending.
    members: &'a [i64],
}

impl Asked<'_> {
    /// Logs the answer, or that it is refused; durable on return. Gives its position. `as_of` is the size at which the
    /// recipient's earlier answers were read. Whoever permits less since the data was read is not counted, and a rule that
    /// changed is asked again.
    fn log(
        &self,
        ctx: &DataContext<'_>,
        act: &Act,
        count: Option<Shown>,
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
        new.decision = Some(if count.is_some() { "answered" } else { "refused" }.into());
        let mut unchanged = vec![Precondition { topic: counts, as_of }];
        let rules = self.contributors.iter().map(topic::contributor);
        unchanged.extend(rules.map(|topic| Precondition { topic, as_of: decided }));
        let counted =
            |ids: &BTreeSet<SubjectId>| ids.iter().any(|id| self.members.binary_search(&id.get()).is_ok());
        append_unless_less_is_permitted(
            &ctx.access,
            new,
            &unchanged,
            (self.wanted, self.contributors, decided),
            counted,
        )
    }
}

/// What the recipient was told before of nearly the same people.
enum Near {
    /// Nothing.
    Nothing,
    /// An answer, with the act that it was made for.
    Answered { origin: String, count: Shown },
    /// Only answers that were made for cohorts which are not near.
    Inherited,
}

/// What the recipient was told of nearly the same people, by earlier acts but `own`.
fn near(
    ctx: &DataContext<'_>,
    recipient: &RecipientId,
    persons: usize,
    sketch: &Sketch,
    own: &str,
) -> Result<Near, DataError> {
    let prefix = format!("{recipient}/");
    let mut after: Option<String> = None;
    let mut found = Near::Nothing;
    loop {
        let page = ctx.access.store.scan_primary(KIND, &prefix, after.as_deref(), 200)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, value) in &page {
            let event = &key[prefix.len()..];
            let earlier = Counted::read(value)
                .ok_or_else(|| DataError::failed("a record of an earlier count is not intact"))?;
            if event != own
                && earlier.is_near(persons, sketch)
                && ctx.access.store.find_event(event)?.is_some()
            {
                if earlier.origin == event {
                    return Ok(Near::Answered { origin: earlier.origin, count: earlier.count });
                }
                found = Near::Inherited;
            }
        }
    }
}

/// An earlier count.
struct Counted {
    sketch: Sketch,
    persons: usize,
    count: Shown,
    /// The act whose answer it has: its own, or that of the cohort that it was near to.
    origin: String,
}

impl Counted {
    fn read(value: &serde_json::Value) -> Option<Self> {
        let sketch = Sketch::read(&STANDARD.decode(value["sketch"].as_str()?).ok()?)?;
        let persons = usize::try_from(value["persons"].as_u64()?).ok()?;
        let count = serde_json::from_value(value["count"].clone()).ok()?;
        Some(Self { sketch, persons, count, origin: value["origin"].as_str()?.to_owned() })
    }

    /// Whether fewer than [`SMALLEST_CELL`] people may be the difference. Sets that differ in so many or more can look near
    /// in their sketches; then the answer is the earlier one too, unless their sizes tell.
    fn is_near(&self, persons: usize, sketch: &Sketch) -> bool {
        let cell = SMALLEST_CELL as usize;
        self.persons.abs_diff(persons) < cell && sketch.distance(&self.sketch) < cell
    }
}

/// The protected number of `members`, ascending.
fn shown(keys: &Keyring, members: &[i64]) -> Shown {
    if (members.len() as u64) < SMALLEST_CELL {
        return Shown::FewerThan(SMALLEST_CELL);
    }
    let mut digest = Sha256::new();
    for id in members {
        digest.update(id.to_be_bytes());
    }
    let bits = prf(keys.key(label::COUNT_NOISE).as_slice(), &digest.finalize());
    let noise = (bits % (2 * NOISE_MAX as u64 + 1)) as i64 - NOISE_MAX;
    let moved = members.len() as i64 + noise;
    if moved < SMALLEST_CELL as i64 {
        return Shown::FewerThan(SMALLEST_CELL);
    }
    let rounded = (moved + ROUND / 2).div_euclid(ROUND) * ROUND;
    Shown::About(rounded.max(SMALLEST_CELL as i64 / ROUND * ROUND + ROUND) as u64)
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn prf(key: &[u8], message: &[u8]) -> u64 {
    hmac(key, message)[..8].iter().fold(0, |n, b| n << 8 | u64::from(*b))
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

    #[test]
    fn answers_are_near_the_truth_and_hide_small_groups() {
        let (mut errors, mut at_edge) = (BTreeSet::new(), (false, false));
        for n in (0..400i64).chain((0..99).map(|n| 8 + n % 9)) {
            let shift = n * 1000;
            let members: Vec<i64> = (1 + shift..=n + shift).collect();
            match shown(&keys(), &members) {
                Shown::FewerThan(cell) => {
                    assert!(n < 14 && cell == 11);
                    at_edge.0 |= n >= 11;
                }
                Shown::About(about) => {
                    assert!(n >= 11 && about % 5 == 0 && about >= 15, "{n} shown as {about}");
                    assert!((about as i64 - n).abs() <= 5, "{n} shown as {about}");
                    at_edge.1 |= n < 14;
                    errors.insert(about as i64 - n);
                }
            }
            assert_eq!(shown(&keys(), &members), shown(&keys(), &members));
        }
        assert!(errors.len() >= 9, "{errors:?}");
        assert_eq!(at_edge, (true, true), "the edge is not the same for everyone");
    }

    #[test]
    fn other_people_in_the_same_number_are_moved_otherwise() {
        let seen: BTreeSet<u64> = (0..50i64)
            .map(|shift| {
                match shown(&keys(), &(1 + shift * 1000..=100 + shift * 1000).collect::<Vec<i64>>()) {
                    Shown::About(n) => n,
                    Shown::FewerThan(_) => 0,
                }
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
