//! Counts of one project that are asked at the same time, and what the answers say of their own error.

use super::*;
use crate::events::{CountAnswered, Event};
use crate::flows::access::entry;
use crate::flows::count::{NEW_MAX, say};
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

/// Counts of one question each.
fn asked(house: &House, members: &[i64], meanwhile: impl Fn(&DataContext<'_>)) -> Shown {
    let question = Digest::of(format!("{members:?}"));
    tried(house, question, members, meanwhile).expect("answered")
}

fn tried(
    house: &House,
    question: Digest,
    members: &[i64],
    meanwhile: impl Fn(&DataContext<'_>),
) -> Result<Shown, DataError> {
    house.with(|ctx| {
        let act = house.act();
        let logged = std::cell::Cell::new(None);
        let uni = "uni".parse().expect("slug");
        let (told, _) = say(ctx, &act, (&uni, question), members, &|count, as_of| {
            meanwhile(ctx);
            logged.set(Some(count));
            log(ctx, &act, as_of)
        })?;
        assert_eq!(logged.get(), Some(told));
        Ok(told)
    })
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
        let failing =
            say(ctx, &house.act(), (&"uni".parse().expect("slug"), Digest::of("all")), &all, &|_, _| {
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
    let (mut near, mut few) = (0, 0);
    for round in 0..290_i64 {
        // Sizes from 0 to 60 over windows that slide a little: many are near one before.
        let (start, size) = (1 + (round * 7) % 40, (round * 13) % 61);
        let members: Vec<i64> = (start..start + size).collect();
        match asked(&house, &members, |_| {}) {
            Shown::FewerThan(least) => {
                few += 1;
                assert!(size < 25 && least == 25, "{size} is fewer than {least}");
            }
            Shown::About(about) => {
                let error = (about as i64 - size).unsigned_abs();
                near += u64::from(error > 5);
                assert!(size >= 11 && error <= said, "{size} is about {about}");
            }
        }
    }
    assert!(near > 0 && few > 0, "some answers were those of others: {near}, {few}");
}

/// A cohort of 100 is counted; then that and some others, as many as `apart`. How often in 100 the answer is that of the 100.
fn inherited(apart: i64) -> usize {
    (0..100)
        .filter(|n| {
            let house = house();
            let first = n * 10_000;
            let of = |people: i64| (first..first + people).collect::<Vec<i64>>();
            // What this set would be told for itself differs from what the first is told.
            let own = asked(&house, &of(100 + apart), |_| {});
            let house = self::house();
            let told = asked(&house, &of(100), |_| {});
            let then = asked(&house, &of(100 + apart), |_| {});
            assert!(then == told || then == own, "no other answer");
            then == told && told != own
        })
        .count()
}

/// Who adds people they know to a cohort until it is another one learns no sharp edge by it.
#[test]
fn where_nearness_ends_is_not_the_same_for_everyone() {
    let shares: Vec<usize> = [14, 17, 20, 30].into_iter().map(inherited).collect();
    assert!(shares[0] > shares[1] && shares[1] > shares[2] && shares[2] > 0, "{shares:?}");
    assert!(shares[1] < 90 && shares[3] == 0, "{shares:?}");
}

/// A, then A with ten more, then with many more: each is answered, by its own or by the first that is near.
#[test]
fn of_cohorts_that_are_near_the_first_counts_and_none_is_refused() {
    let house = house();
    let of = |people: i64| (1000..1000 + people).collect::<Vec<i64>>();
    let first = asked(&house, &of(100), |_| {});
    let second = asked(&house, &of(130), |_| {});
    assert_ne!(second, first);
    assert_eq!(asked(&house, &of(110), |_| {}), first);
    for people in 101..130 {
        let told = asked(&house, &of(people), |_| {});
        assert_eq!(told, asked(&house, &of(people), |_| {}), "{people}: the same again");
        assert!([first, second].contains(&told) || (111..=119).contains(&people), "{people}: {told:?}");
    }
    assert_ne!(asked(&house, &of(200), |_| {}), first, "a cohort apart has its own");
}

/// A cohort of a few does not decide over larger ones near it, but for the edge that everyone has.
#[test]
fn tiny_cohorts_do_not_stop_what_lies_near_them() {
    let house = house();
    let of = |from: i64, to: i64| (from..to).collect::<Vec<i64>>();
    for from in 0..6 {
        assert_eq!(asked(&house, &of(from, from + 3), |_| {}), Shown::FewerThan(25));
    }
    assert!(matches!(asked(&house, &of(0, 25), |_| {}), Shown::About(_)));
}

#[test]
fn a_recipient_has_so_many_new_questions_answered_and_old_ones_again() {
    let house = house();
    let ask = |n: u64| tried(&house, Digest::of(n.to_be_bytes()), &[n as i64], |_| {});
    for n in 0..NEW_MAX {
        ask(n).expect("answered");
    }
    let refused = ask(NEW_MAX).expect_err("one too many");
    assert!(matches!(refused, DataError::Counts { asked: NEW_MAX, .. }), "{refused}");
    ask(7).expect("was asked before");
    house.with(|ctx| {
        let lab = "lab".parse().expect("slug");
        let other = say(ctx, &house.act(), (&lab, Digest::of("other")), &[1], &|_, as_of| {
            log(ctx, &house.act(), as_of)
        });
        other.expect("another recipient has questions of its own");
    });
    house.clock.advance_days(31);
    ask(NEW_MAX).expect("answered a month later");
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
    let all = (0..200).map(Shown::About).chain([Shown::FewerThan(25)]);
    assert!(!all.into_iter().any(|count| said(count) == logged));
}
