//! `/v1`

mod contributors;
mod erasures;
mod ingests;
mod invitations;
mod ledger;
mod problems;
mod push;
mod requests;
mod server;
mod tokens;
mod uploads;
mod witnesses;
