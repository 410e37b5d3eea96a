//! The OpenAPI description, made from the router. `openapi/almoner.json` is the same, checked in; a test holds them equal.
//!
//! Beside what each operation says of itself, every operation documents the problems that the framework can answer with,
//! so that no status is undocumented.

use actix_web::App;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_actix_web::AppExt as _;

use super::error::{Kind, PROBLEM_JSON, Problem};
use super::router;

/// Problems that any operation may answer with.
const ANYWHERE: &[(&str, &str)] = &[
    ("400", "The call is malformed"),
    ("401", "No token, or one that does not work"),
    ("403", "The token does not permit this, or a rule forbids it"),
    ("404", "There is no such thing, or none that the caller may see"),
    ("405", "There is no such operation here"),
    ("408", "The request came too slowly"),
    ("500", "The server failed; the problem names the request id under which its log has more"),
    ("503", "Not now; try again later"),
];

/// Problems of operations that take a body.
const WITH_BODY: &[(&str, &str)] = &[
    ("409", "The state is another: look again"),
    ("413", "The body is too large"),
    ("415", "The body is of another media type"),
    ("422", "Understood, but not acceptable; or refused by a privacy gate, with what was measured"),
];

/// The description of the whole interface.
pub fn document() -> OpenApi {
    let (_, mut api) =
        App::new().into_utoipa_app().openapi(base()).configure(router::routes).split_for_parts();
    let components = api.components.get_or_insert_with(Default::default);
    components.schemas.insert("Problem".into(), Problem::schema());
    components.schemas.insert("Kind".into(), Kind::schema());
    let mut nested = Vec::new();
    Problem::schemas(&mut nested);
    components.schemas.extend(nested);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("alm_<id>_<secret>")
        .description(Some(
            "An API token. The names listed with an operation are permissions: see docs/permissions.md.",
        ));
    components.security_schemes.insert("token".into(), RefOr::T(SecurityScheme::Http(bearer.build())));
    for item in api.paths.paths.values_mut() {
        complete(item);
    }
    api
}

fn base() -> OpenApi {
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Almoner")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "De-identified clinical data to research under patients' consent, with a ledger that proves it. \
                     Errors are problem details (RFC 9457) of five kinds: invalid, denied, conflict, refused, fault.",
                ))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
                .build(),
        )
        .build()
}

fn complete(item: &mut PathItem) {
    let operations =
        [&mut item.get, &mut item.head, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    for operation in operations.into_iter().flatten() {
        let body = operation.request_body.is_some();
        let extra = if body { WITH_BODY } else { &WITH_BODY[..1] };
        for (status, text) in ANYWHERE.iter().chain(extra) {
            operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| problem(text));
        }
    }
}

fn problem(text: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    RefOr::T(ResponseBuilder::new().description(text).content(PROBLEM_JSON, content).build())
}
