//! The HTTP interface, from outside: a real server on a temporary data folder, spoken to over TCP. The folders mirror the
//! URLs. `permissions` proves the golden matrix of `docs/permissions.md` for every role and operation.

mod house;
mod openapi;
mod pages;
mod permissions;
mod story;
mod v1;
