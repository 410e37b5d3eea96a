//! Our own interpreter: one person's sorted events against a program. Pure; no I/O, no clock, no allocation.
//!
//! Data is clustered by person, so nothing is joined or shuffled: the engine hands over one person's run at a time, and
//! the same function can run inside a distributed engine's executors.
//!
//! Semantics (also in `docs/cohort.md`): the index event is the earliest event of the program's index queries; windows
//! count days from it, both ends included; an age is in completed years where the birthday is known, else the year of
//! the moment minus the year of birth (the age reached in that year).

use almoner_model::Date;

use super::definition::Sex;

/// An event of one person that matches a query of the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Event {
    /// First day, in days since 1970-01-01.
    pub day: i32,
    /// Which query of the plan.
    pub query: u16,
}

/// What is known of the person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Person {
    /// Administrative sex.
    pub sex: Sex,
    /// Year of birth.
    pub year_of_birth: i32,
    /// Month and day of birth where the dataset has them.
    pub birthday: Option<(u32, u32)>,
}

impl Person {
    /// Age in years on `day` (days since 1970-01-01).
    pub fn age_on(&self, day: i32) -> i32 {
        let date = Date::from_days(day);
        let before = self.birthday.is_some_and(|birthday| (date.month(), date.day()) < birthday);
        date.year() - self.year_of_birth - i32::from(before)
    }
}

/// Where a count looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// Everywhere.
    Any,
    /// A range of days from the index event, both ends included.
    Index {
        /// First day.
        from_days: i32,
        /// Last day.
        to_days: i32,
    },
}

/// A condition on a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Every part holds; true when there is none.
    All(Vec<Self>),
    /// At least one part holds; false when there is none.
    Any(Vec<Self>),
    /// No part holds.
    None(Vec<Self>),
    /// The number of events of a query in a window lies in a range.
    Count {
        /// Which query.
        query: u16,
        /// Fewest.
        min: u32,
        /// Most.
        max: Option<u32>,
        /// Where.
        window: Window,
    },
    /// Administrative sex is one of these.
    Sex(Vec<Sex>),
    /// Age lies in a range, both ends included.
    Age {
        /// Youngest.
        min: Option<u32>,
        /// Oldest.
        max: Option<u32>,
        /// On this day; at the index event if none.
        on_day: Option<i32>,
    },
}

impl Rule {
    /// Whether it looks at the person row.
    pub fn asks_person(&self) -> bool {
        self.asks_sex() || self.asks_age()
    }

    /// Whether it looks at the sex.
    pub fn asks_sex(&self) -> bool {
        self.asks(|rule| matches!(rule, Self::Sex(_)))
    }

    /// Whether it looks at the age.
    pub fn asks_age(&self) -> bool {
        self.asks(|rule| matches!(rule, Self::Age { .. }))
    }

    fn asks(&self, leaf: fn(&Self) -> bool) -> bool {
        match self {
            Self::All(rules) | Self::Any(rules) | Self::None(rules) => rules.iter().any(|r| r.asks(leaf)),
            other => leaf(other),
        }
    }
}

/// Which of the index events starts a membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The earliest only, whatever the rule says of it.
    First,
}

/// What is asked of one person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Queries whose events can be the index event; empty where the definition needs none.
    pub index: Vec<u16>,
    /// Which of them counts.
    pub limit: Limit,
    /// The condition.
    pub rule: Rule,
}

/// A membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Day of the index event, where the program has one.
    pub index_day: Option<i32>,
}

/// Whether `person` is in the cohort. `events` are sorted by day.
pub fn evaluate(program: &Program, person: &Person, events: &[Event]) -> Option<Membership> {
    debug_assert!(events.is_sorted_by_key(|e| e.day), "a person's events are sorted by day");
    let Limit::First = program.limit;
    let index_day = events.iter().find(|e| program.index.contains(&e.query)).map(|e| e.day);
    if index_day.is_none() && !program.index.is_empty() {
        return None;
    }
    holds(&program.rule, person, events, index_day).then_some(Membership { index_day })
}

fn holds(rule: &Rule, person: &Person, events: &[Event], index_day: Option<i32>) -> bool {
    let each = |rule: &Rule| holds(rule, person, events, index_day);
    match rule {
        Rule::All(rules) => rules.iter().all(each),
        Rule::Any(rules) => rules.iter().any(each),
        Rule::None(rules) => !rules.iter().any(each),
        Rule::Sex(sexes) => sexes.contains(&person.sex),
        Rule::Count { query, min, max, window } => {
            let n = count(events, *query, *window, index_day);
            n >= *min && max.is_none_or(|max| n <= max)
        }
        Rule::Age { min, max, on_day } => match on_day.or(index_day) {
            None => false,
            Some(day) => {
                let age = person.age_on(day);
                min.is_none_or(|min| age >= min as i32) && max.is_none_or(|max| age <= max as i32)
            }
        },
    }
}

fn count(events: &[Event], query: u16, window: Window, index_day: Option<i32>) -> u32 {
    let of_query = events.iter().filter(|e| e.query == query);
    match (window, index_day) {
        (Window::Any, _) => of_query.count() as u32,
        (Window::Index { .. }, None) => 0,
        (Window::Index { from_days, to_days }, Some(index)) => {
            let (low, high) = (index.saturating_add(from_days), index.saturating_add(to_days));
            of_query.filter(|e| (low..=high).contains(&e.day)).count() as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> i32 {
        text.parse::<Date>().expect("valid").days()
    }

    fn person(sex: Sex, year_of_birth: i32) -> Person {
        Person { sex, year_of_birth, birthday: None }
    }

    fn program(index: Vec<u16>, rule: Rule) -> Program {
        Program { index, limit: Limit::First, rule }
    }

    #[test]
    fn the_earliest_event_is_the_index_and_windows_include_both_ends() {
        let rule = |from_days, to_days| Rule::Count {
            query: 1,
            min: 1,
            max: None,
            window: Window::Index { from_days, to_days },
        };
        let events = [
            Event { day: day("2019-01-01"), query: 1 },
            Event { day: day("2020-01-01"), query: 0 },
            Event { day: day("2021-01-01"), query: 0 },
        ];
        let p = person(Sex::Male, 1970);
        let run = |rule| evaluate(&program(vec![0], rule), &p, &events);
        assert_eq!(run(rule(-365, 0)).expect("365 days before").index_day, Some(day("2020-01-01")));
        assert_eq!(run(rule(-364, 0)), None);
        assert_eq!(evaluate(&program(vec![2], rule(-365, 0)), &p, &events), None, "no index event");
    }

    #[test]
    fn ages_use_the_birthday_only_where_it_is_known() {
        let exact = Person { sex: Sex::Female, year_of_birth: 1980, birthday: Some((6, 15)) };
        assert_eq!((exact.age_on(day("2020-06-14")), exact.age_on(day("2020-06-15"))), (39, 40));
        assert_eq!(person(Sex::Female, 1980).age_on(day("2020-01-01")), 40);
    }

    #[test]
    fn groups() {
        let p = person(Sex::Female, 1980);
        let events = [Event { day: 0, query: 0 }, Event { day: 1, query: 0 }];
        let at_least = |query, min| Rule::Count { query, min, max: None, window: Window::Any };
        let holds = |rule| evaluate(&program(Vec::new(), rule), &p, &events).is_some();
        assert!(holds(Rule::All(vec![at_least(0, 2), Rule::Sex(vec![Sex::Female])])));
        assert!(!holds(at_least(0, 3)) && !holds(Rule::Any(Vec::new())) && holds(Rule::All(Vec::new())));
        assert!(holds(Rule::None(vec![at_least(1, 1)])) && !holds(Rule::None(vec![at_least(0, 1)])));
        assert!(!holds(Rule::Count { query: 0, min: 1, max: Some(1), window: Window::Any }));
        assert!(!holds(Rule::Age { min: Some(1), max: None, on_day: None }), "no moment, no age");
    }
}
