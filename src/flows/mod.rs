//! The verbs: what people do with Almoner, one file each. The only place where stages and stores meet.
//!
//! Every flow logs before it reveals, states what it read (`as_of`) as a precondition of what it appends, and can be
//! repeated: an append is known again by its event id.

pub mod access;
pub mod act;
pub mod backup;
pub mod checkpoint;
pub mod consent;
pub mod contributor;
pub mod cosign;
pub mod count;
pub mod decide;
pub mod download;
pub mod durable;
pub mod erase;
pub mod evidence;
pub mod handover;
pub mod ingest;
pub mod inspect;
pub mod invitation;
mod meanwhile;
pub mod mirror;
pub mod opened;
pub mod participant;
pub mod permitted;
pub mod question;
pub mod recall;
pub mod release;
pub mod request;
pub mod tokens;
pub mod uploads;
pub mod uses;
pub mod verify;
pub mod vocabulary;
pub mod withdraw;
pub mod witness;

pub use access::{AccessContext, AccessError, Documents, People, PeopleError};
pub use act::Act;
pub use permitted::{ConsentIndex, PermittedIn, PermittedSubjects, permitted_subjects};
pub use question::{DataContext, DataError};

#[cfg(test)]
mod data_tests;
