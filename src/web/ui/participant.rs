//! The participant's page: one plain page with what they allowed, every use, and how to stop it.
//!
//! An invitation is a link to it, `/me#ali_…`: browsers do not send what follows `#`, so the code is in no log. The page
//! redeems it, hands the person their own link, `/me#alp_…`, and asks `/v1/me` for everything else. What it shows is built
//! from text only.

use std::fmt::Write as _;

use actix_web::HttpResponse;
use almoner_model::Duo;
use serde_json::{Map, Value, json};

use crate::consent::{Category, Source, WithdrawalMode};
use crate::flows::participant::modes;

/// What the page may load: itself, and what it asks of this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /me`
pub async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .insert_header(("Cache-Control", "no-store"))
        .body(render())
}

/// `GET /me.js`
pub async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(include_str!("participant.js"))
}

/// The page.
pub fn render() -> String {
    include_str!("participant.html")
        .replace("{{modes}}", &ways())
        .replace("{{sensitive}}", &sensitive())
        .replace("{{words}}", &words().to_string().replace('<', "\\u003c"))
}

const fn title(mode: WithdrawalMode) -> &'static str {
    match mode {
        WithdrawalMode::NoContact => "Do not contact me again",
        WithdrawalMode::NoFurtherAccess => "Nothing new from today on",
        WithdrawalMode::NoFurtherUse => "No further use",
        WithdrawalMode::Recall => "No further use, and destroy what was handed over",
    }
}

fn ways() -> String {
    let mut out = String::new();
    for (mode, meaning) in modes() {
        let (name, title) = (mode.as_str(), title(mode));
        let checked = if mode == WithdrawalMode::NoFurtherUse { " checked" } else { "" };
        let _ = writeln!(
            out,
            "<label class=\"way\"><input type=\"radio\" name=\"mode\" value=\"{name}\"{checked}>{title}<span>{meaning}</span></label>"
        );
    }
    out
}

fn sensitive() -> String {
    let mut out = String::new();
    for category in Category::ALL.iter().filter(|c| c.is_sensitive()) {
        let (name, words) = (category.name(), in_words(*category));
        let _ = writeln!(
            out,
            "<label><input type=\"checkbox\" name=\"without\" value=\"{name}\">What shows {words}</label>"
        );
    }
    out
}

const fn in_words(category: Category) -> &'static str {
    match category {
        Category::Demographics => "age, sex and area",
        Category::Visits => "visits",
        Category::Conditions => "illnesses",
        Category::Drugs => "medicines",
        Category::Procedures => "treatments",
        Category::Devices => "devices",
        Category::Measurements => "measurements",
        Category::Observations => "observations",
        Category::Deaths => "death",
        Category::Notes => "notes",
        Category::Specimens => "samples",
        Category::MentalHealth => "mental health",
        Category::SubstanceUse => "alcohol and drug use",
        Category::SexualHealth => "sexual health",
        Category::Hiv => "HIV",
        Category::Genetics => "genetics",
        Category::Violence => "violence",
    }
}

/// What the page calls things.
fn words() -> Value {
    let purpose = |duo: &Duo| match duo {
        Duo::HealthResearch => "research on health and illness",
        Duo::GeneralResearch => "all research",
        other => other.label(),
    };
    let purposes: Map<String, Value> = Duo::ALL.iter().map(|d| (d.to_string(), purpose(d).into())).collect();
    let categories: Map<String, Value> =
        Category::ALL.iter().map(|c| (c.name().to_owned(), in_words(*c).into())).collect();
    let modes: Map<String, Value> = modes()
        .into_iter()
        .map(|(m, meaning)| (m.as_str().to_owned(), json!({"title": title(m), "meaning": meaning})))
        .collect();
    let source = |s: Source| serde_json::to_value(s).ok().and_then(|v| v.as_str().map(str::to_owned));
    let sources: Map<String, Value> = [
        (Source::Form, "You signed a paper"),
        (Source::Fhir, "Your hospital sent your consent"),
        (Source::Participant, "You decided here"),
    ]
    .into_iter()
    .filter_map(|(s, words)| Some((source(s)?, words.into())))
    .collect();
    json!({"purposes": purposes, "categories": categories, "modes": modes, "sources": sources})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_and_names_everything() {
        let page = render();
        assert!(!page.contains("{{"));
        for (mode, _) in modes() {
            assert!(page.contains(&format!("value=\"{}\"", mode.as_str())), "{mode:?}");
        }
        let from = page.find("application/json\">").expect("the words") + "application/json\">".len();
        let until = from + page[from..].find("</script>").expect("their end");
        let words: Value = serde_json::from_str(&page[from..until]).expect("JSON");
        assert_eq!(words["purposes"]["DUO:0000006"], "research on health and illness");
        assert_eq!(words["sources"].as_object().map(Map::len), Some(3));
        for category in Category::ALL {
            assert!(words["categories"][category.name()].is_string(), "{category:?}");
        }
    }

    #[test]
    fn nothing_that_is_shown_can_become_markup() {
        let script = include_str!("participant.js");
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"]
        {
            assert!(!script.contains(way), "{way}");
        }
    }
}
