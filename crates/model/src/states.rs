//! States of residence. An address field is free text, where anything may stand; only what is a state or territory of the
//! United States is kept, as its code (USPS Publication 28, Appendix B). 45 CFR 164.514(b)(2)(i)(B) lets a state stand.

const STATES: &[(&str, &str)] = &[
    ("AL", "ALABAMA"),
    ("AK", "ALASKA"),
    ("AZ", "ARIZONA"),
    ("AR", "ARKANSAS"),
    ("CA", "CALIFORNIA"),
    ("CO", "COLORADO"),
    ("CT", "CONNECTICUT"),
    ("DE", "DELAWARE"),
    ("DC", "DISTRICT OF COLUMBIA"),
    ("FL", "FLORIDA"),
    ("GA", "GEORGIA"),
    ("HI", "HAWAII"),
    ("ID", "IDAHO"),
    ("IL", "ILLINOIS"),
    ("IN", "INDIANA"),
    ("IA", "IOWA"),
    ("KS", "KANSAS"),
    ("KY", "KENTUCKY"),
    ("LA", "LOUISIANA"),
    ("ME", "MAINE"),
    ("MD", "MARYLAND"),
    ("MA", "MASSACHUSETTS"),
    ("MI", "MICHIGAN"),
    ("MN", "MINNESOTA"),
    ("MS", "MISSISSIPPI"),
    ("MO", "MISSOURI"),
    ("MT", "MONTANA"),
    ("NE", "NEBRASKA"),
    ("NV", "NEVADA"),
    ("NH", "NEW HAMPSHIRE"),
    ("NJ", "NEW JERSEY"),
    ("NM", "NEW MEXICO"),
    ("NY", "NEW YORK"),
    ("NC", "NORTH CAROLINA"),
    ("ND", "NORTH DAKOTA"),
    ("OH", "OHIO"),
    ("OK", "OKLAHOMA"),
    ("OR", "OREGON"),
    ("PA", "PENNSYLVANIA"),
    ("RI", "RHODE ISLAND"),
    ("SC", "SOUTH CAROLINA"),
    ("SD", "SOUTH DAKOTA"),
    ("TN", "TENNESSEE"),
    ("TX", "TEXAS"),
    ("UT", "UTAH"),
    ("VT", "VERMONT"),
    ("VA", "VIRGINIA"),
    ("WA", "WASHINGTON"),
    ("WV", "WEST VIRGINIA"),
    ("WI", "WISCONSIN"),
    ("WY", "WYOMING"),
    ("AS", "AMERICAN SAMOA"),
    ("GU", "GUAM"),
    ("MP", "NORTHERN MARIANA ISLANDS"),
    ("PR", "PUERTO RICO"),
    ("VI", "VIRGIN ISLANDS"),
];

/// The code of a state that is named by its code or in full, in any case; `None` for anything else.
pub fn state_code(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let is = |name: &str| name.eq_ignore_ascii_case(text);
    STATES.iter().find(|(code, name)| is(code) || is(name)).map(|(code, _)| *code)
}

/// Whether an address is one of the United States, so that its postal code is a ZIP code and its state a state. Says so a
/// country that is the United States, or, where no country is given, a state.
pub fn in_united_states(country: Option<&str>, state: Option<&str>) -> bool {
    const NAMES: [&str; 7] =
        ["US", "USA", "U.S.", "U.S.A.", "840", "UNITED STATES", "UNITED STATES OF AMERICA"];
    match country.map(str::trim).filter(|country| !country.is_empty()) {
        Some(country) => NAMES.iter().any(|name| name.eq_ignore_ascii_case(country)),
        None => state.and_then(state_code).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_american_by_its_country_or_else_its_state() {
        assert!(in_united_states(Some("US"), None) && in_united_states(Some(" usa "), Some("x")));
        assert!(in_united_states(None, Some("Kansas")) && in_united_states(Some(""), Some("MA")));
        // A German postal code has five digits, and DE is also Delaware.
        for (country, state) in
            [(Some("DE"), Some("DE")), (Some("FR"), None), (None, None), (None, Some("Bayern"))]
        {
            assert!(!in_united_states(country, state), "{country:?} {state:?}");
        }
    }

    #[test]
    fn only_states_are_states() {
        assert_eq!(state_code("MA"), Some("MA"));
        assert_eq!(state_code(" massachusetts "), Some("MA"));
        for other in ["", "Marine Medhurst, 12 Elm St", "M", "555-12-3456", "Bavaria", "MA 02139"] {
            assert_eq!(state_code(other), None, "{other}");
        }
    }
}
