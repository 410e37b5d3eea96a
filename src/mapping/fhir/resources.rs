//! The FHIR R4 resources that mapping carries, each with the elements that it reads and no others.
//!
//! Names, telecoms and addresses are read of Patient only, for linkage; narrative, displays, notes and attachments are
//! passed over without being built.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::datatypes::{
    Address, CodeableConcept, Coding, ContactPoint, Extension, HumanName, Identifier, Period, Quantity,
    Reference, ReferenceRange, Text,
};

/// Something that is there or not, without its content.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident { $first:ident, $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Default, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub struct $name<'a> {
                #[serde(borrow)]
                pub $first: Option<Text<'a>>,
                $(pub $field: $ty),*
            }
        )*
    };
}

type Contained<'a> = Vec<&'a RawValue>;

resources! {
    /// The one element that every resource has, and the id.
    Head { id, resource_type: Option<Text<'a>> }

    /// The id, and what is said of the version.
    Dated { id, meta: Option<&'a RawValue> }

    /// Meta (R4 §2.26.5.16).
    Meta { last_updated, }

    /// Patient (R4 §8.1).
    Patient {
        id,
        meta: Option<&'a RawValue>,
        extension: Vec<Extension<'a>>,
        identifier: Vec<Identifier<'a>>,
        name: Vec<HumanName<'a>>,
        telecom: Vec<ContactPoint<'a>>,
        gender: Option<Text<'a>>,
        birth_date: Option<Text<'a>>,
        deceased_boolean: Option<bool>,
        deceased_date_time: Option<Text<'a>>,
        address: Vec<Address<'a>>,
        link: Vec<PatientLink<'a>>,
    }

    /// Patient.link.
    PatientLink { r#type, other: Reference<'a> }

    /// Encounter (R4 §8.11).
    Encounter {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        class: Option<Coding<'a>>,
        subject: Option<Reference<'a>>,
        period: Option<Period<'a>>,
        hospitalization: Option<Hospitalization<'a>>,
    }

    /// Condition (R4 §9.2).
    Condition {
        id,
        meta: Option<&'a RawValue>,
        verification_status: Option<CodeableConcept<'a>>,
        code: Option<CodeableConcept<'a>>,
        subject: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        onset_date_time: Option<Text<'a>>,
        onset_period: Option<Period<'a>>,
        abatement_date_time: Option<Text<'a>>,
        abatement_period: Option<Period<'a>>,
        recorded_date: Option<Text<'a>>,
    }

    /// Procedure (R4 §9.3).
    Procedure {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        code: Option<CodeableConcept<'a>>,
        subject: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        performed_date_time: Option<Text<'a>>,
        performed_period: Option<Period<'a>>,
    }

    /// Observation (R4 §10.1).
    Observation {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        category: Vec<CodeableConcept<'a>>,
        code: Option<CodeableConcept<'a>>,
        subject: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        effective_date_time: Option<Text<'a>>,
        effective_period: Option<Period<'a>>,
        effective_instant: Option<Text<'a>>,
        focus: Vec<Reference<'a>>,
        data_absent_reason: Option<Present>,
        issued: Option<Text<'a>>,
        value_quantity: Option<Quantity<'a>>,
        value_codeable_concept: Option<CodeableConcept<'a>>,
        value_string: Option<Present>,
        value_boolean: Option<bool>,
        value_integer: Option<i64>,
        value_range: Option<Present>,
        value_ratio: Option<Present>,
        value_sampled_data: Option<Present>,
        value_time: Option<Present>,
        value_date_time: Option<Present>,
        value_period: Option<Present>,
        reference_range: Vec<ReferenceRange<'a>>,
        component: Vec<Component<'a>>,
    }

    /// MedicationRequest (R4 §11.1).
    MedicationRequest {
        id,
        meta: Option<&'a RawValue>,
        contained: Contained<'a>,
        status: Option<Text<'a>>,
        intent: Option<Text<'a>>,
        do_not_perform: Option<bool>,
        medication_codeable_concept: Option<CodeableConcept<'a>>,
        medication_reference: Option<Reference<'a>>,
        subject: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        authored_on: Option<Text<'a>>,
        dispense_request: Option<DispenseRequest<'a>>,
        dosage_instruction: Vec<Dosage<'a>>,
    }

    /// MedicationAdministration (R4 §11.3).
    MedicationAdministration {
        id,
        meta: Option<&'a RawValue>,
        contained: Contained<'a>,
        status: Option<Text<'a>>,
        medication_codeable_concept: Option<CodeableConcept<'a>>,
        medication_reference: Option<Reference<'a>>,
        subject: Option<Reference<'a>>,
        context: Option<Reference<'a>>,
        effective_date_time: Option<Text<'a>>,
        effective_period: Option<Period<'a>>,
        dosage: Option<Dosage<'a>>,
    }

    /// MedicationStatement (R4 §11.4).
    MedicationStatement {
        id,
        meta: Option<&'a RawValue>,
        contained: Contained<'a>,
        status: Option<Text<'a>>,
        medication_codeable_concept: Option<CodeableConcept<'a>>,
        medication_reference: Option<Reference<'a>>,
        subject: Option<Reference<'a>>,
        context: Option<Reference<'a>>,
        effective_date_time: Option<Text<'a>>,
        effective_period: Option<Period<'a>>,
        date_asserted: Option<Text<'a>>,
        dosage: Vec<Dosage<'a>>,
    }

    /// MedicationDispense (R4 §11.2).
    MedicationDispense {
        id,
        meta: Option<&'a RawValue>,
        contained: Contained<'a>,
        status: Option<Text<'a>>,
        medication_codeable_concept: Option<CodeableConcept<'a>>,
        medication_reference: Option<Reference<'a>>,
        subject: Option<Reference<'a>>,
        context: Option<Reference<'a>>,
        when_prepared: Option<Text<'a>>,
        when_handed_over: Option<Text<'a>>,
        quantity: Option<Quantity<'a>>,
        days_supply: Option<Quantity<'a>>,
        dosage_instruction: Vec<Dosage<'a>>,
    }

    /// Medication (R4 §11.5).
    Medication { id, code: Option<CodeableConcept<'a>>, meta: Option<&'a RawValue> }

    /// Immunization (R4 §11.8).
    Immunization {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        vaccine_code: Option<CodeableConcept<'a>>,
        patient: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        occurrence_date_time: Option<Text<'a>>,
        recorded: Option<Text<'a>>,
        route: Option<CodeableConcept<'a>>,
    }

    /// AllergyIntolerance (R4 §9.1).
    AllergyIntolerance {
        id,
        meta: Option<&'a RawValue>,
        verification_status: Option<CodeableConcept<'a>>,
        code: Option<CodeableConcept<'a>>,
        patient: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        onset_date_time: Option<Text<'a>>,
        onset_period: Option<Period<'a>>,
        recorded_date: Option<Text<'a>>,
        last_occurrence: Option<Text<'a>>,
    }

    /// Device (R4 §8.7).
    Device {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        r#type: Option<CodeableConcept<'a>>,
        patient: Option<Reference<'a>>,
        manufacture_date: Option<Text<'a>>,
    }

    /// DiagnosticReport (R4 §10.3).
    DiagnosticReport {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        subject: Option<Reference<'a>>,
        encounter: Option<Reference<'a>>,
        effective_date_time: Option<Text<'a>>,
        effective_period: Option<Period<'a>>,
        issued: Option<Text<'a>>,
        conclusion: Option<Present>,
        conclusion_code: Vec<CodeableConcept<'a>>,
        presented_form: Option<Present>,
    }

    /// Specimen (R4 §10.6).
    Specimen {
        id,
        meta: Option<&'a RawValue>,
        status: Option<Text<'a>>,
        r#type: Option<CodeableConcept<'a>>,
        subject: Option<Reference<'a>>,
        received_time: Option<Text<'a>>,
        collection: Option<Collection<'a>>,
    }

    /// Consent (R4 §6.2): whose it is; the rest is handed on unread.
    Consent { id, patient: Option<Reference<'a>>, meta: Option<&'a RawValue> }
}

/// A resource that may say when its version came about.
pub trait Versioned {
    /// `Resource.meta`, unread: one that cannot be read breaks nothing.
    fn meta(&self) -> Option<&RawValue>;
}

macro_rules! versioned {
    ($($name:ident),* $(,)?) => {
        $(impl Versioned for $name<'_> {
            fn meta(&self) -> Option<&RawValue> {
                self.meta
            }
        })*
    };
}

versioned!(
    Dated,
    Patient,
    Encounter,
    Condition,
    Procedure,
    Observation,
    MedicationRequest,
    MedicationAdministration,
    MedicationStatement,
    MedicationDispense,
    Immunization,
    AllergyIntolerance,
    Device,
    DiagnosticReport,
    Specimen,
    Medication,
    Consent,
);

/// Encounter.hospitalization.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hospitalization<'a> {
    #[serde(borrow)]
    pub discharge_disposition: Option<CodeableConcept<'a>>,
    pub admit_source: Option<CodeableConcept<'a>>,
}

/// Observation.component.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Component<'a> {
    #[serde(borrow)]
    pub code: Option<CodeableConcept<'a>>,
    pub data_absent_reason: Option<Present>,
    pub value_quantity: Option<Quantity<'a>>,
    pub value_codeable_concept: Option<CodeableConcept<'a>>,
    pub value_string: Option<Present>,
    pub value_boolean: Option<bool>,
    pub value_integer: Option<i64>,
    pub value_range: Option<Present>,
    pub value_ratio: Option<Present>,
    pub value_sampled_data: Option<Present>,
    pub value_time: Option<Present>,
    pub value_date_time: Option<Present>,
    pub value_period: Option<Present>,
    pub reference_range: Vec<ReferenceRange<'a>>,
}

/// Dosage (R4 §2.40), or MedicationAdministration.dosage.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Dosage<'a> {
    #[serde(borrow)]
    pub route: Option<CodeableConcept<'a>>,
}

/// MedicationRequest.dispenseRequest.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DispenseRequest<'a> {
    #[serde(borrow)]
    pub validity_period: Option<Period<'a>>,
    pub number_of_repeats_allowed: Option<i64>,
    pub quantity: Option<Quantity<'a>>,
    pub expected_supply_duration: Option<Quantity<'a>>,
}

/// Specimen.collection.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Collection<'a> {
    #[serde(borrow)]
    pub collected_date_time: Option<Text<'a>>,
    pub collected_period: Option<Period<'a>>,
    pub quantity: Option<Quantity<'a>>,
    pub body_site: Option<CodeableConcept<'a>>,
}
