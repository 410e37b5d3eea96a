//! Positions of the columns that FHIR mapping sets, looked up once by name.

#![expect(non_camel_case_types, reason = "the types are named exactly as the tables they stand for")]

use almoner_model::Tables;

/// A table or column that mapping sets is not in `schemas/tables`.
#[derive(Debug, thiserror::Error)]
#[error("schemas/tables has no {0}")]
pub struct MissingColumn(&'static str);

macro_rules! columns {
    ($($table:ident { $($field:ident),* $(,)? })*) => {
        /// Table and column positions.
        #[derive(Clone, Debug)]
        pub struct Columns { $(pub $table: $table),* }

        $(
            #[doc = stringify!($table)]
            #[derive(Clone, Copy, Debug)]
            pub struct $table { pub table: usize, $(pub $field: usize),* }
        )*

        impl Columns {
            /// Of the canonical tables.
            ///
            /// # Errors
            /// [`MissingColumn`]; a test keeps that from shipping.
            pub fn of(tables: &Tables) -> Result<Self, MissingColumn> {
                Ok(Self { $($table: {
                    let name = stringify!($table);
                    let spec = tables.get(name).ok_or(MissingColumn(name))?;
                    $table {
                        table: tables.index_of(name).ok_or(MissingColumn(name))?,
                        $($field: spec.index_of(stringify!($field)).ok_or(MissingColumn(stringify!($field)))?),*
                    }
                }),* })
            }
        }
    };
}

columns! {
    person {
        gender_concept_id, year_of_birth, month_of_birth, day_of_birth, race_concept_id, ethnicity_concept_id,
        gender_source_value, race_source_value, ethnicity_source_value, zip, state,
    }
    death { death_date, death_datetime, death_type_concept_id }
    visit_occurrence {
        visit_concept_id, visit_start_date, visit_start_datetime, visit_end_date, visit_end_datetime,
        visit_type_concept_id, admitted_from_source_value, discharged_to_source_value,
    }
    condition_occurrence {
        condition_concept_id, condition_start_date, condition_start_datetime, condition_end_date,
        condition_end_datetime, condition_type_concept_id, condition_status_concept_id, condition_source_value,
    }
    procedure_occurrence {
        procedure_concept_id, procedure_date, procedure_datetime, procedure_end_date, procedure_end_datetime,
        procedure_type_concept_id, procedure_source_value,
    }
    drug_exposure {
        drug_concept_id, drug_exposure_start_date, drug_exposure_start_datetime, drug_exposure_end_date,
        drug_exposure_end_datetime, verbatim_end_date, drug_type_concept_id, refills, quantity, days_supply,
        drug_source_value, route_source_value,
    }
    device_exposure {
        device_concept_id, device_exposure_start_date, device_exposure_start_datetime, device_type_concept_id,
        device_source_value,
    }
    measurement {
        measurement_concept_id, measurement_date, measurement_datetime, measurement_type_concept_id,
        operator_concept_id, value_as_number, value_as_concept_id, range_low, range_high, measurement_source_value,
        unit_source_value, value_source_value,
    }
    observation {
        observation_concept_id, observation_date, observation_datetime, observation_type_concept_id, value_as_number,
        value_as_concept_id, observation_source_value, unit_source_value, value_source_value,
    }
    specimen {
        specimen_concept_id, specimen_type_concept_id, specimen_date, specimen_datetime, quantity,
        specimen_source_value, unit_source_value, anatomic_site_source_value,
    }
}
