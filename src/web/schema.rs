//! How the identifiers of the model look in the OpenAPI description. `model` itself knows no HTTP.

use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! text_schema {
    ($($(#[$doc:meta])* $name:ident = $pattern:literal, $example:literal, $describe:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some($pattern))
                    .description(Some($describe))
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

text_schema! {
    /// Ids of contributors, datasets, projects, recipients, requests and releases.
    Slug = r"^[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,63}$", "north-general",
        "1 to 64 characters of a-z, 0-9, '-', '_' and single '.', beginning with a letter or digit";
    /// A SHA-256 digest.
    Sha256Hex = r"^[0-9a-f]{64}$", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "A SHA-256 digest in hexadecimal";
    /// A DUO term.
    DuoTerm = r"^(DUO:[0-9]{7}|[A-Z]{2,4})$", "DUO:0000006",
        "A term of the GA4GH Data Use Ontology, by its id or its shorthand such as HMB";
    /// An id that the server made.
    OpaqueId = r"^[0-9a-z_-]{1,64}$", "job_01k3v9", "An id that the server made";
}

/// An instant.
#[derive(Clone, Copy, Debug)]
pub struct Instant;

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2026-11-22T09:30:00.000Z")])
            .into()
    }
}

impl ToSchema for Instant {
    fn name() -> std::borrow::Cow<'static, str> {
        "Instant".into()
    }
}

/// A calendar date.
#[derive(Clone, Copy, Debug)]
pub struct CalendarDate;

impl PartialSchema for CalendarDate {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
            .examples([serde_json::json!("2027-12-31")])
            .into()
    }
}

impl ToSchema for CalendarDate {
    fn name() -> std::borrow::Cow<'static, str> {
        "CalendarDate".into()
    }
}
