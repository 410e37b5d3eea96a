//! One folder per noun, one file per operation.

pub mod consents;
pub mod contributors;
pub mod counts;
pub mod datasets;
pub mod downloads;
pub mod erasures;
pub mod health;
pub mod ingests;
pub mod invitations;
pub mod jobs;
pub mod ledger;
pub mod legal_bases;
pub mod me;
pub mod processing_activities;
pub mod projects;
pub mod releases;
pub mod requests;
pub mod tokens;
pub mod uploads;
pub mod uses;
pub mod vocabularies;
pub mod withdrawals;
