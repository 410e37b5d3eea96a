//! Release packages, offline: whether a folder is what its manifest says, and the manifest what the log says.
//!
//! A package holds `release.json` (the manifest: format `almoner-release/1`, every other file with its SHA-256),
//! `SHA256SUMS`, the files themselves, and in `ledger/` the release's entry and its proof:
//!
//! ```text
//! ledger/entry.json         {"leaf": text, "payload": object, "opening": hex}
//! ledger/entry.tlog-proof   inclusion proof with a signed checkpoint (C2SP tlog-proof)
//! ```
//!
//! `leaf` is the exact text of the leaf; `opening` opens its payload commitment ([`crate::commitment`]); the payload names
//! the manifest by its SHA-256 and commits to the people in `members_root` ([`crate::members`]).
//!
//! What it does not do: read tables (no Parquet here; the digest stands for the bytes) or say anything about what
//! happened after a download.
