//! The control plane of an exchange: what is said in the ledger ([`events`]), what that makes true ([`state`]), what the rules
//! make of it ([`policy`], [`judge`]), and the same decided again by somebody else ([`replay`]).
//!
//! A crate of its own so that an auditor decides by the very code that decided, without the data engine, the web server or a
//! database. The root package re-exports the modules under their names. Everything is a function of what it is given: no
//! clock, no randomness, no files; only the program `almoner-verify-replay` reads files.

pub mod events;
pub mod judge;
pub mod policy;
pub mod replay;
pub mod state;

use almoner_model::consent;
