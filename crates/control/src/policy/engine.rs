//! The Cedar engine: compiles policies against the schema and evaluates them. The only file that names Cedar.
//!
//! An error in the evaluation of *any* rule is a denial: Cedar alone would skip a `forbid` that errors and let the rest
//! decide. A policy that does not validate against the schema is not accepted in the first place.

use std::collections::HashMap;
use std::str::FromStr;

use almoner_model::Digest;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression, Schema,
    ValidationMode, Validator,
};

use super::Facts;

const SCHEMA: &str = include_str!("../../../../schemas/policy/almoner.cedarschema");

/// The rules of the exchange, as compiled in.
pub const HOUSE: &str = include_str!("../../../../schemas/policy/house.cedar");

/// Why a policy is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EngineError {
    /// The schema of the exchange does not load; a test keeps that from shipping.
    #[error("the policy schema does not load")]
    Schema,
    /// Not Cedar.
    #[error("the policy is not Cedar: {0}")]
    Syntax(String),
    /// Cedar, but about things that the schema does not have.
    #[error("the policy does not fit the schema: {0}")]
    Schemaless(String),
    /// It permits nothing.
    #[error(
        "the policy has no permit, so it would refuse everything; say `permit (principal, action, resource);` at least"
    )]
    NoPermit,
}

/// A policy that was checked.
pub struct Policy {
    set: PolicySet,
    schema: Schema,
    digest: Digest,
}

/// What one policy says, with the reasons of the rules that forbade.
pub struct Answer {
    /// Whether it permits.
    pub permit: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

fn schema() -> Result<Schema, EngineError> {
    let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|_| EngineError::Schema)?;
    Ok(schema)
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`EngineError`], in the engine's words: a policy is its author's text and holds no patient's data.
    pub fn compile(text: &str) -> Result<Self, EngineError> {
        let set = PolicySet::from_str(text).map_err(|e| EngineError::Syntax(e.to_string()))?;
        let schema = schema()?;
        let checked = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            return Err(EngineError::Schemaless(error.to_string()));
        }
        if set.templates().next().is_some() {
            return Err(EngineError::Schemaless("templates are not used here".into()));
        }
        if !set.policies().any(|p| p.effect() == cedar_policy::Effect::Permit) {
            return Err(EngineError::NoPermit);
        }
        Ok(Self { set, schema, digest: Digest::of(text) })
    }

    /// The digest of its exact text: its version.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Evaluates it.
    pub fn answer(&self, facts: &Facts) -> Answer {
        let deny = |reason: &str| Answer { permit: false, reasons: vec![reason.to_owned()] };
        let Some(request) = request(facts, &self.schema) else {
            return deny("the request cannot be put to the rules");
        };
        let response = Authorizer::new().is_authorized(&request, &self.set, &Entities::empty());
        let diagnostics = response.diagnostics();
        if diagnostics.errors().next().is_some() {
            return deny("a rule failed while it was evaluated");
        }
        if response.decision() == Decision::Allow {
            return Answer { permit: true, reasons: Vec::new() };
        }
        let mut reasons: Vec<String> = diagnostics
            .reason()
            .map(|id| match self.set.policy(id).and_then(|p| p.annotation("reason")) {
                Some(reason) => reason.to_owned(),
                None => {
                    let named = self.set.policy(id).and_then(|p| p.annotation("id"));
                    format!("rule {} forbids it", named.map_or_else(|| id.to_string(), str::to_owned))
                }
            })
            .collect();
        reasons.sort();
        if reasons.is_empty() {
            reasons.push("no rule permits it".to_owned());
        }
        Answer { permit: false, reasons }
    }
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind = cedar_policy::EntityTypeName::from_str(kind).ok()?;
    Some(EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id)))
}

fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(items.into_iter().map(|t| RestrictedExpression::new_string(t.to_owned())))
}

fn record(pairs: Vec<(&str, RestrictedExpression)>) -> Option<RestrictedExpression> {
    RestrictedExpression::new_record(pairs.into_iter().map(|(k, v)| (k.to_owned(), v))).ok()
}

fn request(facts: &Facts, schema: &Schema) -> Option<Request> {
    let text = |t: &str| RestrictedExpression::new_string(t.to_owned());
    let mut context: HashMap<&str, RestrictedExpression> = HashMap::from([
        ("project", text(facts.project.as_str())),
        ("purpose", text(facts.purpose.id())),
        ("broader_purposes", texts(broader(facts.purpose))),
        ("modifiers", texts(facts.modifiers.iter().map(|m| m.id()))),
        ("today", RestrictedExpression::new_long(i64::from(facts.today.days()))),
    ]);
    let action = match &facts.release {
        None => "count",
        Some(release) => {
            let ethics = record(vec![
                ("board", text(&release.ethics.board)),
                ("protocol", text(&release.ethics.protocol)),
                ("expires", RestrictedExpression::new_long(i64::from(release.ethics.expires.days()))),
            ])?;
            context.extend([
                ("diseases", texts(release.diseases.iter().map(String::as_str))),
                ("methods", RestrictedExpression::new_bool(release.methods)),
                ("tables", texts(release.tables.iter().map(String::as_str))),
                ("tier", text(&release.tier)),
                ("profile", text(&release.profile)),
                ("ethics", ethics),
                ("decision", text(&release.decision)),
                ("terms_signed", RestrictedExpression::new_bool(release.terms_signed)),
            ]);
            if let Some(basis) = &release.legal_basis {
                let mut pairs = vec![("kind", text(&basis.kind)), ("profile", text(&basis.profile))];
                if let Some(day) = basis.expires {
                    pairs.push(("expires", RestrictedExpression::new_long(i64::from(day.days()))));
                }
                context.insert("legal_basis", record(pairs)?);
            }
            "release"
        }
    };
    let context = Context::from_pairs(context.into_iter().map(|(k, v)| (k.to_owned(), v))).ok()?;
    Request::new(
        uid("Recipient", facts.recipient.as_str())?,
        uid("Action", action)?,
        uid("Contributor", facts.contributor.as_str())?,
        context,
        Some(schema),
    )
    .ok()
}

fn broader(purpose: almoner_model::Duo) -> Vec<&'static str> {
    std::iter::successors(Some(purpose), |p| p.parent()).map(almoner_model::Duo::id).collect()
}
