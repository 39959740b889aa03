//! The tests of the SQLite projections and of the SQLite ledger: the conformance suites over files, and what only files
//! can show.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed claim

mod built;
mod conformance;
mod files;
mod ledger;
mod search;
