//! The tests of the SQLite projections: the conformance suite over files, and what only files can show.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed claim

mod conformance;
mod files;
mod search;
