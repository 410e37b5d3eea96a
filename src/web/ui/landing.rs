//! The landing page: what this server is, and where to go on.

use actix_web::{HttpResponse, web};

use crate::app::App;

/// `GET /`
pub async fn page(app: web::Data<App>) -> HttpResponse {
    let checkpoint = app.store.checkpoint().checkpoint;
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        ))
        .body(render(&app.marker.origin, checkpoint.size, &hex::encode(checkpoint.root)))
}

/// The page for a ledger of this origin, size and root.
pub fn render(origin: &str, size: u64, root: &str) -> String {
    include_str!("landing.html")
        .replace("{{origin}}", &escape(origin))
        .replace("{{size}}", &size.to_string())
        .replace("{{root}}", &escape(root))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_and_escapes() {
        let page = render("<b>", 7, "00ff");
        assert!(page.contains("&lt;b&gt;") && page.contains(">7<") && page.contains("00ff"));
        assert!(!page.contains("{{"));
    }
}
