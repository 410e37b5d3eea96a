//! Counts of one project that are asked at the same time, and what the answers say of their own error.

use super::*;
use crate::events::{CountAnswered, Event};
use crate::flows::access::entry;
use crate::flows::count::say;
use crate::state::topic;
use crate::store::{Precondition, StoreError};

const PROJECT: &str = "diabetes";

/// Appends an answer as a count does.
fn log(ctx: &DataContext<'_>, act: &Act, as_of: u64) -> Result<u64, DataError> {
    let project = PROJECT.parse().expect("slug");
    let event = Event::CountAnswered(CountAnswered {
        project,
        purpose: Duo::HealthResearch,
        modifiers: Vec::new(),
        required: crate::consent::CategorySet::EMPTY,
        cohort: Digest::of(b""),
        datasets: [].into(),
        answer: Digest::of(b""),
        as_of,
    });
    let topic = topic::counts(&"uni".parse().expect("slug"));
    let new = entry(&event, act.event_id(0), act, None, vec![topic.clone()])?;
    let appended = ctx.access.store.append(vec![new], &[Precondition { topic, as_of }])?;
    Ok(appended[0].seq)
}

/// The answer; `None` where it is refused.
fn tried(house: &House, members: &[i64], meanwhile: impl Fn(&DataContext<'_>)) -> Option<Shown> {
    house.with(|ctx| {
        let act = house.act();
        let logged = std::cell::Cell::new(None);
        let said = say(ctx, &act, &"uni".parse().expect("slug"), members, &|count, as_of| {
            meanwhile(ctx);
            logged.set(Some(count));
            log(ctx, &act, as_of)
        });
        let told = match said {
            Ok((shown, _)) => Some(shown),
            Err(DataError::Access(AccessError::Conflict(_))) => None,
            Err(e) => panic!("{e}"),
        };
        assert_eq!(logged.get(), Some(told), "a refusal tells something too, and is logged");
        told
    })
}

fn asked(house: &House, members: &[i64], meanwhile: impl Fn(&DataContext<'_>)) -> Shown {
    tried(house, members, meanwhile).expect("answered")
}

fn house() -> House {
    let house = House::new();
    house.project(PROJECT, "uni");
    house
}

/// The sets that two counts of their own would answer differently, though one is the other but for one person.
fn differing() -> (Vec<i64>, Vec<i64>, Shown) {
    let apart = (0..1000).find_map(|start| {
        let (all, less): (Vec<i64>, Vec<i64>) =
            ((start..start + 100).collect(), (start..start + 99).collect());
        let (a, b) = (asked(&house(), &all, |_| {}), asked(&house(), &less, |_| {}));
        (a != b).then_some((all, less, b))
    });
    apart.expect("noise tells sets apart")
}

#[test]
fn of_two_counts_at_the_same_time_one_knows_the_other() {
    let (all, less, answer_of_less) = differing();
    let house = house();
    let once = std::cell::Cell::new(true);
    // Between the check and the append of the first count, the second is asked and told.
    let first = asked(&house, &all, |_| {
        if once.replace(false) {
            assert_eq!(asked(&house, &less, |_| {}), answer_of_less);
        }
    });
    assert_eq!(first, answer_of_less, "the difference of the two shows one person");
}

#[test]
fn what_was_prepared_and_never_logged_answers_nothing() {
    let (all, less, answer_of_less) = differing();
    let house = house();
    house.with(|ctx| {
        let failing = say(ctx, &house.act(), &"uni".parse().expect("slug"), &all, &|_, _| {
            Err(StoreError::Unavailable("as a crash leaves it".into()).into())
        });
        assert!(failing.is_err());
    });
    assert_eq!(asked(&house, &less, |_| {}), answer_of_less);
}

#[test]
fn an_answer_is_as_near_as_it_says() {
    let house = house();
    let said = house.with(|_| ready_error());
    let (mut near, mut refused) = (0, 0);
    for round in 0..400_i64 {
        // Sizes from 0 to 60 over windows that slide a little: many are near one before.
        let (start, size) = (1 + (round * 7) % 40, (round * 13) % 61);
        let members: Vec<i64> = (start..start + size).collect();
        let Some(shown) = tried(&house, &members, |_| {}) else {
            refused += 1;
            continue;
        };
        match shown {
            Shown::FewerThan(cell) => assert!(size < 24, "{size} is fewer than {cell}"),
            Shown::About(about) => {
                let error = (about as i64 - size).unsigned_abs();
                near += u64::from(error > 5);
                assert!(error <= said, "{size} is about {about}");
            }
        }
    }
    assert!(near > 0 && refused < 350, "some answers were those of others: {near}, {refused} refused");
}

/// A, then A with ten more, then with one more again: whoever is told the last cannot take the second from it.
#[test]
fn a_cohort_near_one_that_got_anothers_answer_gets_it_too_or_none() {
    let house = house();
    let of = |people: i64| (1000..1000 + people).collect::<Vec<i64>>();
    let first = asked(&house, &of(100), |_| {});
    assert_eq!(asked(&house, &of(110), |_| {}), first);
    assert_eq!(tried(&house, &of(111), |_| {}), None, "near the second, and not near the first");
    assert_eq!(asked(&house, &of(109), |_| {}), first);
    assert_ne!(asked(&house, &of(200), |_| {}), first, "a cohort apart has its own");
}

/// Cohorts of a few people that are near one another leave room for larger ones near them.
#[test]
fn tiny_cohorts_do_not_stop_what_lies_near_them() {
    let house = house();
    let of = |from: i64, to: i64| (from..to).collect::<Vec<i64>>();
    for from in 0..6 {
        assert_eq!(asked(&house, &of(from, from + 3), |_| {}), Shown::FewerThan(11));
    }
    for people in 3..=20 {
        assert!(tried(&house, &of(0, people), |_| {}).is_some(), "{people}");
    }
}

/// What an answer says of its error.
fn ready_error() -> u64 {
    let house = ready();
    house.count().expect("answered").protection.error_max
}

#[test]
fn the_ledger_has_no_digest_that_tells_the_answer() {
    let house = ready();
    let answer = house.count().expect("answered");
    let entry = house.store.entry(answer.seq).expect("reads").expect("there");
    let logged = entry.payload.value().expect("not erased")["answer"].as_str().expect("text").to_owned();
    let said = |count: Shown| {
        let bytes = serde_json::to_vec(&(count, &answer.datasets, answer.cohort, answer.as_of));
        Digest::of(bytes.expect("JSON")).to_string()
    };
    let all = (0..200).map(Shown::About).chain([Shown::FewerThan(11)]);
    assert!(!all.into_iter().any(|count| said(count) == logged));
}
