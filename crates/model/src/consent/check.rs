//! What a rule may not say: what would read as a narrowing and never apply, so that a denial would deny nothing.

use super::Provision;

/// Something in a rule that says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// Where, a JSON Pointer within the rule.
    pub pointer: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Provision {
    /// The first flaw of it and its exceptions: a purpose that is a modifier, a condition that is a purpose, a time that
    /// ends before it begins.
    ///
    /// # Errors
    /// The [`Flaw`].
    pub fn check(&self) -> Result<(), Flaw> {
        self.check_at("")
    }

    fn check_at(&self, at: &str) -> Result<(), Flaw> {
        let flaw = |pointer: String, reason| Err(Flaw { pointer: format!("{at}{pointer}"), reason });
        if let Some(n) = self.purposes.iter().position(|p| !p.is_permission()) {
            return flaw(
                format!("/purposes/{n}"),
                "a modifier is not a purpose; name it as a condition of a permission",
            );
        }
        if let Some(n) = self.conditions.iter().position(|c| c.is_permission()) {
            return flaw(
                format!("/conditions/{n}"),
                "a purpose is not a condition; name it among the purposes",
            );
        }
        let ends_first = |from: Option<i64>, until: Option<i64>| from.zip(until).is_some_and(|(f, u)| f > u);
        if self.period.is_some_and(|p| ends_first(p.from.map(|t| t.millis()), p.until.map(|t| t.millis()))) {
            return flaw("/period".into(), "it ends before it begins");
        }
        let day = |d: crate::Date| i64::from(d.days());
        if self.data.is_some_and(|d| ends_first(d.from.map(day), d.until.map(day))) {
            return flaw("/data".into(), "it ends before it begins");
        }
        self.provisions.iter().enumerate().try_for_each(|(n, p)| p.check_at(&format!("{at}/provisions/{n}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{DataPeriod, Effect, Period};
    use crate::{Date, Duo, Timestamp};

    fn pointer(rule: &Provision) -> Option<String> {
        let outer = Provision {
            provisions: vec![Provision::permit([]), rule.clone()],
            ..Provision::new(Effect::Deny)
        };
        let nested = outer.check().err().map(|f| f.pointer);
        let own = rule.check().err().map(|f| f.pointer);
        assert_eq!(nested, own.as_ref().map(|p| format!("/provisions/1{p}")));
        own
    }

    #[test]
    fn what_never_applies_is_a_flaw_and_everything_else_is_not() {
        let deny = || Provision::new(Effect::Deny);
        let day = |d| Some(Date::from_ymd(2025, 1, d).expect("valid"));
        let data = |from, until| Provision { data: Some(DataPeriod { from, until }), ..deny() };
        let at = |d| day(d).map(Timestamp::from_date);
        let period = |from, until| Provision { period: Some(Period { from, until }), ..deny() };
        let of = |pointer: &str| Some(pointer.to_owned());
        let purposes = vec![Duo::HealthResearch, Duo::NonCommercial];
        assert_eq!(pointer(&Provision { purposes, ..deny() }), of("/purposes/1"));
        assert_eq!(
            pointer(&Provision { conditions: vec![Duo::HealthResearch], ..deny() }),
            of("/conditions/0")
        );
        assert_eq!(pointer(&data(day(2), day(1))), of("/data"));
        assert_eq!(pointer(&period(at(2), at(1))), of("/period"));
        for fine in
            [data(day(1), day(1)), data(None, day(1)), period(at(1), None), period(None, None), deny()]
        {
            assert_eq!(pointer(&fine), None);
        }
        let purposes = Duo::ALL.iter().copied().filter(|d| d.is_permission()).collect();
        let conditions = Duo::ALL.iter().copied().filter(|d| !d.is_permission()).collect();
        assert_eq!(pointer(&Provision { purposes, conditions, ..deny() }), None);
    }
}
