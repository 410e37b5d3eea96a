//! Invitations of patients to see and change their own choices.

pub mod issue;
