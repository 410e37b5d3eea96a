//! Pages for people: the landing page, the participant's, and the description of the API. Rendered here, no assets from elsewhere.

use actix_web::{HttpResponse, web};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub mod landing;
pub mod participant;

/// Registers the pages.
pub fn routes(config: &mut web::ServiceConfig, document: &OpenApi) {
    let text = document.to_pretty_json().expect("the description is plain text");
    let swagger = Config::new(["/openapi.json"]).try_it_out_enabled(true).persist_authorization(false);
    config
        .route("/", web::get().to(landing::page))
        .route("/me", web::get().to(participant::page))
        .route("/me.js", web::get().to(participant::script))
        .route(
            "/openapi.json",
            web::get().to(move || {
                let text = text.clone();
                async move { HttpResponse::Ok().content_type("application/json").body(text) }
            }),
        )
        .route(
            "/docs",
            web::get().to(|| async {
                HttpResponse::PermanentRedirect().insert_header(("Location", "/docs/")).finish()
            }),
        )
        .service(SwaggerUi::new("/docs/{_:.*}").config(swagger));
}
