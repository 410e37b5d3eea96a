//! What cannot follow what: every impossible entry is refused, and refusing leaves nothing behind.

use std::collections::BTreeMap;

use almoner_model::{SubjectId, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::events::Actor;

#[derive(Default)]
struct Records {
    /// Days that have passed.
    days: i64,
    all: BTreeMap<(String, String), Value>,
    seq: u64,
}

impl View for Records {
    fn get(&self, kind: &str, key: &str) -> Option<Value> {
        self.all.get(&(kind.to_owned(), key.to_owned())).cloned()
    }

    fn scan(&self, kind: &str, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let of_kind = self.all.iter().filter(|((k, key), _)| k == kind && key.starts_with(prefix));
        let rest = of_kind.filter(|((_, key), _)| after.is_none_or(|a| key.as_str() > a));
        rest.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }
}

impl Records {
    fn say_of(&mut self, subject: Option<i64>, kind: &str, payload: Value) -> Result<(), String> {
        let actor = Actor { role: "system".into(), id: "test".into() };
        let entry = ProjectedEntry {
            seq: self.seq,
            time: Timestamp::from_millis(
                1_000_000_000_000 + self.days * 86_400_000 + i64::try_from(self.seq).expect("small"),
            ),
            kind,
            actor: &actor,
            subject: subject.map(|id| SubjectId::new(id).expect("in range")),
            payload: &payload,
        };
        let writes = Projections.project(&entry, self).map_err(|Rejection(why)| why)?;
        for write in writes {
            let key = (write.kind, write.key);
            match write.value {
                Some(value) => self.all.insert(key, value),
                None => self.all.remove(&key),
            };
        }
        self.seq += 1;
        Ok(())
    }

    fn say(&mut self, kind: &str, payload: Value) -> Result<(), String> {
        self.say_of(None, kind, payload)
    }

    fn refuses(&mut self, kind: &str, payload: Value, word: &str) {
        let before = self.all.clone();
        let why = self.say(kind, payload).expect_err(word);
        assert!(why.contains(word), "{why} does not say {word}");
        assert_eq!(self.all, before);
    }
}

fn digest() -> String {
    "ab".repeat(32)
}

fn dataset(id: &str, contributor: &str, version: u32) -> Value {
    json!({"dataset": id, "version": version, "contributor": contributor, "manifest": digest(),
        "profile": "date-shifted", "mode": "full", "persons": 1, "tables": {}})
}

fn request(id: &str, datasets: &[&str]) -> Value {
    json!({"request": id, "project": "p", "recipient": "r", "purpose": "DUO:0000006", "modifiers": [],
        "cohort": digest(), "datasets": datasets, "tables": ["person"], "tier": "public",
        "profile": "date-shifted", "lay_summary": "…",
        "ethics": {"protocol": "1", "board": "b", "expires": "2030-01-01"}})
}

fn decision(contributor: &str, word: &str, delegate: Option<&str>) -> Value {
    json!({"request": "q", "contributor": contributor, "decision": word, "delegate": delegate, "reason": "so"})
}

/// Three hospitals, two of them with a dataset, a project, and a request `q` for both datasets.
fn world() -> Records {
    let mut at = Records::default();
    for id in ["a", "b", "c"] {
        at.say(
            "contributor.registered",
            json!({"contributor": id, "name": id, "linkage": false, "k_min": null}),
        )
        .expect("registered");
    }
    at.say("dataset.published", dataset("da", "a", 1)).expect("published");
    at.say("dataset.published", dataset("db", "b", 1)).expect("published");
    at.say("project.created", json!({"project": "p", "title": "P", "recipient": "r"})).expect("created");
    at.say("request.submitted", request("q", &["da", "db"])).expect("submitted");
    at
}

fn status(at: &Records) -> &'static str {
    let view: &dyn View = at;
    read::request(&view, &"q".parse().expect("slug")).expect("reads").expect("there").status()
}

#[test]
fn data_belongs_to_who_registered_and_versions_follow_one_another() {
    let mut at = world();
    let register = json!({"contributor": "a", "name": "A", "linkage": true, "k_min": 3});
    at.refuses("contributor.registered", register, "is registered");
    at.refuses("dataset.published", dataset("dx", "x", 1), "not registered");
    at.refuses("dataset.published", dataset("da", "b", 2), "another contributor");
    at.refuses("dataset.published", dataset("da", "a", 3), "version after");
    at.refuses("dataset.published", dataset("da", "a", 1), "version after");
    at.say("dataset.published", dataset("da", "a", 2)).expect("the next");
    at.refuses("contract.published", json!({"contributor": "x", "policy": digest()}), "not registered");
    at.refuses("nothing.known", json!({}), "payload");
    at.refuses("dataset.published", json!({"dataset": "da"}), "payload");
}

#[test]
fn a_request_names_what_there_is() {
    let mut at = world();
    at.refuses("request.submitted", request("q", &["da"]), "was submitted");
    at.refuses("request.submitted", request("q2", &["da", "da"]), "twice");
    at.refuses("request.submitted", request("q2", &["dx"]), "no dataset dx");
    at.refuses("request.submitted", request("q2", &[]), "no dataset");
    let mut other = request("q2", &["da"]);
    other["recipient"] = "elsewhere".into();
    at.refuses("request.submitted", other, "not the project's");
    let mut lost = request("q2", &["da"]);
    lost["project"] = "none".into();
    at.refuses("request.submitted", lost, "no such project");
    at.refuses("project.created", json!({"project": "p", "title": "P", "recipient": "r"}), "exists");
}

#[test]
fn every_committee_decides_once_and_only_about_its_own() {
    let mut at = world();
    at.refuses("request.decided", decision("c", "approved", None), "does not touch");
    at.refuses("request.decided", decision("a", "revoked", None), "only an approval");
    at.refuses("request.decided", decision("a", "perhaps", None), "no such decision");
    at.say("request.decided", decision("a", "approved", None)).expect("decided");
    at.refuses("request.decided", decision("a", "refused", None), "has decided");
    assert_eq!(status(&at), "pending");
    at.say("request.decided", decision("b", "approved", None)).expect("decided");
    assert_eq!(status(&at), "approved");
    at.say("request.decided", decision("a", "revoked", None)).expect("revoked");
    assert_eq!(status(&at), "revoked");
    at.refuses("request.decided", decision("a", "approved", None), "has decided");
}

#[test]
fn a_delegate_decides_and_does_not_delegate_again() {
    let mut at = world();
    at.refuses("request.decided", decision("a", "delegated", None), "names another");
    at.refuses("request.decided", decision("a", "delegated", Some("a")), "names another");
    at.refuses("request.decided", decision("a", "delegated", Some("x")), "not registered");
    at.say("request.decided", decision("a", "delegated", Some("c"))).expect("delegated");
    at.refuses("request.decided", decision("c", "delegated", Some("b")), "again");
    at.refuses("request.decided", decision("b", "delegated", Some("a")), "again");
    at.say("request.decided", decision("b", "approved", None)).expect("decided");
    assert_eq!(status(&at), "pending");
    at.say("request.decided", decision("c", "approved", None)).expect("the delegate decides");
    assert_eq!(status(&at), "approved");
    at.say("request.decided", decision("a", "revoked", None)).expect("who delegated can take it back");
    assert_eq!(status(&at), "revoked");
}

#[test]
fn a_release_needs_approval_terms_and_a_permit() {
    let mut at = world();
    let release = |at: &Records| {
        json!({"release": "l", "request": "q", "project": "p", "recipient": "r", "datasets": {"da": 1},
            "manifest": digest(), "members_root": digest(), "persons": 1, "tables": {}, "k": [11, 11], "as_of": at.seq})
    };
    let terms = |who: &str| json!({"request": "q", "recipient": who, "signatory": "s", "document": digest()});
    at.refuses("terms.signed", terms("elsewhere"), "not the request's");
    let early = release(&at);
    at.refuses("release.built", early.clone(), "not signed");
    at.say("terms.signed", terms("r")).expect("signed");
    at.refuses("terms.signed", terms("r"), "signed before");
    at.refuses("release.built", early, "no permit");
    let permit = |effect: &str, as_of: u64| json!({"request": "q", "effect": effect, "reasons": [], "policies": {}, "as_of": as_of});
    at.refuses("permit.decided", permit("permit", 99), "not there yet");
    at.say("permit.decided", permit("permit", 1)).expect("decided");
    let unapproved = release(&at);
    at.refuses("release.built", unapproved, "not approved");
    at.say("request.decided", decision("a", "approved", None)).expect("decided");
    at.say("request.decided", decision("b", "approved", None)).expect("decided");
    let mut stranger = release(&at);
    stranger["datasets"] = json!({"dc": 1});
    at.refuses("release.built", stranger, "does not name dataset dc");
    let right = release(&at);
    at.say("release.built", right.clone()).expect("built");
    at.refuses("release.built", right, "was built");
    let opened = json!({"download": "d", "release": "l", "as_of": 1});
    let closed = json!({"download": "d", "release": "l", "bytes_sent": 7});
    at.refuses("download.closed", closed.clone(), "no such download");
    at.say("download.opened", opened.clone()).expect("opened");
    at.refuses("download.opened", opened, "was opened");
    at.say("download.closed", closed.clone()).expect("closed");
    at.refuses("download.closed", closed, "closed before");
}

#[test]
fn a_consent_is_one_persons_and_lifts_only_their_own_withdrawals() {
    let mut at = world();
    let consent = |lifts: Option<u64>, signed: &str| {
        json!({"contributor": "a", "lifts": lifts, "directive": {"source": "form", "lineage": "form:x",
            "signed": {"date": signed}, "rules": {"effect": "permit"}}})
    };
    at.refuses("consent.recorded", consent(None, "2001-01-01"), "no person");
    at.refuses(
        "consent.withdrawn",
        json!({"contributor": null, "mode": "recall", "evidence": null}),
        "no person",
    );
    let withdrawal = |mode: &str| json!({"contributor": "a", "mode": mode, "evidence": null});
    at.say_of(Some(1), "consent.withdrawn", withdrawal("forever")).expect_err("no such mode");
    let seq = at.seq;
    at.say_of(Some(1), "consent.withdrawn", withdrawal("no_further_use")).expect("withdrawn");
    let before = at.all.clone();
    at.say_of(Some(1), "consent.recorded", consent(Some(seq), "2001-09-15"))
        .expect("it does not stop the log");
    assert_eq!(at.all, before, "signed in the future, it says nothing");
    at.days = 10;
    let others = at.say_of(Some(2), "consent.recorded", consent(Some(seq), "2001-09-15"));
    let before = at.say_of(Some(1), "consent.recorded", consent(Some(seq), "2001-09-08"));
    assert_eq!(others, before, "whose withdrawal an entry is, is not told");
    others.expect_err("another person's");
    at.say_of(Some(1), "consent.recorded", consent(Some(seq), "2001-09-15")).expect("signed after");
    at.say_of(Some(2), "consent.recorded", consent(None, "2001-01-01")).expect("recorded");
    let shapes = View::scan(&at, "shape", "", None, 9);
    assert_eq!(shapes.len(), 1, "people share shapes");
    let mut deep = consent(None, "2001-01-01");
    for _ in 0..9 {
        let rules = deep["directive"]["rules"].take();
        deep["directive"]["rules"] = json!({"effect": "permit", "provisions": [rules]});
    }
    at.say_of(Some(2), "consent.recorded", deep).expect_err("too deep");
}
