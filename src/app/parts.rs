//! Registry and documents as the flows of the access plane ask for them.

use std::sync::Arc;

use almoner_model::{ContributorId, Digest, Entropy, SourcePatientId, SubjectId};

use crate::blob::{BlobError, Blobs};
use crate::flows::{Documents, People};
use crate::registry::Registry;

/// The subject registry.
pub(super) struct Known {
    pub(super) registry: Arc<Registry>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl People for Known {
    fn subject_of_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<SubjectId, String> {
        let found = self.registry.subject_of_record(contributor, record_number, &*self.entropy);
        found.map_err(|e| e.to_string())
    }

    fn find_record(
        &self,
        contributor: &ContributorId,
        record_number: &SourcePatientId,
    ) -> Result<Option<SubjectId>, String> {
        self.registry.find_record(contributor, record_number).map_err(|e| e.to_string())
    }

    fn aliases(&self) -> Result<Vec<(SubjectId, SubjectId)>, String> {
        Ok(self.registry.aliases().map_err(|e| e.to_string())?.into_iter().collect())
    }
}

/// Documents.
pub(super) struct Kept(pub(super) Blobs);

impl Documents for Kept {
    fn put(&self, bytes: &[u8]) -> Result<Digest, String> {
        self.0.put_document(bytes.to_vec()).map_err(|e| e.to_string())
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, String> {
        match self.0.document(digest) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(BlobError::Absent(_)) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}
