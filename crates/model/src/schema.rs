//! JSON Schemas of the values of this crate, for whoever describes a format made of them (feature `schema`).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::consent::{Category, CategorySet, Statement};
use crate::{
    ContributorId, DatasetId, Date, Digest, Duo, ProjectId, RecipientId, ReleaseId, RequestId, SubjectId,
    Timestamp,
};

macro_rules! described {
    ($($type:ty, $name:literal, $schema:expr;)*) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })*
    };
}

fn slug() -> Schema {
    json_schema!({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"})
}

described! {
    ContributorId, "ContributorId", slug();
    DatasetId, "DatasetId", slug();
    ProjectId, "ProjectId", slug();
    RecipientId, "RecipientId", slug();
    ReleaseId, "ReleaseId", slug();
    RequestId, "RequestId", slug();
    SubjectId, "SubjectId", json_schema!({"type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_i64});
    Digest, "Digest", json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    Timestamp, "Timestamp", json_schema!({"type": "string", "format": "date-time"});
    Date, "Date", json_schema!({"type": "string", "format": "date"});
    Duo, "Duo", json_schema!({"type": "string", "enum": Duo::ALL.iter().map(|d| d.id()).collect::<Vec<_>>()});
    CategorySet, "CategorySet", json_schema!({
        "type": "array", "uniqueItems": true,
        "items": {"type": "string", "enum": Category::ALL.iter().map(|c| serde_json::json!(c)).collect::<Vec<_>>()},
    });
    Statement, "Statement", json_schema!({
        "type": "string", "enum": Statement::ALL.iter().map(|s| serde_json::json!(s)).collect::<Vec<_>>(),
    });
}
