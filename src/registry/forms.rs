//! Which form of a contributor's data came first, and whether equal ids of two forms are one person.
//!
//! `Patient.id` 7 and `person_id` 7 of one hospital are two people unless the hospital says otherwise, for both are often
//! counted up. It says so when the second form first comes; from then on it stays.

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
    for form in sent {
        let other = if *form == Form::Fhir { Form::Omop } else { Form::Fhir };
        let space = match (known(db, scope, *form)?, known(db, scope, other)?) {
            (Some(space), Some(others)) if agree && space != others => return Err(RegistryError::FormsApart),
            (Some(_), _) => continue,
            (None, None) => IdSpace::First,
            (None, Some(others)) if agree => others,
            (None, Some(IdSpace::First)) => IdSpace::Second,
            (None, Some(IdSpace::Second)) => IdSpace::First,
        };
        let second = space == IdSpace::Second;
        db.execute(
            "INSERT INTO form (scope, form, second) VALUES (?1, ?2, ?3)",
            params![scope.as_bytes(), number(*form), second],
        )?;
    }
    let (fhir, omop) = (known(db, scope, Form::Fhir)?, known(db, scope, Form::Omop)?);
    // What refers to people of a form that never came can only mean those of the other.
    let either = fhir.or(omop).unwrap_or_default();
    Ok(IdSpaces { fhir: fhir.unwrap_or(either), omop: omop.unwrap_or(either) })
}
