//! The members of a release: who is in it under which pseudonym, by which directives; and what the gate measured and did,
//! which tells of those who are not in it. Kept encrypted beside the package, never in it; the release's ledger entry commits to all of them by one root.
//!
//! The salts come from a keyed function of (release, subject), so that a release can be computed again.

use std::collections::{BTreeMap, BTreeSet};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use almoner_ledger::members::{Member, members_root_with};
use almoner_model::{Digest, Entropy, ReleaseId, Seq, SubjectId};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::ReleaseError;
use super::rekey::Rekey;
use crate::keys::{Keyring, label};
use crate::risk::GateReport;

/// Label of the salts' key.
const SALT: &str = "release-member-salt/v1";

/// The members, ascending by pseudonym.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Members {
    /// Of which release.
    pub release: ReleaseId,
    /// The list.
    pub members: Vec<Member>,
    /// Leaf hashes of members who were erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<Digest>,
    /// What the gate did, for boards: it says how many were left out however few they are.
    pub gate: Gate,
}

/// The gate's whole report.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// Its report.
    pub report: GateReport,
    /// By table, the rows of people whom it left out.
    pub rows_left_out: BTreeMap<String, u64>,
}

impl Members {
    /// From people, each as (subject, other ids of the same person, directive entries).
    ///
    /// # Errors
    /// [`ReleaseError::Id`] if an id cannot be carried.
    pub fn new(
        keys: &Keyring,
        rekey: &Rekey,
        release: &ReleaseId,
        people: impl IntoIterator<Item = (SubjectId, Vec<SubjectId>, Vec<Seq>)>,
        gate: Gate,
    ) -> Result<Self, ReleaseError> {
        let key = keys.scoped(SALT, release.as_str());
        let mut members = Vec::new();
        for (subject, also, directives) in people {
            let mut mac =
                <Hmac<Sha256> as Mac>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
            mac.update(&subject.get().to_be_bytes());
            let salt = Digest(mac.finalize().into_bytes().into());
            let pseudonym = super::package::pseudonym(rekey, subject)?;
            let member = Member {
                also: also.iter().map(ToString::to_string).collect(),
                directives,
                pseudonym: pseudonym.to_string(),
                salt,
                subject: subject.to_string(),
            };
            members.push((pseudonym, member));
        }
        members.sort_by_key(|(pseudonym, _)| *pseudonym);
        let members = members.into_iter().map(|(_, member)| member).collect();
        Ok(Self { release: release.clone(), members, erased: Vec::new(), gate })
    }

    /// The root that the ledger entry commits to.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if a ledger position is not below 2^53.
    pub fn root(&self) -> Result<Digest, ReleaseError> {
        members_root_with(&self.members, &self.erased).map_err(|_| ReleaseError::Tables)
    }

    /// Leaves out the members with any of `ids`; their leaf hashes stay. Gives their pseudonyms and the hashes.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if the list is not intact.
    pub fn erase(&mut self, ids: &BTreeSet<SubjectId>) -> Result<(BTreeSet<i64>, Vec<Digest>), ReleaseError> {
        let ids: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        let (mut pseudonyms, mut hashes, mut stay) = (BTreeSet::new(), Vec::new(), Vec::new());
        for member in std::mem::take(&mut self.members) {
            if member.also.iter().chain([&member.subject]).any(|id| ids.contains(id)) {
                pseudonyms.insert(member.pseudonym.parse().map_err(|_| ReleaseError::Tables)?);
                hashes.push(Digest(member.hash().map_err(|_| ReleaseError::Tables)?));
            } else {
                stay.push(member);
            }
        }
        self.members = stay;
        self.erased.extend(&hashes);
        Ok((pseudonyms, hashes))
    }

    /// Encrypted with AES-256-GCM under the key for lists of people; the release's id is authenticated with it.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if it cannot be written as JSON.
    pub fn seal(&self, keys: &Keyring, entropy: &dyn Entropy) -> Result<Vec<u8>, ReleaseError> {
        let plain = serde_json::to_vec(self).map_err(|_| ReleaseError::Tables)?;
        let mut nonce = [0; 12];
        entropy.fill(&mut nonce);
        let key = keys.key(label::BLOB_WRAP);
        let cipher = Aes256Gcm::new_from_slice(key.as_slice()).map_err(|_| ReleaseError::Tables)?;
        let payload = Payload { msg: &plain, aad: self.release.as_str().as_bytes() };
        let sealed = cipher.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| ReleaseError::Tables)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`Members::seal`] made for `release`.
    ///
    /// # Errors
    /// [`ReleaseError::Tables`] if it is not that.
    pub fn open(keys: &Keyring, release: &ReleaseId, sealed: &[u8]) -> Result<Self, ReleaseError> {
        let (nonce, body) = sealed.split_at_checked(12).ok_or(ReleaseError::Tables)?;
        let key = keys.key(label::BLOB_WRAP);
        let cipher = Aes256Gcm::new_from_slice(key.as_slice()).map_err(|_| ReleaseError::Tables)?;
        let payload = Payload { msg: body, aad: release.as_str().as_bytes() };
        let plain = cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| ReleaseError::Tables)?;
        serde_json::from_slice(&plain).map_err(|_| ReleaseError::Tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::risk::{GateRules, Recoding, RiskReport};
    use almoner_model::SeededEntropy;

    fn gate() -> Gate {
        let report = GateReport {
            rules: GateRules::new(5),
            quasi_identifiers: Vec::new(),
            before: RiskReport::default(),
            after: RiskReport::default(),
            recoding: Recoding::NONE,
            suppressed: 1,
            loss_ppm: 0,
            costs: Vec::new(),
            earlier: 0,
        };
        Gate { report, rows_left_out: BTreeMap::from([("measurement".to_owned(), 3)]) }
    }

    #[test]
    fn members_open_only_for_their_release_and_their_root_binds_each_part() {
        let keys = Keyring::from_root(&[3; 32]);
        let rekey = {
            let (project, recipient) = ("p".parse().expect("slug"), "r".parse().expect("slug"));
            Rekey::new(&keys, &project, &recipient, &"a".parse().expect("slug"))
        };
        let (a, b): (ReleaseId, ReleaseId) = ("a".parse().expect("slug"), "b".parse().expect("slug"));
        let people =
            |n: i64| (1..=n).map(|id| (SubjectId::new(id).expect("in range"), vec![], vec![id as u64]));
        let members = Members::new(&keys, &rekey, &a, people(5), gate()).expect("made");
        let sealed = members.seal(&keys, &SeededEntropy::new(1)).expect("sealed");
        assert_eq!(Members::open(&keys, &a, &sealed).expect("opens"), members);
        assert!(Members::open(&keys, &b, &sealed).is_err());
        assert_ne!(
            members.root().expect("root"),
            Members::new(&keys, &rekey, &b, people(5), gate()).expect("made").root().expect("root"),
            "salts"
        );
        assert_ne!(
            members.root().expect("root"),
            Members::new(&keys, &rekey, &a, people(4), gate()).expect("made").root().expect("root")
        );
        let mut other = members.clone();
        other.members[0].directives = vec![99];
        assert_ne!(members.root().expect("root"), other.root().expect("root"));
    }
}
