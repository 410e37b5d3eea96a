//! The fold itself: which records an entry writes, and which entries cannot be.

mod consent;
mod data;
mod erased;
mod request;

use almoner_model::ContributorId;
use serde::Serialize;

use super::records::{LogKeys, Logged, Origin, Token, seq_key};
use super::{ProjectedEntry, Projector, ReadError, Rejection, View, Write, read};
use crate::events::{self, Event};

/// The fold over every kind of entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Projections;

impl Projector for Projections {
    fn project(&self, entry: &ProjectedEntry<'_>, view: &dyn View) -> Result<Vec<Write>, Rejection> {
        let event = Event::read(entry.kind, entry.payload.clone())
            .map_err(|_| Rejection(format!("{}: the payload is not one of this kind", entry.kind)))?;
        let step = Step { entry, view };
        match event {
            Event::ContributorRegistered(e) => step.contributor_registered(e),
            Event::ContributorChanged(e) => step.contributor_changed(e),
            Event::ContractPublished(e) => step.contract_published(e),
            Event::DatasetPublished(e) => step.dataset_published(e),
            Event::VocabularyLoaded(e) => step.put("vocabulary", e.vocabulary.to_string(), &step.logged(e)),
            Event::ConsentRecorded(e) => step.consent_recorded(&e),
            Event::ConsentWithdrawn(e) => step.consent_withdrawn(&e),
            Event::InvitationIssued(e) => step.invitation_issued(e),
            Event::InvitationRedeemed(e) => step.invitation_redeemed(e),
            Event::InvitationRevoked(e) => step.invitation_revoked(&e),
            Event::LegalBasisRecorded(e) => step.legal_basis_recorded(e),
            Event::LegalBasisEnded(e) => step.legal_basis_ended(e),
            Event::ProjectCreated(e) => step.project_created(e),
            Event::RequestSubmitted(e) => step.request_submitted(e),
            Event::RequestDecided(e) => step.request_decided(e),
            Event::TermsSigned(e) => step.terms_signed(e),
            Event::PermitDecided(e) => step.permit_decided(e),
            Event::CountAnswered(e) => step.count_answered(e),
            Event::ReleaseBuilt(e) => step.release_built(e),
            Event::ReleaseRefused(e) => step.release_refused(e),
            Event::DownloadOpened(e) => step.download_opened(e),
            Event::DownloadClosed(e) => step.download_closed(&e),
            Event::SubjectErased(e) => step.subject_erased(e),
            Event::DatasetRewritten(e) => step.dataset_rewritten(e),
            Event::ReleaseRewritten(e) => step.release_rewritten(e),
            Event::KeyRotated(e) => step.key_rotated(e),
            Event::TokenIssued(e) => step.token_issued(e),
            Event::TokenRevoked(e) => step.token_revoked(&e),
        }
    }
}

/// One entry on its way into the state.
struct Step<'a> {
    entry: &'a ProjectedEntry<'a>,
    view: &'a dyn View,
}

type Writes = Result<Vec<Write>, Rejection>;

impl From<ReadError> for Rejection {
    fn from(e: ReadError) -> Self {
        Self(e.to_string())
    }
}

impl Step<'_> {
    fn origin(&self) -> Origin {
        Origin { seq: self.entry.seq, time: self.entry.time }
    }

    fn logged<T>(&self, body: T) -> Logged<T> {
        Logged { body, origin: self.origin() }
    }

    fn reject<T>(&self, reason: &str) -> Result<T, Rejection> {
        Err(Rejection(format!("{}: {reason}", self.entry.kind)))
    }

    fn put(&self, kind: &'static str, key: String, record: &impl Serialize) -> Writes {
        Ok(vec![self.write(kind, key, record)?])
    }

    fn write(&self, kind: &'static str, key: String, record: &impl Serialize) -> Result<Write, Rejection> {
        let value = serde_json::to_value(record)
            .map_err(|_| Rejection(format!("{}: the record is not JSON", self.entry.kind)))?;
        Ok(Write { kind: kind.to_owned(), key, value: Some(value) })
    }

    fn known_contributor(&self, id: &ContributorId) -> Result<(), Rejection> {
        match read::contributor(&self.view, id)? {
            Some(_) => Ok(()),
            None => self.reject("the contributor is not registered"),
        }
    }

    fn seq_key(&self) -> String {
        seq_key(self.entry.seq)
    }

    fn key_rotated(&self, e: events::KeyRotated) -> Writes {
        let mut keys = read::log_keys(&self.view, LogKeys::KEY)?.unwrap_or_default();
        let last = keys.rotations.last().map(|r| &r.body);
        if e.epoch != last.map_or(0, |r| r.epoch) + 1 || last.is_some_and(|r| r.new != e.old) {
            return self.reject("it does not follow the key that signs now");
        }
        if e.new == e.old {
            return self.reject("it names no other key");
        }
        keys.rotations.push(self.logged(e));
        self.put(LogKeys::KIND, LogKeys::KEY.to_owned(), &keys)
    }

    fn token_issued(&self, e: events::TokenIssued) -> Writes {
        if read::token(&self.view, &e.token)?.is_some() {
            return self.reject("a token with this id was issued before");
        }
        let key = e.token.clone();
        self.put("token", key, &Token { issued: self.logged(e), revoked: None })
    }

    fn token_revoked(&self, e: &events::TokenRevoked) -> Writes {
        let Some(mut token) = read::token(&self.view, &e.token)? else {
            return self.reject("there is no such token");
        };
        if token.revoked.is_some() {
            return self.reject("the token was ended before");
        }
        token.revoked = Some(self.origin());
        self.put("token", e.token.clone(), &token)
    }
}
