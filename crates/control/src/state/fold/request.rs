//! Projects, requests and what is said about them.

use std::collections::BTreeMap;

use super::{Step, Writes};
use crate::events;
use crate::state::read;
use crate::state::records::Request;

impl Step<'_> {
    pub(super) fn project_created(&self, e: events::ProjectCreated) -> Writes {
        if read::project(&self.view, &e.project)?.is_some() {
            return self.reject("a project with this id exists");
        }
        self.put("project", e.project.to_string(), &self.logged(e))
    }

    pub(super) fn request_submitted(&self, e: events::RequestSubmitted) -> Writes {
        if read::request(&self.view, &e.request)?.is_some() {
            return self.reject("a request with this id was submitted");
        }
        let Some(project) = read::project(&self.view, &e.project)? else {
            return self.reject("there is no such project");
        };
        if project.body.recipient != e.recipient {
            return self.reject("the recipient is not the project's");
        }
        let mut contributors = Vec::new();
        for (n, id) in e.datasets.iter().enumerate() {
            if e.datasets[..n].contains(id) {
                return self.reject("a dataset is named twice");
            }
            let Some(dataset) = read::dataset(&self.view, id)? else {
                return self.reject(&format!("there is no dataset {id}"));
            };
            if !contributors.contains(&dataset.contributor) {
                contributors.push(dataset.contributor);
            }
        }
        if contributors.is_empty() {
            return self.reject("it names no dataset");
        }
        let record =
            Request { contributors, decisions: BTreeMap::new(), terms: None, submitted: self.logged(e) };
        self.put("request", record.submitted.body.request.to_string(), &record)
    }

    pub(super) fn request_decided(&self, e: events::RequestDecided) -> Writes {
        let Some(mut request) = read::request(&self.view, &e.request)? else {
            return self.reject("there is no such request");
        };
        let delegates = |to: &_| {
            request.decisions.values().filter_map(|w| w.last()).any(|d| d.body.delegate.as_ref() == Some(to))
        };
        if !request.contributors.contains(&e.contributor) && !delegates(&e.contributor) {
            return self.reject("the request does not touch this contributor's data");
        }
        let before = request.last_word(&e.contributor).map(|d| d.body.decision.as_str());
        match (e.decision.as_str(), before) {
            ("revoked", Some("approved" | "delegated")) => {}
            ("revoked", _) => return self.reject("only an approval or a delegation can be revoked"),
            (_, Some(_)) => return self.reject("this committee has decided"),
            ("delegated", None) => self.check_delegation(&request, &e, delegates(&e.contributor))?,
            ("approved" | "refused", None) if e.delegate.is_none() => {}
            _ => return self.reject("there is no such decision"),
        }
        let logged = self.logged(e);
        request.decisions.entry(logged.body.contributor.clone()).or_default().push(logged);
        self.put("request", request.submitted.body.request.to_string(), &request)
    }

    /// One step only: to a registered contributor that has not itself delegated, by one to whom nobody did.
    fn check_delegation(
        &self,
        request: &Request,
        e: &events::RequestDecided,
        is_delegate: bool,
    ) -> Result<(), crate::state::Rejection> {
        let Some(to) = e.delegate.as_ref().filter(|to| **to != e.contributor) else {
            return self.reject("a delegation names another contributor");
        };
        self.known_contributor(to)?;
        let delegated = request.last_word(to).is_some_and(|d| d.body.decision == "delegated");
        if delegated || is_delegate {
            return self.reject("what is delegated is not delegated again");
        }
        Ok(())
    }

    pub(super) fn terms_signed(&self, e: events::TermsSigned) -> Writes {
        let Some(mut request) = read::request(&self.view, &e.request)? else {
            return self.reject("there is no such request");
        };
        if request.submitted.body.recipient != e.recipient {
            return self.reject("the recipient is not the request's");
        }
        if request.terms.is_some() {
            return self.reject("the terms were signed before");
        }
        request.terms = Some(self.logged(e));
        self.put("request", request.submitted.body.request.to_string(), &request)
    }

    pub(super) fn permit_decided(&self, e: events::PermitDecided) -> Writes {
        if read::request(&self.view, &e.request)?.is_none() {
            return self.reject("there is no such request");
        }
        if !matches!(e.effect.as_str(), "permit" | "deny") {
            return self.reject("there is no such effect");
        }
        self.not_before_its_decision(e.as_of)?;
        self.put("permit", e.request.to_string(), &self.logged(e))
    }
}
