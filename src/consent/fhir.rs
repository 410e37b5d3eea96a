//! A FHIR R4 Consent resource (<https://hl7.org/fhir/R4/consent.html>) read as a [`Directive`]. Pure.
//!
//! - Only `status` active is in force; inactive and entered-in-error end what was said before; rejected is a denial; draft
//!   and proposed say nothing yet. Any other status ends what was permitted before, and what it denies is denied.
//! - The base rule is `policyRule` (OPTIN, OPTINR, OPTOUT, OPTOUTE, EMRGONLY) or the root provision's type. A root provision
//!   of the opposite type is an exception to the base rule. Without either, only nested provisions speak. OPTINR permits
//!   only where the restrictions that it speaks of are there.
//! - A permission counts only for research: in a Consent of scope `research`, or where a provision names a research
//!   purpose. Consents of other scopes still deny.
//! - A permission with permissions nested in it permits only what they do.
//! - Whatever narrows a rule and is not understood (an actor that is no known recipient, a single resource, a code, an
//!   unknown purpose) is kept as a path in [`Provision::not_understood`]: it voids a permission and widens a denial. A denial
//!   within what cannot be read is total.
//! - A denial is never lost for its date. What has none, or one in the future, permits nothing and denies from now on; a
//!   partial date is any of its days, of which [`SubjectState::governing`](super::SubjectState::governing) takes for each
//!   question the one that is on the side of the denial. What ends a consent or rejects it happened at some time from the
//!   consent's own date to the resource's last change, or today where that is not told.
//!
//! It does not keep names, references or any value that is not a code known here.

use almoner_model::{Date, DatePrecision, Digest, Duo, PartialDate, RecipientId, Timestamp};
use serde_json::Value;

use super::category::Category;
use super::directive::{Coverage, DataPeriod, Directive, Effect, Period, Provision, Signed, Source, Status};

/// What became of a resource.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    /// A directive to record.
    Directive(Box<Directive>),
    /// It says nothing (yet), by a stable rule name.
    Nothing(&'static str),
}

/// Elements that say nothing about what is permitted.
const SILENT: &[&str] = &[
    "resourceType",
    "id",
    "meta",
    "language",
    "text",
    "identifier",
    "status",
    "scope",
    "category",
    "patient",
    "dateTime",
    "performer",
    "organization",
    "sourceAttachment",
    "sourceReference",
    "policy",
    "policyRule",
    "verification",
    "provision",
    "contained",
    "extension",
];

/// The first day that something without a date can have been said: before any that is dated.
const LONG_AGO: Date = Date::from_days(-25_567);

/// Provisions deeper than this are not read, so that with what is put around them the tree stays within what the state
/// takes.
const DEPTH_MAX: usize = 4;

/// Reads a Consent. `lineage` names the document that it is a version of; `recipient` says which recipient an actor
/// reference is, where the exchange knows; `today` is the day on which it is heard.
pub fn read(
    consent: &Value,
    lineage: String,
    recipient: &dyn Fn(&str) -> Option<RecipientId>,
    today: Date,
) -> Reading {
    if consent["resourceType"] != "Consent" {
        return Reading::Nothing("not-a-consent");
    }
    let reader = Reader { recipient, hospitals: references(&consent["organization"]) };
    let mut rules = reader.rules(consent);
    let mut ended = true;
    let status = match consent["status"].as_str() {
        Some("active") => {
            ended = false;
            Status::Active
        }
        Some("rejected") => {
            rules = Provision::new(Effect::Deny);
            Status::Active
        }
        Some("inactive" | "entered-in-error") => Status::Inactive,
        Some("draft" | "proposed") => return Reading::Nothing("not-yet-in-force"),
        _ => {
            rules = rules.denials_only();
            rules.not_understood.push("Consent.status".into());
            if rules.has(Effect::Deny) { Status::Active } else { Status::Inactive }
        }
    };
    let dated = dated(consent, today);
    let signed = match dated {
        Ok(signed) if !ended => signed,
        Ok(signed) => Signed::between(signed.first_day(), changed(consent, today).max(signed.date)),
        Err(_) if ended => Signed::between(LONG_AGO, changed(consent, today)),
        Err(rule) => {
            rules = rules.denials_only();
            rules.not_understood.push("Consent.dateTime".into());
            if !rules.has(Effect::Deny) {
                return Reading::Nothing(rule);
            }
            Signed::between(LONG_AGO, today)
        }
    };
    Reading::Directive(Box::new(Directive {
        source: Source::Fhir,
        lineage,
        signed,
        status,
        covers: Coverage::Contributor,
        form: None,
        evidence: serde_json::to_vec(consent).ok().map(Digest::of),
        rules,
    }))
}

/// What is heard `today` of a document that was deleted at its source: what it permitted ends. What it denied does not: a
/// resource that is gone takes nothing back.
pub fn deleted(lineage: String, today: Date) -> Directive {
    Directive {
        source: Source::Fhir,
        lineage,
        signed: Signed::between(LONG_AGO, today),
        status: Status::Inactive,
        covers: Coverage::Contributor,
        form: None,
        evidence: None,
        rules: Provision::new(Effect::Silent),
    }
}

/// When it was given: an instant, a day, or any day of a month or year that has begun. Otherwise the rule that it breaks.
fn dated(consent: &Value, today: Date) -> Result<Signed, &'static str> {
    let text = consent["dateTime"].as_str().ok_or("no-date")?;
    let signed = match Timestamp::parse(text) {
        Some(at) => {
            let date = text.get(..10).and_then(|day| Date::parse(day.as_bytes())).ok_or("no-date")?;
            Signed { date, since: None, at: Some(at) }
        }
        None => {
            let given = PartialDate::parse(text.as_bytes()).ok_or("no-date")?;
            let last = last_day(given);
            let last = if given.precision == DatePrecision::Day { last } else { last.min(today) };
            Signed::between(given.date, last.max(given.date))
        }
    };
    if signed.is_after(Timestamp::from_date(today)) { Err("date-in-future") } else { Ok(signed) }
}

/// The day on which this version of the resource was made, or is heard.
fn changed(consent: &Value, today: Date) -> Date {
    let told = consent["meta"]["lastUpdated"].as_str().and_then(Timestamp::parse).map(Timestamp::date);
    told.map_or(today, |day| day.min(today))
}

fn references(list: &Value) -> Vec<&str> {
    items(list).iter().filter_map(|r| r["reference"].as_str()).collect()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The codings of a CodeableConcept, or a Coding itself, as `(system, code)`.
fn codings(concept: &Value) -> Vec<(&str, &str)> {
    match concept["coding"].as_array() {
        Some(list) => list
            .iter()
            .map(|c| (c["system"].as_str().unwrap_or(""), c["code"].as_str().unwrap_or("")))
            .collect(),
        None => vec![(concept["system"].as_str().unwrap_or(""), concept["code"].as_str().unwrap_or(""))],
    }
}

struct Reader<'a> {
    recipient: &'a dyn Fn(&str) -> Option<RecipientId>,
    hospitals: Vec<&'a str>,
}

/// What a purpose code means for research.
enum Aim {
    Research(Duo),
    Other,
}

impl Reader<'_> {
    fn rules(&self, consent: &Value) -> Provision {
        let research = codings(&consent["scope"]).iter().any(|(_, code)| *code == "research");
        let mut unclear: Vec<String> = Vec::new();
        if let Some(object) = consent.as_object() {
            let strange = object.keys().filter(|k| !SILENT.contains(&k.as_str()) && !k.starts_with('_'));
            unclear.extend(strange.map(|_| "Consent: an element that is not of R4".to_owned()));
        }
        if unreadable_denial(consent) {
            return Provision { not_understood: unclear, ..Provision::new(Effect::Deny) };
        }
        let base = base_rule(consent, &mut unclear);
        let root = &consent["provision"];
        if !root.is_null() && !root.is_object() {
            unclear.push("Consent.provision".into());
        }
        let root_type = effect(&root["type"]);
        if !root["type"].is_null() && root_type.is_none() {
            unclear.push("Consent.provision.type".into());
        }
        let mut own = self.provision(root, "Consent.provision", 0);
        own.effect = match root_type.or(base) {
            _ if own.effect == Effect::Deny => Effect::Deny,
            Some(effect) => effect,
            None => Effect::Silent,
        };
        let narrowed_by_more =
            root_type.is_none() && ["actor", "data"].iter().any(|key| !items(&root[*key]).is_empty());
        let mut rules = match base {
            // An exception to the base rule.
            Some(base) if root_type.is_some_and(|t| t != base) => {
                Provision { provisions: vec![own], ..Provision::new(base) }
            }
            // An opt-out is total whatever an untyped root provision narrows it to.
            Some(Effect::Deny) if root_type.is_none() => {
                own.effect = Effect::Silent;
                Provision { provisions: vec![own], ..Provision::new(Effect::Deny) }
            }
            _ => own,
        };
        if narrowed_by_more {
            // Scope of the rule or exception from it: R4 does not say.
            unclear.push("Consent.provision: conditions without a type".into());
        }
        rules.not_understood.extend(unclear);
        only_what_is_nested(&mut rules);
        if !research {
            only_for_research(&mut rules);
        }
        rules
    }

    fn provision(&self, node: &Value, path: &str, depth: usize) -> Provision {
        let mut out = Provision::new(effect(&node["type"]).unwrap_or(Effect::Silent));
        let denies = out.effect == Effect::Deny;
        let mut unclear: Vec<String> = Vec::new();
        for key in node.as_object().into_iter().flat_map(|o| o.keys()) {
            let listed = ["purpose", "actor", "action", "class", "securityLabel", "provision"];
            let objects = |list: &Vec<Value>| list.iter().all(Value::is_object);
            if listed.contains(&key.as_str()) && !node[key].as_array().is_some_and(objects) {
                // What is not of the type that R4 says would otherwise say nothing, and so widen a permission.
                unclear.push(format!("{path}.{key}"));
                if mentions_denial(&node[key]) {
                    out.effect = Effect::Deny;
                }
                continue;
            }
            match key.as_str() {
                "type" | "provision" | "id" | "extension" => {}
                "period" => match period(&node["period"], denies) {
                    Some(period) => out.period = Some(period),
                    None => unclear.push(format!("{path}.period")),
                },
                "dataPeriod" => match data_period(&node["dataPeriod"]) {
                    Some(period) => out.data = Some(period),
                    None => unclear.push(format!("{path}.dataPeriod")),
                },
                "purpose" => purposes(&node["purpose"], &mut out, path, &mut unclear),
                "actor" => self.actors(&node["actor"], &mut out, path, &mut unclear),
                "action" => actions(&node["action"], path, &mut unclear),
                "class" => classes(&node["class"], &mut out, path, &mut unclear),
                "securityLabel" => labels(&node["securityLabel"], &mut out, path, &mut unclear),
                other if other.starts_with('_') => {}
                other => {
                    let known = ["code", "data", "modifierExtension"].iter().find(|k| **k == other);
                    unclear.push(format!("{path}.{}", known.unwrap_or(&"?")));
                }
            }
        }
        if depth < DEPTH_MAX {
            for (n, child) in items(&node["provision"]).iter().enumerate() {
                let path = format!("{path}.provision[{n}]");
                let mut nested = self.provision(child, &path, depth + 1);
                if effect(&child["type"]).is_none() {
                    // R4 requires a type here. Without one it may be either.
                    nested.not_understood.push(format!("{path}.type"));
                    nested.effect = Effect::Deny;
                }
                out.provisions.push(nested);
            }
        } else if !items(&node["provision"]).is_empty() {
            unclear.push(format!("{path}.provision: too deep"));
            if mentions_denial(&node["provision"]) {
                out.effect = Effect::Deny;
            }
        }
        out.not_understood = unclear;
        out
    }

    /// The hospital itself as custodian narrows nothing; a known recipient is one; anyone else is not understood.
    fn actors(&self, list: &Value, out: &mut Provision, path: &str, unclear: &mut Vec<String>) {
        for (n, actor) in items(list).iter().enumerate() {
            let role = codings(&actor["role"]).first().map_or("", |(_, code)| *code);
            let reference = actor["reference"]["reference"].as_str().unwrap_or("");
            if role == "CST" && self.hospitals.contains(&reference) {
                continue;
            }
            match (self.recipient)(reference).filter(|_| matches!(role, "PRCP" | "IRCP")) {
                Some(recipient) => out.recipients.push(recipient),
                None => unclear.push(format!("{path}.actor[{n}]")),
            }
        }
    }
}

/// A denial however it is written; a permission only as R4 writes it.
fn effect(kind: &Value) -> Option<Effect> {
    match kind.as_str() {
        Some("permit") => Some(Effect::Permit),
        Some(text) if text.trim().eq_ignore_ascii_case("deny") => Some(Effect::Deny),
        _ => None,
    }
}

/// Whether something that cannot be read as R4 says speaks of a denial anywhere.
fn mentions_denial(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(key, value)| {
            (matches!(key.as_str(), "type" | "decision") && effect(value) == Some(Effect::Deny))
                || mentions_denial(value)
        }),
        Value::Array(items) => items.iter().any(mentions_denial),
        _ => false,
    }
}

/// Whether a denial stands where R4 has none: in an element of another version (R5 has `decision`, and several root
/// provisions).
fn unreadable_denial(consent: &Value) -> bool {
    let Some(object) = consent.as_object() else { return false };
    let root = &consent["provision"];
    (!root.is_object() && mentions_denial(root))
        || effect(&consent["decision"]) == Some(Effect::Deny)
        || object.iter().any(|(key, value)| !SILENT.contains(&key.as_str()) && mentions_denial(value))
}

/// The base rule: consent directives of HL7 v3 ActCode. Of several the stricter; a denial however it is written.
fn base_rule(consent: &Value, unclear: &mut Vec<String>) -> Option<Effect> {
    let mut found = None;
    for (_, code) in codings(&consent["policyRule"]) {
        match code.trim().to_ascii_uppercase().as_str() {
            "OPTOUT" | "OPTOUTE" | "EMRGONLY" => found = Some(Effect::Deny),
            "OPTIN" | "OPTINR" if code.trim() != code || code.chars().any(|c| c.is_ascii_lowercase()) => {
                unclear.push("Consent.policyRule".into());
            }
            "OPTINR" if !restricts(&consent["provision"]) => unclear.push("Consent.policyRule".into()),
            "OPTIN" | "OPTINR" if found.is_none() => found = Some(Effect::Permit),
            "OPTIN" | "OPTINR" | "" => {}
            _ => unclear.push("Consent.policyRule".into()),
        }
    }
    found
}

/// Whether a root provision holds any restriction.
fn restricts(root: &Value) -> bool {
    let narrows =
        |key: &String| !matches!(key.as_str(), "type" | "id" | "extension") && !key.starts_with('_');
    root.as_object().is_some_and(|members| members.keys().any(narrows))
}

/// A permission nested in a permission adds nothing unless the outer one was meant to be narrowed by it, so it is.
fn only_what_is_nested(node: &mut Provision) {
    if node.effect == Effect::Permit && node.provisions.iter().any(|p| p.effect == Effect::Permit) {
        node.effect = Effect::Silent;
    }
    node.provisions.iter_mut().for_each(only_what_is_nested);
}

/// Permissions in a consent that is not about research count only where they name a research purpose; the others permit
/// care, and the exceptions to them remain.
fn only_for_research(node: &mut Provision) {
    node.provisions.iter_mut().for_each(only_for_research);
    if node.effect == Effect::Permit && node.purposes.is_empty() {
        node.effect = Effect::Silent;
        node.provisions.push(Provision::permit([Duo::ClinicalCare]));
    }
}

fn purposes(list: &Value, out: &mut Provision, path: &str, unclear: &mut Vec<String>) {
    for (n, purpose) in items(list).iter().enumerate() {
        for (_, code) in codings(purpose) {
            match aim(code) {
                Some(Aim::Research(term)) => out.purposes.push(term),
                Some(Aim::Other) => out.purposes.push(Duo::ClinicalCare),
                None => unclear.push(format!("{path}.purpose[{n}]")),
            }
        }
    }
}

/// HL7 v3 PurposeOfUse codes (v3-ActReason) and DUO terms. Known purposes that are not research become clinical care, which
/// covers no research and is covered by none.
fn aim(code: &str) -> Option<Aim> {
    let duo = code.rsplit('/').next().unwrap_or(code).replace('_', ":");
    if let Ok(term) = duo.parse::<Duo>() {
        return is_permission(term).then_some(Aim::Research(term));
    }
    Some(match code {
        // Clinical trials and the like are less than health research, and no DUO term says them: not understood.
        "HRESCH" | "BIORCH" => Aim::Research(Duo::HealthResearch),
        "POARCH" => Aim::Research(Duo::PopulationResearch),
        "TREAT" | "ETREAT" | "BTG" | "ERTREAT" | "CAREMGT" | "CLINTRL" | "POPHLTH" | "HPAYMT" | "COVAUTH"
        | "COVERAGE" | "ELIGDTRM" | "ELIGVER" | "ENROLLM" | "CLMATTCH" | "REMITADV" | "HOPERAT" | "DONAT"
        | "FRAUD" | "GOV" | "HACCRED" | "HCOMPL" | "HDECD" | "HDIRECT" | "HDM" | "HLEGAL" | "HOUTCOMS"
        | "HPRGRP" | "HQUALIMP" | "HSYSADMIN" | "LABELING" | "MEMADMIN" | "MILDCRG" | "PATADMIN"
        | "PATSFTY" | "PERFMSR" | "RECORDMGT" | "SYSDEV" | "HTEST" | "TRAIN" | "HMARKT" | "PATRQT"
        | "FAMRQT" | "PWATRNY" | "SUPNWK" | "PUBHLTH" | "DISASTER" | "THREAT" => Aim::Other,
        _ => return None,
    })
}

const fn is_permission(term: Duo) -> bool {
    matches!(
        term,
        Duo::NoRestriction
            | Duo::GeneralResearch
            | Duo::HealthResearch
            | Duo::PopulationResearch
            | Duo::ClinicalCare
    )
}

/// Access, use and disclosure are what a release does. A rule about anything else only is not about releases.
fn actions(list: &Value, path: &str, unclear: &mut Vec<String>) {
    let codes: Vec<&str> = items(list).iter().flat_map(codings).map(|(_, code)| code).collect();
    if !codes.is_empty() && !codes.iter().any(|c| matches!(*c, "access" | "use" | "disclose")) {
        unclear.push(format!("{path}.action"));
    }
}

fn classes(list: &Value, out: &mut Provision, path: &str, unclear: &mut Vec<String>) {
    for (n, class) in items(list).iter().enumerate() {
        let found: &[Category] = match codings(class).first().map_or("", |(_, code)| *code) {
            "Patient" => &[Category::Demographics],
            "Encounter" => &[Category::Visits],
            "Condition" => &[Category::Conditions],
            "MedicationRequest"
            | "MedicationAdministration"
            | "MedicationStatement"
            | "MedicationDispense"
            | "Immunization" => &[Category::Drugs],
            "Procedure" => &[Category::Procedures],
            "Device" | "DeviceUseStatement" => &[Category::Devices],
            "Observation" => &[Category::Measurements, Category::Observations],
            "DocumentReference" => &[Category::Notes],
            "Specimen" => &[Category::Specimens],
            _ => &[],
        };
        if found.is_empty() {
            unclear.push(format!("{path}.class[{n}]"));
        }
        out.categories.extend(found);
    }
}

/// Sensitivity labels (v3-ActCode, InformationSensitivityPolicy). Levels of confidentiality are not kept with rows here, so
/// a rule that speaks of them is not understood.
fn labels(list: &Value, out: &mut Provision, path: &str, unclear: &mut Vec<String>) {
    for (n, label) in items(list).iter().enumerate() {
        let found = match codings(label).first().map_or("", |(_, code)| *code) {
            "PSY" | "PSYTHPN" | "MH" | "BH" => Category::MentalHealth,
            "ETH" | "ETHUD" | "OPIOIDUD" | "SUD" | "ALC" => Category::SubstanceUse,
            "HIV" => Category::Hiv,
            "SEX" | "STD" | "PREG" => Category::SexualHealth,
            "DV" | "SDV" | "VIO" => Category::Violence,
            _ => {
                unclear.push(format!("{path}.securityLabel[{n}]"));
                continue;
            }
        };
        out.categories.push(found);
    }
}

/// A FHIR Period: a partial date means all of it; for a denial wherever on earth its first and last days are.
fn period(value: &Value, denies: bool) -> Option<Period> {
    let (before, after) = if denies { (14 * 3_600_000, 12 * 3_600_000) } else { (0, 0) };
    let edge = |key: &str, end: bool| -> Option<Option<Timestamp>> {
        let Some(text) = value.get(key) else { return Some(None) };
        let text = text.as_str()?;
        if let Some(at) = Timestamp::parse(text) {
            return Some(Some(at));
        }
        let given = PartialDate::parse(text.as_bytes())?;
        if !end {
            return Some(Some(Timestamp::from_millis(Timestamp::from_date(given.date).millis() - before)));
        }
        let end = Timestamp::from_date(last_day(given).plus_days(1));
        Some(Some(Timestamp::from_millis(end.millis() - 1 + after)))
    };
    let (from, until) = (edge("start", false)?, edge("end", true)?);
    let in_order = from.zip(until).is_none_or(|(from, until)| from <= until);
    (value.is_object() && from.or(until).is_some() && in_order).then_some(Period { from, until })
}

fn data_period(value: &Value) -> Option<DataPeriod> {
    let edge = |key: &str, end: bool| -> Option<Option<Date>> {
        let Some(text) = value.get(key) else { return Some(None) };
        let text = text.as_str()?;
        let given = PartialDate::parse(text.get(..10).unwrap_or(text).as_bytes())?;
        Some(Some(if end { last_day(given) } else { given.date }))
    };
    let (from, until) = (edge("start", false)?, edge("end", true)?);
    let in_order = from.zip(until).is_none_or(|(from, until)| from <= until);
    (value.is_object() && from.or(until).is_some() && in_order).then_some(DataPeriod { from, until })
}

fn last_day(given: PartialDate) -> Date {
    let (year, month) = (given.date.year(), given.date.month());
    let next = match given.precision {
        DatePrecision::Day => return given.date,
        DatePrecision::Month if month < 12 => Date::from_ymd(year, month + 1, 1),
        DatePrecision::Month | DatePrecision::Year => Date::from_ymd(year + 1, 1, 1),
    };
    next.map_or(given.date, |d| d.plus_days(-1))
}

#[cfg(test)]
mod tests;
