//! Contributors, their rules and datasets, and what was counted, released and downloaded.

use std::collections::BTreeMap;

use super::{Step, Writes};
use crate::events;
use crate::state::read;
use crate::state::records::{Dataset, Download};

impl Step<'_> {
    pub(super) fn contributor_registered(&self, e: events::ContributorRegistered) -> Writes {
        if read::contributor(&self.view, &e.contributor)?.is_some() {
            return self.reject("a contributor with this id is registered");
        }
        self.put("contributor", e.contributor.to_string(), &self.logged(e))
    }

    pub(super) fn contributor_changed(&self, e: events::ContributorChanged) -> Writes {
        let Some(mut known) = read::contributor(&self.view, &e.contributor)? else {
            return self.reject("the contributor is not registered");
        };
        let last = read::contributor_change(&self.view, &e.contributor)?;
        if last.map_or(known.origin.seq, |change| change.origin.seq) != e.after {
            return self.reject("the contributor was changed meanwhile");
        }
        known.body.name.clone_from(&e.name);
        (known.body.linkage, known.body.k_min) = (e.linkage, e.k_min);
        let key = e.contributor.to_string();
        Ok(vec![
            self.write("contributor", key.clone(), &known)?,
            self.write("contributor-change", key, &self.logged(e))?,
        ])
    }

    pub(super) fn contract_published(&self, e: events::ContractPublished) -> Writes {
        self.known_contributor(&e.contributor)?;
        self.put("contract", e.contributor.to_string(), &self.logged(e))
    }

    pub(super) fn dataset_published(&self, e: events::DatasetPublished) -> Writes {
        self.known_contributor(&e.contributor)?;
        let mut dataset = read::dataset(&self.view, &e.dataset)?.unwrap_or_else(|| Dataset {
            dataset: e.dataset.clone(),
            contributor: e.contributor.clone(),
            versions: Vec::new(),
            rewritten: BTreeMap::new(),
        });
        if dataset.contributor != e.contributor {
            return self.reject("the dataset belongs to another contributor");
        }
        if e.version as usize != dataset.versions.len() + 1 {
            return self.reject("it is not the version after the last one");
        }
        dataset.versions.push(self.logged(e));
        self.put("dataset", dataset.dataset.to_string(), &dataset)
    }

    pub(super) fn legal_basis_recorded(&self, e: events::LegalBasisRecorded) -> Writes {
        self.known_contributor(&e.contributor)?;
        if read::legal_basis(&self.view, &e.id)?.is_some() {
            return self.reject("a legal basis with this id is recorded");
        }
        match e.kind.as_str() {
            "safe_harbor_attestation" if !e.no_actual_knowledge => {
                self.reject("an attestation says that there is no actual knowledge")
            }
            "safe_harbor_attestation" | "expert_determination" | "data_use_agreement" => {
                self.put("legal-basis", e.id.clone(), &self.logged(e))
            }
            _ => self.reject("there is no such kind of legal basis"),
        }
    }

    pub(super) fn legal_basis_ended(&self, e: events::LegalBasisEnded) -> Writes {
        if read::legal_basis(&self.view, &e.id)?.is_none() {
            return self.reject("there is no such legal basis");
        }
        if read::legal_basis_end(&self.view, &e.id)?.is_some() {
            return self.reject("the legal basis was ended before");
        }
        self.put("legal-basis-end", e.id.clone(), &self.logged(e))
    }

    pub(super) fn count_answered(&self, e: events::CountAnswered) -> Writes {
        if read::project(&self.view, &e.project)?.is_none() {
            return self.reject("there is no such project");
        }
        self.not_before_its_decision(e.as_of)?;
        self.put("count", self.seq_key(), &self.logged(e))
    }

    /// A decision is made on a prefix of the log.
    pub(super) fn not_before_its_decision(&self, as_of: u64) -> Result<(), crate::state::Rejection> {
        if as_of > self.entry.seq {
            return self.reject("it was decided on entries that are not there yet");
        }
        Ok(())
    }

    pub(super) fn release_built(&self, e: events::ReleaseBuilt) -> Writes {
        if read::release(&self.view, &e.release)?.is_some() {
            return self.reject("a release with this id was built");
        }
        let Some(request) = read::request(&self.view, &e.request)? else {
            return self.reject("there is no such request");
        };
        if request.submitted.body.project != e.project || request.submitted.body.recipient != e.recipient {
            return self.reject("project and recipient are not those of the request");
        }
        if request.terms.is_none() {
            return self.reject("the recipient has not signed the terms");
        }
        let permit = read::permit(&self.view, &e.request)?;
        if permit.is_none_or(|p| p.body.effect != "permit") {
            return self.reject("there is no permit");
        }
        if request.status() != "approved" {
            return self.reject("the request is not approved");
        }
        if let Some(stranger) = e.datasets.keys().find(|d| !request.submitted.body.datasets.contains(d)) {
            return self.reject(&format!("the request does not name dataset {stranger}"));
        }
        self.not_before_its_decision(e.as_of)?;
        self.put("release", e.release.to_string(), &self.logged(e))
    }

    pub(super) fn release_refused(&self, e: events::ReleaseRefused) -> Writes {
        if read::request(&self.view, &e.request)?.is_none() {
            return self.reject("there is no such request");
        }
        self.put("release-refusal", self.seq_key(), &self.logged(e))
    }

    pub(super) fn download_opened(&self, e: events::DownloadOpened) -> Writes {
        if read::release(&self.view, &e.release)?.is_none() {
            return self.reject("there is no such release");
        }
        if read::download(&self.view, &e.download)?.is_some() {
            return self.reject("a download with this id was opened");
        }
        let key = e.download.clone();
        self.put("download", key, &Download { opened: self.logged(e), closed: None })
    }

    pub(super) fn download_closed(&self, e: &events::DownloadClosed) -> Writes {
        let Some(mut download) = read::download(&self.view, &e.download)? else {
            return self.reject("there is no such download");
        };
        if download.opened.body.release != e.release {
            return self.reject("the download is of another release");
        }
        if download.closed.is_some() {
            return self.reject("the download was closed before");
        }
        download.closed = Some((self.origin(), e.bytes_sent));
        self.put("download", e.download.clone(), &download)
    }
}
