//! `/v1`

mod contributors;
mod erasures;
mod ingests;
mod invitations;
mod ledger;
mod ledger_events;
mod me;
mod problems;
mod processing_activities;
mod push;
mod requests;
mod server;
mod tokens;
mod uploads;
mod uses;
mod witnesses;
