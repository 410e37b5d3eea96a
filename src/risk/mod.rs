//! Re-identification risk: measured on every dataset, and a gate before every release.
//!
//! Layer 1, pure. Quasi-identifiers are declared in `schemas/tables`; a declared one that this module has no way to
//! generalise is an error, not an omission. People with equal quasi-identifiers form a class; its size is what stands
//! between a person and whoever knows these facts about them.
//!
//! Definitions follow K. El Emam, *Guide to the De-Identification of Personal Health Information* (2013), ch. 16, and
//! F. Dankar and K. El Emam, "A method for evaluating marketer re-identification risk" (PAIS 2010). With `f` the size of a
//! class in the sample, `F` its size in the population, `n` people and `J` classes:
//!
//! * prosecutor risk (the target is known to be in the data): maximum `1 / min f`, average `J / n`;
//! * journalist risk (any person of the population will do): maximum `1 / min F`, average
//!   `max(J / Σ F, (1/n) Σ f / F)`;
//! * marketer risk (as many as possible): `(1/n) Σ f / F`.
//!
//! `F` is never known; [`Population`] says how it is estimated, and the report repeats it.
//!
//! The gate is k-anonymity (P. Samarati and L. Sweeney 1998) by full-domain generalisation and suppression of people in
//! small classes. What it does not claim: that histories cannot be matched by content, which is a different measure.

mod classes;
mod gate;
mod history;
mod people;
mod population;
mod recoding;

pub use classes::{Classes, Hierarchy, RiskReport, TooManyValues};
pub use gate::{
    Cost, GateReport, GateRules, Gated, Refused, Tier, ToldCost, ToldReport, gate, required_k, told_left_out,
};
pub use history::Earlier;
pub use people::{People, RiskError};
pub use population::Population;
pub use recoding::{Place, Recoding};

/// What risk a table of people carries: see [`RiskReport`].
///
/// # Errors
/// [`RiskError`] if the values are too many to be classed.
pub fn measure(people: &People, population: &Population) -> Result<RiskReport, RiskError> {
    let classes = people.classes()?;
    let sizes = population.sizes(people, &classes);
    Ok(classes.report(&sizes, population.estimator()))
}
