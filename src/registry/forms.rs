//! Which form of a contributor's data came first, and whether equal ids of two forms are one person.
//!
//! `Patient.id` 7 and `person_id` 7 of one hospital are two people unless the hospital says otherwise, for both are often
//! counted up. It says so when the second form first comes, or before; from then on it stays. Only what is published counts
//! as having come.

use rusqlite::{Connection, OptionalExtension, params};

use super::{RegistryError, Token};
use crate::mapping::{Form, IdSpace, IdSpaces};

const fn number(form: Form) -> i64 {
    match form {
        Form::Fhir => 1,
        Form::Omop => 2,
    }
}

fn known(db: &Connection, scope: &Token, form: Form) -> Result<Option<IdSpace>, RegistryError> {
    let mut known = db.prepare_cached("SELECT second FROM form WHERE scope = ?1 AND form = ?2")?;
    let second = known.query_row(params![scope.as_bytes(), number(form)], |row| row.get(0)).optional()?;
    Ok(second.map(|second: bool| if second { IdSpace::Second } else { IdSpace::First }))
}

/// See [`super::Registry::id_spaces`].
pub(super) fn spaces(
    db: &Connection,
    scope: &Token,
    sent: &[Form],
    agree: bool,
) -> Result<IdSpaces, RegistryError> {
    let other = |space: IdSpace| match (agree, space) {
        (true, space) => space,
        (false, IdSpace::First) => IdSpace::Second,
        (false, IdSpace::Second) => IdSpace::First,
    };
    Ok(match (known(db, scope, Form::Fhir)?, known(db, scope, Form::Omop)?) {
        (Some(fhir), Some(omop)) if agree && fhir != omop => return Err(RegistryError::FormsApart),
        (Some(fhir), Some(omop)) => IdSpaces { fhir, omop },
        (Some(fhir), None) => IdSpaces { fhir, omop: other(fhir) },
        (None, Some(omop)) => IdSpaces { fhir: other(omop), omop },
        (None, None) if sent.first() == Some(&Form::Omop) => {
            IdSpaces { fhir: other(IdSpace::First), omop: IdSpace::First }
        }
        (None, None) => IdSpaces { fhir: IdSpace::First, omop: other(IdSpace::First) },
    })
}

/// See [`super::Registry::keep_id_spaces`].
pub(super) fn keep(
    db: &Connection,
    scope: &Token,
    sent: &[Form],
    spaces: IdSpaces,
    agree: bool,
) -> Result<(), RegistryError> {
    for form in [Form::Fhir, Form::Omop].into_iter().filter(|form| agree || sent.contains(form)) {
        db.execute(
            "INSERT OR IGNORE INTO form (scope, form, second) VALUES (?1, ?2, ?3)",
            params![scope.as_bytes(), number(form), spaces.of(form) == IdSpace::Second],
        )?;
    }
    Ok(())
}
