//! `/v1`

mod contributors;
mod ingests;
mod invitations;
mod ledger;
mod me;
mod problems;
mod processing_activities;
mod push;
mod requests;
mod server;
mod tokens;
mod uploads;
mod uses;
