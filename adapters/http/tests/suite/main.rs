//! The protocol without sockets: the seam through both halves, and what neither half takes.

#![allow(clippy::unwrap_used)] // these are tests

mod conformance;
mod driver;
mod forms;
mod link;
mod queries;
