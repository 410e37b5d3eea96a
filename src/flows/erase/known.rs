//! Who is not to come back, beside the data folder: an older copy of the folder does not know it.
//!
//! One JSON object a line, in a file that only its owner reads: the tokens that the registry refuses, by erasure. A token is a
//! keyed hash, and says nothing without the root key. The file lies where the last checkpoint lies, and is not put back with an
//! older copy of the folder. A crash leaves the file as it was, or with the new line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use almoner_model::ContributorId;
use serde::{Deserialize, Serialize};

use crate::flows::access::AccessError;
use crate::flows::question::DataError;
use crate::registry::Refused;

/// One erasure; without an id, what the registry refused when the file lacked it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub erasure: String,
    /// The hospital whose part was erased; none where everything was.
    pub part: Option<ContributorId>,
    /// Whose bearers do not come back.
    pub refused: Vec<Refused>,
}

impl Known {
    /// Whether it is not known whose part was erased.
    pub fn is_of_some_part(&self) -> bool {
        self.erasure.is_empty()
    }
}

pub(super) fn failed(error: &io::Error) -> DataError {
    AccessError::Failed(format!(
        "the list of erasures beside the data folder cannot be read or written ({})",
        error.kind()
    ))
    .into()
}

/// What is known; nothing where there is no file.
///
/// # Errors
/// If the file cannot be read, or is not one.
pub fn read(path: &Path) -> io::Result<Vec<Known>> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|_| io::ErrorKind::InvalidData.into()))
        .collect()
}

/// Adds what is known of an erasure; durable on return. What is there already is not added again.
///
/// # Errors
/// If the file cannot be read or written; it is then as it was.
pub fn add(path: &Path, known: &Known) -> io::Result<()> {
    let mut all = read(path)?;
    if known.refused.is_empty() || all.contains(known) {
        return Ok(());
    }
    all.push(known.clone());
    let mut text = String::new();
    for known in &all {
        text += &serde_json::to_string(known).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        text.push('\n');
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
