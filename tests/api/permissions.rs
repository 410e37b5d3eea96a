//! Who may call what. `docs/permissions.md` is the golden matrix: it is made from the OpenAPI description, and every cell is
//! tried over HTTP with a token of the role. `ALMONER_BLESS=1` writes the file anew, for review.

use std::collections::BTreeMap;
use std::path::Path;

use almoner::web::auth::Role;
use almoner::web::auth::roles::PERMISSIONS;
use serde_json::{Value, json};

use crate::house::House;

struct Operation {
    id: String,
    method: String,
    path: String,
    permission: String,
    roles: Vec<Role>,
    body: bool,
}

fn operations() -> Vec<Operation> {
    let api = serde_json::to_value(almoner::web::openapi::document()).expect("JSON");
    let known: BTreeMap<&str, &[Role]> = PERMISSIONS.iter().copied().collect();
    let mut all = Vec::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let named = operation["security"][0]["token"][0].as_str();
            let permission = named.unwrap_or("read_public").to_owned();
            let roles =
                known.get(permission.as_str()).unwrap_or_else(|| panic!("{id}: no permission {permission}"));
            let body = operation.get("requestBody").is_some();
            let method = method.to_uppercase();
            all.push(Operation { id, method, path: path.clone(), permission, roles: roles.to_vec(), body });
        }
    }
    all.sort_by(|a, b| (&a.path, &a.method).cmp(&(&b.path, &b.method)));
    all
}

fn matrix(operations: &[Operation]) -> String {
    let mut out = String::from(
        "# Who may call what\n\nMade from the interface itself and checked over HTTP for every role by `tests/api/permissions.rs`. \
         A dot is a refusal (401 or 403).\nWithin a kind of thing a caller sees its own: a contributor its data, a researcher its \
         projects, a board the contributors it is for.\n\n| operation | call | permission |",
    );
    for role in Role::ALL {
        out += &format!(" {role} |");
    }
    out += "\n|---|---|---|";
    out += &":-:|".repeat(Role::ALL.len());
    out.push('\n');
    for o in operations {
        out += &format!("| {} | `{} {}` | {} |", o.id, o.method, o.path, o.permission);
        for role in Role::ALL {
            out += if o.roles.contains(&role) { " yes |" } else { " · |" };
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_matrix_that_boards_read_is_the_one_that_holds() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/permissions.md");
    let made = matrix(&operations());
    #[expect(clippy::disallowed_methods, reason = "a test is told to write its golden file anew")]
    if std::env::var("ALMONER_BLESS").is_ok() {
        std::fs::write(&file, &made).expect("written");
    }
    let stored = std::fs::read_to_string(&file).expect("docs/permissions.md");
    assert!(
        stored == made,
        "the permissions changed: review, then ALMONER_BLESS=1 cargo test --test api permissions"
    );
}

#[test]
fn every_role_is_refused_where_the_matrix_says_so_and_nowhere_else() {
    let house = House::open();
    let tokens: Vec<(Role, Option<String>)> = Role::ALL
        .into_iter()
        .map(|role| {
            let token = match role {
                Role::Operator => Some(house.token("operator", &[])),
                Role::Contributor => Some(house.token("contributor", &["north"])),
                Role::Board => Some(house.token("board", &["north"])),
                Role::Researcher => Some(house.token("researcher", &["p1"])),
                Role::Participant => Some(house.participant()),
                Role::Public => None,
            };
            (role, token)
        })
        .collect();
    let mut wrong = Vec::new();
    for operation in operations() {
        for (role, token) in &tokens {
            let answer = try_out(&house, &operation, token.as_deref());
            let refused = matches!(answer, Outcome::Refused);
            if refused == operation.roles.contains(role) {
                wrong.push(format!("{role} {} {}: {answer:?}", operation.method, operation.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[derive(Debug)]
enum Outcome {
    /// 401 or 403 by role, before anything else was looked at.
    Refused,
    /// Anything else.
    Heard,
}

/// One call with path parameters that name nothing and, where there is a body, an empty object.
fn try_out(house: &House, operation: &Operation, token: Option<&str>) -> Outcome {
    let mut path = operation.path.clone();
    while let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
        path.replace_range(open..=close, "0");
    }
    let body = operation.body.then(|| json!({}).to_string());
    let headers: &[(&str, &str)] = if operation.body { &[("content-type", "application/json")] } else { &[] };
    let answer = house.call(&operation.method, &path, token, headers, body.as_deref().map(str::as_bytes));
    assert!(answer.status < 500, "{} {}: {}", operation.method, operation.path, answer.text);
    let detail = serde_json::from_str::<Value>(&answer.text)
        .ok()
        .and_then(|v| v["detail"].as_str().map(str::to_owned));
    let by_role =
        detail.is_some_and(|d| d.starts_with("A token of the role") || d.starts_with("This needs a token"));
    if matches!(answer.status, 401 | 403) && by_role { Outcome::Refused } else { Outcome::Heard }
}
