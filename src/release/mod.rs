//! Releases: what a researcher receives. `Permit + Members -> Extract -> deid (stricter) -> gate -> Package`.
//!
//! [`extract`] takes the members' rows that each source may give, `almoner_deid` applies the project's profile and a
//! further offset, `risk` gates, [`rekey`] replaces every id for this recipient, and [`package`] writes the tables, the
//! dictionary and the manifest. The same inputs give the same bytes.

pub mod build;
pub mod dictionary;
pub mod extract;
pub mod manifest;
pub mod members;
pub mod package;
mod references;
pub mod rekey;
mod restating;
pub mod rewrite;
pub mod told;

use almoner_model::{DatasetId, ReleaseId};

use crate::error::ErrorKind;

/// Why a release is not built.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file of a dataset version cannot be read as what its manifest says.
    #[error("dataset '{dataset}': table {table} cannot be read; run `almoner verify`")]
    Read {
        /// Whose.
        dataset: DatasetId,
        /// Which table.
        table: String,
    },
    /// Rows do not have the form of the canonical tables.
    #[error("rows do not have the form of the canonical tables; run `almoner verify`")]
    Tables,
    /// An id that no release can carry.
    #[error(transparent)]
    Id(#[from] rekey::OutOfRange),
    /// The data does not allow the profile.
    #[error(transparent)]
    Deid(#[from] almoner_deid::DeidError),
    /// The gate refused: measured against required, and what other class sizes would cost.
    #[error(transparent)]
    Refused(Box<crate::risk::Refused>),
    /// An earlier release that this one is to be measured with does not read as what its manifest says.
    #[error("release {0}, which this one is to be measured with, cannot be read; run `almoner verify`")]
    Earlier(ReleaseId),
    /// A file of a package is not what its manifest says.
    #[error("release {release}: {file} differs from the manifest: it was altered or is damaged")]
    Differs {
        /// Which release.
        release: ReleaseId,
        /// Which file.
        file: String,
    },
    /// A file of the package cannot be written.
    #[error("the package cannot be written ({0})")]
    Write(std::io::ErrorKind),
}

impl From<std::io::Error> for ReleaseError {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error.kind())
    }
}

impl ReleaseError {
    pub(crate) fn risk(error: crate::risk::RiskError) -> Self {
        Self::Refused(Box::new(error.into()))
    }

    /// A profile that the data does not allow is the caller's to change; the rest is our fault.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Deid(_) => ErrorKind::Invalid,
            Self::Refused(_) => ErrorKind::Refused,
            _ => ErrorKind::Fault,
        }
    }
}

#[cfg(test)]
mod tests;
