//! Consents, withdrawals and invitations.

use almoner_model::SubjectId;

use super::{Step, Writes};
use crate::consent::directive::lifts;
use crate::consent::{Directive, DirectiveState, Source, WithdrawalMode, WithdrawalState};
use crate::events;
use crate::state::records::{DirectiveRecord, Invitation, Shape, SubjectRecord, lineage_key, subject_key};
use crate::state::{Rejection, Write, read};

/// A tree of provisions deeper than this is not a person's choice.
const DEPTH_MAX: usize = 8;

impl Step<'_> {
    fn subject(&self) -> Result<SubjectId, Rejection> {
        match self.entry.subject {
            Some(subject) => Ok(subject),
            None => self.reject("it concerns no person"),
        }
    }

    /// The writes for one person, and the note by which readers that keep an index find who changed.
    fn subject_changed(&self, subject: SubjectId, record: &SubjectRecord) -> Result<Vec<Write>, Rejection> {
        Ok(vec![
            self.write("subject-directives", subject_key(subject), record)?,
            self.write("consent-change", self.seq_key(), &subject)?,
        ])
    }

    pub(super) fn consent_recorded(&self, e: &events::ConsentRecorded) -> Writes {
        let subject = self.subject()?;
        self.known_contributor(&e.contributor)?;
        let Ok(directive) = serde_json::from_value::<Directive>(e.directive.clone()) else {
            return self.reject("the directive is not one");
        };
        if directive.rules.depth() > DEPTH_MAX {
            return self.reject("the directive nests too deeply");
        }
        // Refused where consents come in. An entry that stands in a log nevertheless says nothing.
        if directive.signed.is_after(self.entry.time) {
            return Ok(Vec::new());
        }
        let mut record = read::subject(&self.view, subject)?.unwrap_or_default();
        let shape = directive.shape();
        let row = DirectiveRecord {
            seq: self.entry.seq,
            contributor: e.contributor.clone(),
            source: directive.source,
            lineage: directive.lineage.clone(),
            signed: directive.signed,
            shape,
            lifts: e.lifts,
        };
        if let Some(named) = e.lifts {
            let act = DirectiveState {
                seq: row.seq,
                contributor: row.contributor.clone(),
                directive: directive.clone().into(),
                lifts: e.lifts,
            };
            // One answer for both: whose withdrawal an entry is, is not told.
            if !record.withdrawals.iter().any(|w| w.seq == named && lifts(&act, w)) {
                return self.reject(
                    "it does not lift the withdrawal that it names: it must be this person's, limited to this hospital \
                     unless the person lifts it, and older than the signature",
                );
            }
        }
        record.directives.push(row);
        let mut writes = self.subject_changed(subject, &record)?;
        if directive.source == Source::Fhir {
            let key = lineage_key(&e.contributor, &directive.lineage, subject);
            writes.push(self.write("consent-lineage", key, &subject)?);
        }
        if read::shape(&self.view, &shape)?.is_none() {
            let body = Shape { status: directive.status, covers: directive.covers, rules: directive.rules };
            writes.push(self.write("shape", shape.to_string(), &body)?);
        }
        Ok(writes)
    }

    pub(super) fn consent_withdrawn(&self, e: &events::ConsentWithdrawn) -> Writes {
        let subject = self.subject()?;
        if let Some(contributor) = &e.contributor {
            self.known_contributor(contributor)?;
        }
        let Some(mode) = WithdrawalMode::parse(&e.mode) else {
            return self.reject("there is no such mode of withdrawal");
        };
        let mut record = read::subject(&self.view, subject)?.unwrap_or_default();
        record.withdrawals.push(WithdrawalState {
            seq: self.entry.seq,
            time: self.entry.time,
            contributor: e.contributor.clone(),
            mode,
        });
        self.subject_changed(subject, &record)
    }

    pub(super) fn invitation_issued(&self, e: events::InvitationIssued) -> Writes {
        let subject = self.subject()?;
        self.known_contributor(&e.contributor)?;
        if read::invitation(&self.view, &e.invitation)?.is_some() {
            return self.reject("an invitation with this id was issued before");
        }
        let key = e.invitation.clone();
        let record = Invitation { issued: self.logged(e), subject, redeemed: None, revoked: None };
        self.put("invitation", key, &record)
    }

    fn invitation(&self, id: &str) -> Result<Invitation, Rejection> {
        let subject = self.subject()?;
        match read::invitation(&self.view, id)? {
            Some(found) if found.subject == subject => Ok(found),
            _ => self.reject("there is no such invitation"),
        }
    }

    pub(super) fn invitation_redeemed(&self, e: events::InvitationRedeemed) -> Writes {
        let mut invitation = self.invitation(&e.invitation)?;
        if invitation.redeemed.is_some() || invitation.revoked.is_some() {
            return self.reject("the invitation was redeemed or ended before");
        }
        if self.entry.time >= invitation.issued.body.expires {
            return self.reject("the invitation has expired");
        }
        let key = e.invitation.clone();
        invitation.redeemed = Some(self.logged(e));
        self.put("invitation", key, &invitation)
    }

    pub(super) fn invitation_revoked(&self, e: &events::InvitationRevoked) -> Writes {
        let mut invitation = self.invitation(&e.invitation)?;
        if invitation.revoked.is_some() {
            return self.reject("the invitation was ended before");
        }
        invitation.revoked = Some(self.origin());
        self.put("invitation", e.invitation.clone(), &invitation)
    }
}
